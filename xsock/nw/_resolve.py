"""Names to addresses, one family at a time, without stopping the loop.

Literals, the hosts file and localhost are answered at once. A question to name servers goes
through the Stack's own resolver (_resolver.py) in a thread, one for A and one for AAAA, so that
each answer comes as soon as it is there.
"""

from __future__ import annotations

import _socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from xsock import _dns, _resolver
from xsock.nw._endpoint import AF_INET, AF_INET6, Endpoint

__all__ = ["Answer", "Names"]

THREADS_MAX: Final = 64  # questions at once on one loop; the loop's own threads stay free
_limiter: Final[RunVar[anyio.CapacityLimiter]] = RunVar("xsock.nw questions")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a name in one family. *duration* is in seconds.

    *source* is where it is from. Without addresses *error* says why.
    """

    name: str
    family: int
    addresses: tuple[str, ...]
    source: Literal["literal", "hosts", "local", "dns", "host"]
    duration: float = 0.0
    error: OSError | None = None


class Names:
    """The names of a Stack. *host* is its Host (_host.py); None knows no name servers."""

    def __init__(self, host: Any = None) -> None:
        self._host = host
        resolver = None if host is None else host.resolver
        self._resolver = resolver or _resolver.Resolver("stack")

    @property
    def servers(self) -> tuple[str, ...]:
        """The name servers that would be asked: those configured, else resolv.conf's."""
        if self._host is None or self._asks_host:
            return ()
        configured: tuple[str, ...] = self._resolver.dns._servers
        return configured or tuple(_dns.resolv_conf()["servers"])

    @property
    def _asks_host(self) -> bool:
        return self._host is not None and self._resolver.policy == "host"

    def known(self, name: str, families: Sequence[int]) -> list[Answer] | None:
        """The answers that need nobody else, for all *families*; None if somebody must be asked."""
        numeric = Endpoint.host(name, 0)
        if numeric.is_numeric:
            return [Answer(name, f, (numeric.name,) if numeric.family == f else (), "literal")
                    for f in families]  # fmt: skip
        if self._asks_host:
            return None
        lower = name.rstrip(".").lower()
        filed = self._resolver.hosts()[0].get(lower, ())
        by_family = {f: tuple(a for a in filed if (":" in a) == (f == AF_INET6)) for f in families}
        # As in getaddrinfo(): a name that the file has is looked for nowhere else.
        if any(by_family.values()):
            return [Answer(name, f, by_family[f], "hosts") for f in families]
        if lower == "localhost" or lower.endswith(".localhost"):
            return [Answer(name, f, (_resolver.LOCALHOST[f],), "local") for f in families]
        return None

    async def ask(self, name: str, family: int) -> Answer:
        """Ask the name servers for one family. A failure is an Answer too."""
        start = anyio.current_time()
        source: Literal["dns", "host"] = "host" if self._asks_host else "dns"
        found: list[str] = []
        error: OSError | None = None
        try:
            # A question that nobody waits for any more ends by its own timeout.
            found = await anyio.to_thread.run_sync(
                self._ask, name, family, abandon_on_cancel=True, limiter=_questions()
            )
        except OSError as caught:
            error = caught
        return Answer(name, family, tuple(found), source, anyio.current_time() - start, error)

    def _ask(self, name: str, family: int) -> list[str]:
        if self._host is None:
            _fail(_socket.EAI_AGAIN)
        if self._asks_host:
            rows = _resolver._c_getaddrinfo(name, None, family, _socket.SOCK_STREAM, 0, 0)
            return list(dict.fromkeys(str(row[4][0]) for row in rows))
        return list(dict.fromkeys(self._search(name, family)))

    def _search(self, name: str, family: int) -> list[str]:
        """The addresses of the first full name, by the search list, that has any of any family.

        Each family is asked by itself, but both have to find the same host.
        """
        dns = self._resolver.dns
        code = _socket.EAI_NONAME
        *early, last = dns._candidates(name, _dns.resolv_conf())
        for full in (*early, last):
            found, failure = dns.addresses(self._host, full, (family,))
            if found:
                return found
            if code != _socket.EAI_NODATA:
                code = failure
            if failure == _socket.EAI_AGAIN:
                break
            if failure == _socket.EAI_NODATA and full is not last:
                other = AF_INET if family == AF_INET6 else AF_INET6
                if dns.addresses(self._host, full, (other,))[0]:
                    break
        _fail(code)


def _fail(code: int) -> NoReturn:
    raise _socket.gaierror(code, _resolver.REASONS.get(code, "Name or service not known"))


def _questions() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS_MAX)
        _limiter.set(limiter)
        return limiter
