"""A stub resolver over the stack's own sockets (RFC 1035, RFC 7766); dnspython reads and writes.

Servers are asked in turn, each *attempts* times. An answer counts only if it
comes from the server asked, with the identifier and the question sent. A
truncated one is asked again over TCP.
"""

import _socket
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

__all__ = ["Client", "resolv_conf"]

PORT: Final = 53
AF_INET: Final = 2
AF_INET6: Final = 10
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
PAYLOAD: Final = 1232  # bytes of UDP that need no fragments (RFC 9715)
NDOTS_MAX: Final = 15
TYPES: Final = {AF_INET: "A", AF_INET6: "AAAA"}


def resolv_conf(path: str = "/etc/resolv.conf") -> dict[str, Any]:
    """servers, search, ndots, timeout and attempts as resolv.conf(5) says."""
    out: dict[str, Any] = {"servers": [], "search": [], "ndots": 1, "timeout": 5, "attempts": 2}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return out
    for words in lines:
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            out["servers"].append(words[1].partition("%")[0])
        elif words[0] in ("search", "domain"):
            out["search"] = words[1:]
        elif words[0] == "options":
            for option in words[1:]:
                name, _, value = option.partition(":")
                if name in ("ndots", "timeout", "attempts") and value.isdigit():
                    out[name] = min(int(value), NDOTS_MAX)
    return out


class Client:
    """Asks *servers*, or those of resolv.conf if there are none.

    *usable* is asked before each question; False saves the wait for an answer
    that cannot come.
    """

    def __init__(
        self, servers: tuple[str, ...] = (), usable: Callable[[], bool] | None = None
    ) -> None:
        self._servers = servers
        self._usable = usable

    def addresses(self, host: Any, name: str, families: tuple[int, ...]) -> tuple[list[str], int]:
        """Addresses in the order of *families*, and the EAI code if there are none."""
        settings = resolv_conf()
        code = _socket.EAI_NONAME
        for candidate in self._candidates(name, settings):
            found: list[str] = []
            for family in families:
                records, failure = self._ask(host, candidate, TYPES[family], settings)
                found += records
                # A name that exists without such an address outweighs names that do not.
                if failure and not found and code != _socket.EAI_NODATA:
                    code = failure
            if found:
                return found, 0
            if code == _socket.EAI_AGAIN:
                break
        return [], code

    def names(self, host: Any, address: str) -> list[str]:
        """The names of an address, by PTR records."""
        try:
            from dns import reversename
        except ImportError:
            return []
        question = reversename.from_address(address).to_text()
        records, _ = self._ask(host, question, "PTR", resolv_conf())
        return [record.rstrip(".") for record in records]

    @staticmethod
    def _candidates(name: str, settings: dict[str, Any]) -> list[str]:
        """The full names to try, by the search list's rules."""
        if name.endswith("."):
            return [name]
        searched = [f"{name}.{domain.rstrip('.')}." for domain in settings["search"]]
        plain = [f"{name}."]
        return plain + searched if name.count(".") >= settings["ndots"] else searched + plain

    def _ask(
        self, host: Any, name: str, kind: str, settings: dict[str, Any]
    ) -> tuple[list[str], int]:
        try:
            from dns import exception, message, rcode
        except ImportError:
            raise _socket.gaierror(
                _socket.EAI_SYSTEM, "dnspython is not installed; install it or set "
                "XSOCK_RESOLVER=host"
            ) from None  # fmt: skip
        try:
            query = message.make_query(name, kind, use_edns=0, payload=PAYLOAD)
        except (exception.DNSException, UnicodeError):
            return [], _socket.EAI_NONAME
        if self._usable is not None and not self._usable():
            return [], _socket.EAI_AGAIN
        servers = self._servers or settings["servers"]
        for _ in range(max(1, settings["attempts"])):
            for server in servers:
                reply = _exchange(host, server, query, settings["timeout"] or 1)
                if reply is None:
                    continue
                if reply.rcode() == rcode.NXDOMAIN:
                    return [], _socket.EAI_NONAME
                if reply.rcode() != rcode.NOERROR:
                    continue
                return _records(reply), _socket.EAI_NODATA
        return [], _socket.EAI_AGAIN


def _records(reply: Any) -> list[str]:
    from dns import exception

    try:
        answer = reply.resolve_chaining().answer
    except exception.DNSException:
        return []
    return [record.to_text() for record in answer] if answer is not None else []


def _exchange(host: Any, server: str, query: Any, timeout: float) -> Any:
    """One question to one server: its reply, or None."""
    deadline = monotonic() + timeout
    try:
        reply = _over_udp(host, server, query, deadline)
        if reply is not None and reply.flags & 0x0200:  # TC, RFC 1035 4.1.1
            reply = _over_tcp(host, server, query, deadline)
    except OSError:
        return None
    return reply


def _connect(host: Any, server: str, kind: int, deadline: float) -> Any:
    from xsock._socket import open_on

    sock = open_on(host, AF_INET6 if ":" in server else AF_INET, kind, 0)
    try:
        sock.settimeout(max(0.001, deadline - monotonic()))
        sock.connect((server, PORT))
    except BaseException:
        sock.close()
        raise
    return sock


def _parse(query: Any, wire: bytes) -> Any:
    from dns import exception, message

    try:
        reply = message.from_wire(wire)
    except (exception.DNSException, ValueError):
        return None
    return reply if query.is_response(reply) else None


def _over_udp(host: Any, server: str, query: Any, deadline: float) -> Any:
    with _connect(host, server, SOCK_DGRAM, deadline) as sock:
        sock.send(query.to_wire())
        while (left := deadline - monotonic()) > 0:
            sock.settimeout(left)
            reply = _parse(query, sock.recv(65535))
            if reply is not None:
                return reply
    return None


def _over_tcp(host: Any, server: str, query: Any, deadline: float) -> Any:
    with _connect(host, server, SOCK_STREAM, deadline) as sock:
        wire = query.to_wire()
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(_exactly(sock, 2), "big")
        return _parse(query, _exactly(sock, length))


def _exactly(sock: Any, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = sock.recv(size - len(got))
        if not piece:
            raise ConnectionResetError(104, "Connection reset by peer")
        got += piece
    return got
