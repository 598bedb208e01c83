"""From an endpoint to the one connection that won: resolve, sort, race, and say what went wrong.

    won = await establish(names, state, endpoint, options, parameters, connect, close,
                          attempts=attempts)

*connect* is handed Candidates, numeric endpoints with the protocols to speak, and
decides how far an attempt goes before it counts as made.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

import anyio

from xsock.nw._endpoint import AF_INET, AF_INET6, Endpoint
from xsock.nw._errors import (
    EstablishmentError,
    NameResolutionError,
    NetworkError,
    NoPath,
    failed,
)
from xsock.nw._options import IP, ProtocolOptions, candidates_of, layer
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._path import NetworkState, allowed_interfaces, evaluate
from xsock.nw._race import AttemptRecord, Outcome, Race, run
from xsock.nw._report import Attempt, Resolution
from xsock.nw._resolve import Answer, Names
from xsock.nw._sort import sort_destinations

__all__ = ["Candidate", "Established", "establish", "families_of"]

T = TypeVar("T")
# Answers that say the name is not there, rather than that nobody could say.
NOT_THERE: Final = (socket.EAI_NONAME, socket.EAI_NODATA)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to try: a numeric endpoint and the protocols to speak with it."""

    endpoint: Endpoint
    options: ProtocolOptions

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return self.endpoint.family or AF_INET


@dataclass(frozen=True, slots=True)
class Established(Generic[T]):
    """What the winner's attempt gave."""

    value: T
    candidate: Candidate


async def establish(
    names: Names,
    state: NetworkState,
    endpoint: Endpoint,
    options: ProtocolOptions,
    parameters: Parameters,
    connect: Callable[[Candidate], Awaitable[T]],
    close: Callable[[T], object],
    *,
    attempts: list[Attempt],
    resolutions: list[Resolution] | None = None,
    started: float | None = None,
) -> Established[T]:
    """Connect to *endpoint* over the network of *state* (an empty one judges nothing).

    *connect* raises OSError for an attempt that failed. *close* must not wait; it gets what
    connected too late, and the winner's value if this call ends with an exception. *attempts*
    grows by all that were made even then; their times count from *started* (the loop's clock).
    Raises NoPath, NameResolutionError, or EstablishmentError with the attempts.
    """
    if endpoint.is_numeric:
        _check_path(state, endpoint, parameters)

    async def attempt(candidate: Candidate) -> T:
        if not endpoint.is_numeric:
            _check_path(state, candidate.endpoint, parameters)
        return await connect(candidate)

    begun = anyio.current_time() if started is None else started
    first = len(attempts)
    race = _race(state, endpoint, options, parameters)
    lookup = _Lookup(names, endpoint, options, [] if resolutions is None else resolutions)
    questions = lookup.begin(race, families_of(options))
    try:
        result = await run(race, questions, attempt, close)
    finally:
        attempts += _attempts(race.records, begun, anyio.current_time())
    if result.value is None or result.winner is None:
        if len(attempts) == first:
            raise _unresolved(endpoint, result.errors.values())
        raise _failure(endpoint, result.failures, tuple(attempts))
    return Established(result.value, result.winner)


class _Lookup:
    """The questions of one establishment: an endpoint's name to candidates."""

    def __init__(
        self,
        names: Names,
        endpoint: Endpoint,
        options: ProtocolOptions,
        resolutions: list[Resolution],
    ) -> None:
        self._names = names
        self._endpoint = endpoint
        self._stacks = candidates_of(options)
        self._resolutions = resolutions

    def begin(
        self, race: Race[Candidate], families: Sequence[int]
    ) -> dict[int, Callable[[], Awaitable[Sequence[Candidate]]]]:
        """Tell *race* what is known at once; otherwise the questions to ask."""
        known = self._names.known(self._endpoint.name, families)
        if known is None:
            return {family: partial(self.ask, family) for family in families}
        for answer in known:
            race.answered(answer.family, self.candidates(answer), anyio.current_time())
        return {}

    async def ask(self, family: int) -> Sequence[Candidate]:
        answer = await self._names.ask(self._endpoint.name, family)
        found = self.candidates(answer)
        if answer.error is not None:
            raise answer.error
        return found

    def candidates(self, answer: Answer) -> list[Candidate]:
        """Every address with every alternative that speaks its family."""
        if answer.source != "literal":
            self._resolutions.append(
                Resolution(answer.name, answer.source, answer.duration, len(answer.addresses))
            )
        port, interface = self._endpoint.port, self._endpoint.interface
        return [
            Candidate(Endpoint.address(address, port, interface=interface), stack)
            for address in answer.addresses
            for stack in self._stacks
            if _version(stack) in (None, answer.family)
        ]


