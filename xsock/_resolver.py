"""Names to addresses and back: literals, the hosts file, then DNS over the stack.

Literals, services and flags are left to the C library, which touches no
network for them. Names go to the hosts file and, by policy, to DNS over the
stack's own sockets (``stack``) or to the host's resolver (``host``). Failures are
gaierror with the C library's codes and words.
"""

import _socket
import os
from collections.abc import Callable
from typing import Any, Final, NoReturn

from xsock import _dns
from xsock._addr import host_bytes

__all__ = [
    "Resolver", "getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex",
    "getnameinfo", "lookup_one",
]  # fmt: skip

AF_UNSPEC: Final = 0
AF_INET: Final = 2
AF_INET6: Final = 10
FAMILIES: Final = (AF_UNSPEC, AF_INET, AF_INET6)
HOSTS: Final = "/etc/hosts"
REASONS: Final = {
    _socket.EAI_NONAME: "Name or service not known",
    _socket.EAI_AGAIN: "Temporary failure in name resolution",
    _socket.EAI_FAIL: "Non-recoverable failure in name resolution",
    _socket.EAI_NODATA: "No address associated with hostname",
    _socket.EAI_FAMILY: "ai_family not supported",
    _socket.EAI_SYSTEM: "System error",
}
LOCALHOST: Final = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
# The host's own functions, bound before anything can be patched.
_c_getaddrinfo: Final = _socket.getaddrinfo
_c_getnameinfo: Final = _socket.getnameinfo
_c_gethostbyaddr: Final = _socket.gethostbyaddr
HostOf = Callable[[], Any]  # answers the Host; calling it may start the stack


def _fail(code: int) -> NoReturn:
    raise _socket.gaierror(code, REASONS[code])


