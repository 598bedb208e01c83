"""What a Stack is made of, from arguments, environment and file, in that order of precedence.

Environment variables are ``XSOCK_`` and the upper-case name of a setting;
``XSOCK_CONFIG`` names a TOML file with the same names, and a ``[sysctl]``
table. An unknown name or a malformed value is a :class:`ConfigError`: one line that
says where it stands and what would be allowed.
"""

import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from nic import ClassqSpec, FaultSpec, NicSpec

__all__ = ["Config", "ConfigError", "load"]

PREFIX: Final = "XSOCK_"
# Variables that are not settings of a Stack.
OTHERS: Final = frozenset({"CONFIG", "PATCH", "LATE", "MAIN_PID", "COMPAT_PATCH"})
LOOPBACK: Final = ("stack", "host", "both")
RESOLVER: Final = ("stack", "host")
DEFAULT_NIC: Final = "usernet"
DEFAULT_LINGER: Final = 5.0  # seconds; how long exit waits for queued data


class ConfigError(ValueError):
    """A setting is wrong; the message is one line for a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A Stack's settings, checked.

    *addr* is an address with its prefix length. *dns* are name servers. *loopback* says
    where 127.0.0.0/8 and ::1 lead (see _host.py); *resolver* who resolves
    names. *forward* are inbound ports, ``PROTOCOL:[ADDRESS:]PORT:PORT``, or ``auto``
    for every port that the program listens on. *linger* is in seconds. *mtu*
    counts IP bytes. *classq* are queues by class of service above the NIC, and its rate.
    *control* lets other processes look in.
    """

    nic: NicSpec = field(default_factory=lambda: NicSpec.parse(DEFAULT_NIC))
    addr: str | None = None
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    mtu: int | None = None
    pcap: str | None = None
    fault: FaultSpec | None = None
    classq: ClassqSpec | None = None
    loopback: str | None = None
    resolver: str = "stack"
    forward: tuple[str, ...] = ()
    linger: float = DEFAULT_LINGER
    name: str = "xsock"
    control: bool = False
    sysctl: Mapping[str, int] = field(default_factory=dict)


def _cidr(text: str) -> str:
    host = ipaddress.ip_interface(text)
    if "/" not in text:
        raise ValueError("a prefix length is needed, as in 10.0.2.15/24")
    return str(host)


def _host(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _list(each: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    return lambda text: tuple(each(piece.strip()) for piece in text.split(",") if piece.strip())


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"allowed: {', '.join(allowed)}")
        return text

    return read


def _switch(text: str) -> bool:
    if text.lower() not in ("0", "1", "on", "off", "yes", "no", "true", "false"):
        raise ValueError("allowed: on, off")
    return text.lower() in ("1", "on", "yes", "true")


def _mtu(text: str) -> int:
    number = int(text)
    if not 68 <= number <= 65535:
        raise ValueError("allowed: 68 to 65535")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 3600:
        raise ValueError("allowed: 0 to 3600 seconds")
    return number


def _forward(text: str) -> str:
    from xsock.usernet import Forward

    if text != "auto":
        Forward.parse(text)
    return text


def _pairs(text: str) -> dict[str, int]:
    out = {}
    for piece in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = piece.partition("=")
        if not equals:
            raise ValueError(f"NAME=NUMBER is wanted, not {piece!r}")
        out[name.strip()] = int(value, 0)
    return out


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "nic": NicSpec.parse, "addr": _cidr, "gateway": _host, "dns": _list(_host), "mtu": _mtu,
    "pcap": str, "fault": FaultSpec.parse, "classq": ClassqSpec.parse,
    "loopback": _one_of(*LOOPBACK), "resolver": _one_of(*RESOLVER),
    "forward": _list(_forward), "linger": _seconds,
    "name": str, "control": _switch, "sysctl": _pairs,
}  # fmt: skip
assert set(_READERS) == {item.name for item in fields(Config)}


def _read(where: str, name: str, text: str) -> Any:
    try:
        return _READERS[name](text)
    except ValueError as error:
        raise ConfigError(f"{where}: {text!r}: {error}") from None


def _text(value: Any) -> str:
    """A value of a TOML file or an argument, as the environment would have it."""
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables of dotted names, joined again."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def _from_file(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path!r}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    table = table.get("xsock", table)
    if "sysctl" in table:
        table["sysctl"] = _flat(table["sysctl"])
    return _take(f"{path}: ", table)


def _take(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    out = {}
    for name, value in given.items():
        if name not in _READERS:
            raise ConfigError(f"{where}unknown setting {name!r}; allowed: {', '.join(_READERS)}")
        if value is not None:
            out[name] = _read(f"{where}{name}", name, _text(value))
    return out


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    out = {}
    for variable, text in environ.items():
        name = variable.removeprefix(PREFIX)
        if name == variable or name in OTHERS or not text:
            continue
        if name.lower() not in _READERS:
            known = ", ".join(PREFIX + key.upper() for key in _READERS)
            raise ConfigError(f"{variable}: unknown variable; allowed: {known}")
        out[name.lower()] = _read(variable, name.lower(), text)
    return out


def load(environ: Mapping[str, str] | None = None, **given: Any) -> Config:
    """The settings that hold: *given*, else the environment's, else the file's, else defaults."""
    environ = os.environ if environ is None else environ
    path = environ.get(PREFIX + "CONFIG")
    values = _from_file(path) if path else {}
    values |= _from_environment(environ)
    values |= _take("", given)
    return _checked(Config(**values))


def _checked(config: Config) -> Config:
    kind = config.nic.kind
    if kind in ("lo", "usernet") and config.gateway and kind == "lo":
        raise ConfigError("gateway: nic lo leads nowhere; choose another nic")
    if config.forward and kind != "usernet":
        raise ConfigError(f"forward: only nic usernet forwards ports, not {config.nic}")
    if kind in ("tap", "tun", "af_packet") and config.addr is None:
        raise ConfigError(f"nic {config.nic} needs an address: --addr or XSOCK_ADDR=10.0.0.2/24")
    return config
