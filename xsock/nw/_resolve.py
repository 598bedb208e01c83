"""Names to addresses, one family at a time, without stopping the loop; and what to race.

Literals, the hosts file and localhost are answered at once. A question to name servers goes
through the Stack's own resolver (_resolver.py) in a thread, one for A and one for AAAA, so that
each answer comes as soon as it is there.
"""

from __future__ import annotations

import _socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from xsock import _resolver
from xsock.nw._endpoint import AF_INET, AF_INET6, Endpoint
from xsock.nw._options import IP, ProtocolOptions, candidates_of, layer
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._path import NetworkState, allowed_interfaces
from xsock.nw._race import Race, RaceResult, run
from xsock.nw._sort import sort_destinations

__all__ = ["Answer", "Candidate", "Names", "establish", "families_of"]

T = TypeVar("T")
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
        found, code = self._resolver.dns.addresses(self._host, name, (family,))
        if not found:
            _fail(code)
        return list(dict.fromkeys(found))


def _fail(code: int) -> NoReturn:
    raise _socket.gaierror(code, _resolver.REASONS.get(code, "Name or service not known"))


def _questions() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS_MAX)
        _limiter.set(limiter)
        return limiter


# ---- what to race ----


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to try: a numeric endpoint and the protocols to speak with it."""

    endpoint: Endpoint
    options: ProtocolOptions

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self.endpoint.family or AF_INET


def families_of(options: ProtocolOptions) -> tuple[int, ...]:
    """The families that some alternative speaks, IPv6 first."""
    spoken: set[int] = set()
    for stack in candidates_of(options):
        spoken |= {AF_INET, AF_INET6} if (version := _version(stack)) is None else {version}
    return tuple(family for family in (AF_INET6, AF_INET) if family in spoken)


def _version(stack: ProtocolOptions) -> int | None:
    ip = layer(stack, IP)
    if ip is None or ip.version is None:
        return None
    return AF_INET6 if ip.version == 6 else AF_INET


def candidates(endpoint: Endpoint, answer: Answer, options: ProtocolOptions) -> list[Candidate]:
    """Every address with every alternative that speaks its family."""
    return [
        Candidate(Endpoint.address(address, endpoint.port, interface=endpoint.interface), stack)
        for address in answer.addresses
        for stack in candidates_of(options)
        if _version(stack) in (None, answer.family)
    ]


def ordering(
    state: NetworkState, endpoint: Endpoint, options: ProtocolOptions, parameters: Parameters
) -> Callable[[Sequence[Candidate]], list[Candidate]]:
    """How a race sorts its candidates: addresses by RFC 6724, alternatives staggered among them.

    The second alternative's turn at the best address comes after the first's at the second best.
    """
    allowed = [item.name for item in allowed_interfaces(state, endpoint, parameters)[0]]
    stacks = candidates_of(options)

    def order(found: Sequence[Candidate]) -> list[Candidate]:
        addresses = sort_destinations(
            list(dict.fromkeys(item.endpoint.name for item in found)),
            lambda address: state.source_for(address, allowed),
        )
        place = {address: index for index, address in enumerate(addresses)}

        def turn(item: Candidate) -> tuple[int, int]:
            second = stacks.index(item.options)
            return place[item.endpoint.name] + second, second

        return sorted(found, key=turn)

    return order


async def establish(
    names: Names,
    state: NetworkState,
    endpoint: Endpoint,
    options: ProtocolOptions,
    parameters: Parameters,
    connect: Callable[[Candidate], Awaitable[T]],
    close: Callable[[T], object],
    *,
    answered: Callable[[Answer], object] | None = None,
) -> RaceResult[Candidate, T]:
    """Resolve *endpoint*, race what was found, and answer the winner's connection.

    *connect* raises OSError for an attempt that failed; *close* gets what connected too late
    and must not wait. *answered* sees every Answer as it comes.
    """
    families = families_of(options)
    race: Race[Candidate] = Race(
        families,
        family_of=lambda item: item.family,
        order=ordering(state, endpoint, options, parameters),
        preferred=_preferred(state, families),
        attempt_delay=parameters.attempt_delay,
        resolution_delay=parameters.resolution_delay,
    )
    see = answered or (lambda answer: None)
    questions: dict[int, Callable[[], Awaitable[Sequence[Candidate]]]] = {}
    known = names.known(endpoint.name, families)
    for answer in known or ():
        see(answer)
        error = None if answer.addresses else answer.error
        found = candidates(endpoint, answer, options)
        race.answered(answer.family, found, anyio.current_time(), error)
    if known is None:
        for family in families:
            questions[family] = _question(names, endpoint, family, options, see)
    return await run(race, questions, connect, close)


def _question(
    names: Names,
    endpoint: Endpoint,
    family: int,
    options: ProtocolOptions,
    see: Callable[[Answer], object],
) -> Callable[[], Awaitable[Sequence[Candidate]]]:
    async def question() -> Sequence[Candidate]:
        answer = await names.ask(endpoint.name, family)
        see(answer)
        if answer.error is not None:
            raise answer.error
        return candidates(endpoint, answer, options)

    return question


def _preferred(state: NetworkState, families: Sequence[int]) -> int | None:
    """The family whose answer is worth waiting for: IPv6, if there is any beyond the link."""
    if AF_INET6 not in families:
        return None
    up = [item for item in state.interfaces if item.is_up]
    outside = [item for item in up if item.type is not InterfaceType.LOOPBACK] or up
    return AF_INET6 if any(item.has_ipv6 for item in outside) else None