class Resolver:
    """A stack's way of finding names: *policy* is ``stack`` or ``host``, *servers* addresses."""

    def __init__(
        self,
        policy: str,
        servers: tuple[str, ...] = (),
        usable: Callable[[], bool] | None = None,
    ) -> None:
        self.policy = policy
        self.dns = _dns.Client(servers, usable)
        self._hosts: tuple[int, dict[str, list[str]], dict[str, list[str]]] | None = None

    def hosts(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The hosts file both ways: addresses by name, names by address. Read when it changes."""
        try:
            stamp = os.stat(HOSTS).st_mtime_ns
        except OSError:
            return {}, {}
        if self._hosts is None or self._hosts[0] != stamp:
            self._hosts = (stamp, *_read_hosts(HOSTS))
        return self._hosts[1], self._hosts[2]

    def addresses(self, host: Any, name: str, families: tuple[int, ...]) -> list[str]:
        """The addresses of *name*, of these families; gaierror if there are none."""
        lower = name.rstrip(".").lower()
        known = [a for a in self.hosts()[0].get(lower, ()) if _family(a) in families]
        if known:
            return known
        if lower == "localhost" or lower.endswith(".localhost"):
            return [LOCALHOST[family] for family in families]
        found, code = self.dns.addresses(host, name, families)
        if not found:
            _fail(code)
        return found

    def names(self, host: Any, address: str) -> list[str]:
        """The names of a numeric address, canonical first; empty if it has none."""
        known = self.hosts()[1].get(_canonical(address))
        return list(known) if known else self.dns.names(host, address)


def _family(address: str) -> int:
    return AF_INET6 if ":" in address else AF_INET


def _canonical(address: str) -> str:
    family = _family(address)
    try:
        return _socket.inet_ntop(family, _socket.inet_pton(family, address))
    except OSError:
        return address


def _read_hosts(path: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    forward: dict[str, list[str]] = {}
    back: dict[str, list[str]] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.partition("#")[0].split()
            if len(words) < 2:
                continue
            address = _canonical(words[0])
            back.setdefault(address, []).extend(words[1:])
            for name in words[1:]:
                forward.setdefault(name.lower(), []).append(address)
    return forward, back


def _literal(host: Any, port: Any, family: int, kind: int, proto: int, flags: int) -> Any:
    """getaddrinfo() of something numeric; None if it is a name."""
    try:
        return _c_getaddrinfo(host, port, family, kind, proto, flags | _socket.AI_NUMERICHOST)
    except _socket.gaierror as error:
        if error.args[0] != _socket.EAI_NONAME or not host or flags & _socket.AI_NUMERICHOST:
            raise
        if _is_numeric(host):
            raise
        return None


def _is_numeric(host: Any) -> bool:
    try:
        _c_getaddrinfo(host, None, 0, 0, 0, _socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True


def _scoped(host_of: HostOf, host: Any) -> Any:
    """A literal with the name of one of the stack's interfaces, with its index instead."""
    text = host.decode("latin-1") if isinstance(host, bytes) else host
    if not isinstance(text, str) or "%" not in text or text.rpartition("%")[2].isdigit():
        return host
    address, _, name = text.rpartition("%")
    try:
        return f"{address}%{host_of().stack.index(name)}"
    except OSError:
        return host


def getaddrinfo(
    host_of: HostOf, host: Any, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[Any]:
    """Rows as _socket.getaddrinfo() gives them."""
    if family not in FAMILIES:
        return _c_getaddrinfo(host, port, family, kind, proto, flags)
    configured = flags & _socket.AI_ADDRCONFIG
    flags &= ~_socket.AI_ADDRCONFIG
    host = _scoped(host_of, host)
    rows = _literal(host, port, family, kind, proto, flags)
    if rows is not None:
        return list(rows)
    name = host_bytes(host).decode("ascii", "replace")
    stack = host_of()
    if stack.resolver is None or stack.resolver.policy == "host":
        return _c_getaddrinfo(host, port, family, kind, proto, flags | configured)
    return _by_name(stack, name, port, family, kind, proto, flags)


def _by_name(
    stack: Any, name: str, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[Any]:
    mapped = family == AF_INET6 and flags & _socket.AI_V4MAPPED
    families = (family,) if family else _families(stack)
    # The port is checked before anybody is asked, as the C library does.
    any_address = "::" if families[0] == AF_INET6 else "0.0.0.0"
    numeric = (flags & ~_socket.AI_CANONNAME) | _socket.AI_NUMERICHOST
    _c_getaddrinfo(any_address, port, 0, kind, proto, numeric)
    try:
        found = stack.resolver.addresses(stack, name, families)
    except _socket.gaierror:
        if not mapped:
            raise
        found = [f"::ffff:{a}" for a in stack.resolver.addresses(stack, name, (AF_INET,))]
    rows = []
    for address in found:
        rows += _c_getaddrinfo(address, port, 0, kind, proto, numeric)
    if flags & _socket.AI_CANONNAME and rows:
        rows[0] = (*rows[0][:3], name, rows[0][4])
    return rows


def _families(stack: Any) -> tuple[int, ...]:
    """What to ask for when the caller does not care: IPv6 only if the stack can go there."""
    from bsdcore import netstat

    for interface in netstat.interfaces(stack.stack):
        for address in interface.addresses:
            if ":" in address and not address.startswith(("fe80:", "::1/")):
                return (AF_INET6, AF_INET)
    return (AF_INET, AF_INET6)


def lookup_one(stack: Any, raw: bytes, family: int) -> tuple[bytes, int]:
    """The first address of a name for connect(), bind() or sendto(): packed, and its scope."""
    rows = getaddrinfo(lambda: stack, raw, None, family, _socket.SOCK_STREAM, 0, 0)
    if not rows:
        _fail(_socket.EAI_NONAME)
    address = rows[0][4]
    scope = address[3] if len(address) > 3 else 0
    return _socket.inet_pton(family, address[0].partition("%")[0]), scope


def gethostbyname(host_of: HostOf, host: Any) -> str:
    """The first IPv4 address of a name."""
    return gethostbyname_ex(host_of, host)[2][0]


def gethostbyname_ex(host_of: HostOf, host: Any) -> tuple[str, list[str], list[str]]:
    """(name, aliases, IPv4 addresses)."""
    raw = host_bytes(host)
    if raw == b"":
        return "0.0.0.0", [], ["0.0.0.0"]
    if raw == b"<broadcast>":
        return "255.255.255.255", [], ["255.255.255.255"]
    rows = getaddrinfo(host_of, raw, None, AF_INET, _socket.SOCK_STREAM, 0, 0)
    if not rows:
        _fail(_socket.EAI_NONAME)
    return raw.decode("latin-1"), [], list(dict.fromkeys(row[4][0] for row in rows))


def gethostbyaddr(host_of: HostOf, host: Any) -> tuple[str, list[str], list[str]]:
    """(name, aliases, addresses); herror if the address has no name."""
    raw = host_bytes(host)
    rows = getaddrinfo(host_of, raw, None, AF_UNSPEC, _socket.SOCK_STREAM, 0, 0)
    address = rows[0][4][0]
    stack = host_of()
    if stack.resolver is None or stack.resolver.policy == "host":
        return _c_gethostbyaddr(address)
    names = stack.resolver.names(stack, address)
    if not names:
        raise _socket.herror(1, "Unknown host")
    return names[0], names[1:], [address]


def _numeric(sockaddr: Any, flags: int) -> tuple[str, str]:
    """Address and service; a scope is an index of the stack's, whose name goes with the address."""
    scope = sockaddr[3] if len(sockaddr) > 3 else 0
    if not isinstance(scope, int) or not scope & 0xFFFFFFFF:
        return _c_getnameinfo(sockaddr, flags)
    scope &= 0xFFFFFFFF
    plain, service = _c_getnameinfo((*sockaddr[:3], 0), flags)
    packed = _socket.inet_pton(AF_INET6, plain)
    named = packed[0] == 0xFE and packed[1] & 0xC0 == 0x80
    named |= packed[0] == 0xFF and packed[1] & 0x0F == 2
    suffix = None
    if named:
        from xsock import _netdb

        suffix = dict(_netdb.if_nameindex()).get(scope)
    return f"{plain}%{suffix or scope}", service


def getnameinfo(host_of: HostOf, sockaddr: Any, flags: int) -> tuple[str, str]:
    """(host, service)."""
    numeric = _numeric(sockaddr, (flags | _socket.NI_NUMERICHOST) & ~_socket.NI_NAMEREQD)
    if flags & _socket.NI_NUMERICHOST:
        return numeric
    stack = host_of()
    if stack.resolver is None or stack.resolver.policy == "host":
        return _c_getnameinfo(sockaddr, flags)
    names = stack.resolver.names(stack, numeric[0].partition("%")[0])
    if names:
        return names[0], numeric[1]
    if flags & _socket.NI_NAMEREQD:
        _fail(_socket.EAI_NONAME)
    return numeric