def _check_path(state: NetworkState, endpoint: Endpoint, parameters: Parameters) -> None:
    """NoPath if the network, or what the parameters allow of it, does not lead there."""
    if not state.interfaces:
        return
    path = evaluate(state, endpoint, parameters)
    if not path.is_satisfied:
        raise NoPath(0, path.reason.value, reason=path.reason, path=path, endpoint=endpoint)


# ---- in which order ----


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


def _race(
    state: NetworkState, endpoint: Endpoint, options: ProtocolOptions, parameters: Parameters
) -> Race[Candidate]:
    families = families_of(options)
    return Race(
        families,
        family_of=lambda item: item.family,
        order=_ordering(state, endpoint, options, parameters),
        preferred=_preferred(state, families),
        attempt_delay=parameters.attempt_delay,
        resolution_delay=parameters.resolution_delay,
    )


def _ordering(
    state: NetworkState, endpoint: Endpoint, options: ProtocolOptions, parameters: Parameters
) -> Callable[[Sequence[Candidate]], list[Candidate]]:
    """How a race sorts its candidates: addresses by RFC 6724, alternatives staggered among them.

    The second alternative's turn at the best address comes after the first's at the second best.
    """
    stacks = candidates_of(options)

    def order(found: Sequence[Candidate]) -> list[Candidate]:
        if len(found) < 2:
            return list(found)
        allowed = [item.name for item in allowed_interfaces(state, endpoint, parameters)[0]]
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


def _preferred(state: NetworkState, families: Sequence[int]) -> int | None:
    """The family whose answer is worth waiting for: IPv6, if there is any beyond the link."""
    if AF_INET6 not in families:
        return None
    up = [item for item in state.interfaces if item.is_up]
    outside = [item for item in up if item.type is not InterfaceType.LOOPBACK] or up
    return AF_INET6 if any(item.has_ipv6 for item in outside) else None


# ---- what went wrong ----


def _attempts(
    records: Iterable[AttemptRecord[Candidate]], begun: float, now: float
) -> list[Attempt]:
    out = []
    for record in records:
        error: OSError | None = None
        if isinstance(record.error, OSError):
            error = record.error
        elif record.outcome is not Outcome.WON:
            why = "another attempt was first" if record.outcome is Outcome.LOST else "given up"
            error = NetworkError(errno.ECANCELED, why, endpoint=record.candidate.endpoint)
        ended = now if record.ended is None else record.ended
        out.append(
            Attempt(
                record.candidate.endpoint, record.started - begun, ended - record.started, error
            )
        )
    return out


def _failure(
    endpoint: Endpoint, failures: Sequence[BaseException], attempts: tuple[Attempt, ...]
) -> EstablishmentError:
    """The one error for all: of the kind that every attempt failed with, if they agree."""
    errors = [error for error in failures if isinstance(error, OSError)]
    first = errors[0]
    if all(type(error) is type(first) and error.errno == first.errno for error in errors):
        if isinstance(first, EstablishmentError):
            error = first.again()
        else:
            error = failed(first.errno or 0, endpoint=endpoint)
    else:
        error = EstablishmentError(
            errors[-1].errno or 0, f"all {len(errors)} attempts failed", endpoint=endpoint
        )
    error.attempts = attempts
    error.endpoint = endpoint
    error.__cause__ = first if len(errors) == 1 else ExceptionGroup("attempts", errors)
    return error


def _unresolved(endpoint: Endpoint, refusals: Iterable[BaseException]) -> EstablishmentError:
    """No address was found. Nobody's answer outweighs an answer that there is none."""
    causes = [error for error in refusals if isinstance(error, OSError)]
    causes.sort(key=lambda error: error.errno in NOT_THERE)
    cause = causes[0] if causes else None
    if cause is None or cause.errno is None:
        return NameResolutionError(
            socket.EAI_NODATA, "no address of a family that is spoken", endpoint=endpoint
        )
    error = NameResolutionError(cause.errno, cause.strerror, endpoint=endpoint)
    error.__cause__ = cause
    return error
