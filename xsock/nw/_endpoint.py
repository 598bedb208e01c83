"""Where to connect to, or to listen: a host's name, an address, a URL; each with a port.

Endpoint.host("example.com", 443)
Endpoint.address("fe80::1", 80, interface="en0")
Endpoint.parse("[::1]:80")
Endpoint.url("https://example.com/")
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import ClassVar, Final

from xsock.nw._value import Value, check_count

__all__ = ["AF_INET", "AF_INET6", "Endpoint", "EndpointKind", "EndpointLike"]

AF_INET: Final = 2
AF_INET6: Final = 10
PORT_MAX: Final = 65535
NAME_MAX: Final = 253  # octets of a name in text form, RFC 1035 2.3.4
LABEL_MAX: Final = 63
URL_PORTS: Final = {
    "http": 80, "https": 443, "ws": 80, "wss": 443, "ssh": 22, "smtp": 25, "pop": 110,
    "imap": 143, "imaps": 993, "socks": 1080,
}  # fmt: skip


class EndpointKind(Enum):
    """What an endpoint's name is."""

    HOST = "host"
    ADDRESS = "address"
    URL = "url"


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint(Value):
    """A place on the network. Make one with host(), address(), url(), parse() or of().

    *name* is a host name in its ASCII form, or a numeric address without its
    scope. *interface*, the name of one, limits where the name leads. *text* is the URL.
    """

    kind: EndpointKind
    name: str
    port: int
    interface: str | None = None
    text: str | None = None

    PORT_ANY: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_count("port", self.port, 0, PORT_MAX)
        if not isinstance(self.kind, EndpointKind):
            raise TypeError(f"kind: an EndpointKind is wanted, not {self.kind!r}")
        if self.interface is not None and not self.interface:
            raise ValueError("interface: the name of an interface is wanted, not ''")
        if self.kind is EndpointKind.ADDRESS and _address(self.name) is None:
            raise ValueError(f"name: a numeric IP address is wanted, not {self.name!r}")

    @classmethod
    def host(cls, name: str, port: int, *, interface: str | None = None) -> Endpoint:
        """A host by name; a name that is an address makes an address endpoint."""
        if not isinstance(name, str):
            raise TypeError(f"host: a string is wanted, not {name!r}")
        if _address(name) is not None:
            return cls.address(name, port, interface=interface)
        return cls(EndpointKind.HOST, _host_name(name), port, interface)

    @classmethod
    def address(cls, address: str, port: int, *, interface: str | None = None) -> Endpoint:
        """A numeric address, ``fe80::1%en0`` included; ``""`` is any address of both families."""
        found = _address(address if address else "::")
        if found is None:
            raise ValueError(f"address: a numeric IP address is wanted, not {address!r}")
        scope = found.scope_id if isinstance(found, ipaddress.IPv6Address) else None
        if scope is not None and interface not in (None, scope):
            raise ValueError(f"address: {address!r} is not on interface {interface!r}")
        name = str(found).partition("%")[0]
        return cls(EndpointKind.ADDRESS, name, port, interface or scope)

    @classmethod
    def url(cls, text: str, *, interface: str | None = None) -> Endpoint:
        """The host and port of a URL, which is kept in *text*."""
        parts = urllib.parse.urlsplit(text)
        if not parts.hostname:
            raise ValueError(f"url: {text!r} names no host")
        port = parts.port if parts.port is not None else URL_PORTS.get(parts.scheme)
        if port is None:
            raise ValueError(f"url: {text!r} has no port, and {parts.scheme!r} no known one")
        host = cls.host(parts.hostname, port, interface=interface)
        return cls(EndpointKind.URL, host.name, port, host.interface, text)

    @classmethod
    def parse(cls, text: str, port: int | None = None) -> Endpoint:
        """``host:port``, ``1.2.3.4:port``, ``[v6]:port``, or a URL. *port* is for text without."""
        if "://" in text:
            return cls.url(text)
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"endpoint: HOST:PORT or [V6]:PORT is wanted, not {text!r}")
            given = rest[1:]
        elif text.count(":") > 1:
            host, given = text, ""  # an IPv6 address without brackets has no port
        else:
            host, _, given = text.partition(":")
        if given:
            if not (given.isascii() and given.isdigit()):
                raise ValueError(f"endpoint: a port number is wanted in {text!r}")
            port = int(given)
        if port is None:
            raise ValueError(f"endpoint: {text!r} has no port")
        return cls.host(host, port)

    @classmethod
    def of(cls, value: EndpointLike) -> Endpoint:
        """An Endpoint as it is, ``(host, port)``, or text for parse()."""
        if isinstance(value, Endpoint):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if isinstance(value, tuple) and len(value) >= 2:
            return cls.host(str(value[0]), value[1]) if value[0] else cls.address("", value[1])
        raise TypeError(f"endpoint: an Endpoint, (host, port) or text is wanted, not {value!r}")

    @property
    def is_numeric(self) -> bool:
        """Nothing has to be resolved."""
        return self.kind is EndpointKind.ADDRESS or _address(self.name) is not None

    @property
    def family(self) -> int | None:
        """AF_INET or AF_INET6 of an address; None of a name."""
        found = _address(self.name)
        return None if found is None else AF_INET if found.version == 4 else AF_INET6

    @property
    def sockaddr(self) -> tuple[str, int]:
        """(host, port), as sockets of both families take it; the scope goes with the host."""
        found = _address(self.name)
        link_local = found is not None and found.version == 6 and found.is_link_local
        scope = f"%{self.interface}" if self.interface and link_local else ""
        return self.name + scope, self.port

    def with_port(self, port: int) -> Endpoint:
        """The same place, another port."""
        return self.replace(port=port)

    def __str__(self) -> str:
        host = self.sockaddr[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def __repr__(self) -> str:
        if self.kind is EndpointKind.URL:
            known = Endpoint.url(self.text or "")
            call, arguments = "url", repr(self.text)
            if known.port != self.port or known.name != self.name:
                return Value.__repr__(self)
            scope = self.interface if known.interface != self.interface else None
        else:
            call, arguments, scope = self.kind.value, f"{self.name!r}, {self.port}", self.interface
        more = f", interface={scope!r}" if scope else ""
        return f"Endpoint.{call}({arguments}{more})"


EndpointLike = Endpoint | tuple[str, int] | str


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _host_name(name: str) -> str:
    """*name* in ASCII; ValueError if no host can be called that."""
    try:
        ascii_name = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError(f"host: {name!r} is no host name") from None
    labels = ascii_name.removesuffix(".").split(".")
    if len(ascii_name.removesuffix(".")) > NAME_MAX or not all(
        0 < len(label) <= LABEL_MAX and label.isprintable() and not set(label) & set(" /:[]@%")
        for label in labels
    ):
        raise ValueError(f"host: {name!r} is no host name")
    return ascii_name
