"""Happy Eyeballs, version 2 (RFC 8305): which attempt to start when, and who has won.

Race decides and knows no clock: answers, results and the time are handed in, attempts to start
and the next deadline come out. run() is the skin: it asks the questions, makes the attempts
and closes what has lost.

One point decides the winner: succeeded(). Whoever it answers True is the only attempt that may
carry the program's data; idempotent data goes out after it, so it is sent once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, TypeVar

import anyio

from xsock.nw._sort import interleave

__all__ = ["AttemptRecord", "Outcome", "Race", "RaceResult", "run"]

AF_INET6: Final = 10
ATTEMPT_DELAY: Final = 0.25  # seconds, RFC 8305 8
RESOLUTION_DELAY: Final = 0.05
ATTEMPT_DELAY_MIN: Final = 0.01
ATTEMPT_DELAY_MAX: Final = 2.0

C = TypeVar("C")  # a candidate: what an attempt is made to
T = TypeVar("T")  # what a successful attempt gives


class Outcome(Enum):
    """How an attempt ended."""

    RUNNING = "running"
    WON = "won"
    FAILED = "failed"
    LOST = "lost"  # another was first; it was closed


@dataclass(slots=True)
class AttemptRecord(Generic[C]):
    """One attempt. Times are those handed in, seconds."""

    index: int
    candidate: C
    started: float
    ended: float | None = None
    outcome: Outcome = Outcome.RUNNING
    error: BaseException | None = None


class Race(Generic[C]):
    """The decisions of one race. *families* are those asked for; *order* sorts candidates.

    While *preferred*'s answer is outstanding, the first answer of another family
    waits for it, at most *resolution_delay*; None waits for nobody.
    """

    def __init__(
        self,
        families: Sequence[int],
        *,
        family_of: Callable[[C], int],
        order: Callable[[Sequence[C]], Sequence[C]] = list,
        preferred: int | None = AF_INET6,
        attempt_delay: float = ATTEMPT_DELAY,
        resolution_delay: float = RESOLUTION_DELAY,
    ) -> None:
        self._outstanding = set(families)
        self._family_of = family_of
        self._order = order
        self._preferred = preferred if preferred in self._outstanding else None
        self._attempt_delay = min(max(attempt_delay, ATTEMPT_DELAY_MIN), ATTEMPT_DELAY_MAX)
        self._resolution_delay = resolution_delay
        self._waiting: list[C] = []
        self._seen: list[C] = []
        self._hold_until: float | None = None
        self._pace_until: float | None = None
        self._last: AttemptRecord[C] | None = None
        self._running = 0
        self.records: list[AttemptRecord[C]] = []
        self.winner: AttemptRecord[C] | None = None
        self.errors: dict[int, BaseException] = {}

    # ---- in ----

    def answered(
        self, family: int, found: Sequence[C], now: float, error: BaseException | None = None
    ) -> None:
        """The answer for *family*: candidates, or none and perhaps why."""
        self._outstanding.discard(family)
        if error is not None:
            self.errors[family] = error
        fresh = [item for item in dict.fromkeys(found) if item not in self._seen]
        self._seen += fresh
        if fresh:
            after = None if self._last is None else self._family_of(self._last.candidate)
            self._waiting = interleave(self._order(self._waiting + fresh), self._family_of, after)
        if self._preferred not in self._outstanding:
            self._hold_until = None
        elif fresh and self._hold_until is None:
            self._hold_until = now + self._resolution_delay

    def failed(self, index: int, now: float, error: BaseException | None = None) -> None:
        """Attempt *index* has failed. If it was the latest, the next need not wait."""
        record = self.records[index]
        if record.outcome is not Outcome.RUNNING:
            return
        self._end(record, Outcome.FAILED, now)
        record.error = error
        if record is self._last:
            self._pace_until = None

    def succeeded(self, index: int, now: float) -> bool:
        """Attempt *index* has connected. True for exactly one: the others have to be closed."""
        record = self.records[index]
        if self.winner is not None or record.outcome is not Outcome.RUNNING:
            if record.outcome is Outcome.RUNNING:
                self._end(record, Outcome.LOST, now)
            return False
        self._end(record, Outcome.WON, now)
        self.winner = record
        return True

    def lost(self, index: int, now: float) -> None:
        """Attempt *index* was given up."""
        if self.records[index].outcome is Outcome.RUNNING:
            self._end(self.records[index], Outcome.LOST, now)

    def _end(self, record: AttemptRecord[C], outcome: Outcome, now: float) -> None:
        record.outcome, record.ended = outcome, now
        self._running -= 1

    # ---- out ----

    def next(self, now: float) -> AttemptRecord[C] | None:
        """An attempt to start now; None: nothing until deadline() or until something comes in."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return None
        record = AttemptRecord(len(self.records), self._waiting.pop(0), now)
        self.records.append(record)
        self._last = record
        self._running += 1
        self._pace_until = now + self._attempt_delay
        return record

    def deadline(self) -> float | None:
        """When an attempt is due, perhaps in the past; None: only something coming in can tell."""
        if self.winner is not None or not self._waiting:
            return None
        times = [time for time in (self._hold_until, self._pace_until) if time is not None]
        return max(times, default=float("-inf"))

    def only(self, now: float) -> AttemptRecord[C] | None:
        """The one attempt of a race that needs none: its single candidate is known."""
        alone = not self._outstanding and not self.records and len(self._waiting) == 1
        return self.next(now) if alone else None

    @property
    def is_over(self) -> bool:
        """There is a winner, or nothing is left that could win."""
        if self.winner is not None:
            return True
        return not (self._outstanding or self._waiting or self._running)


@dataclass(frozen=True, slots=True)
class RaceResult(Generic[C, T]):
    """*value* is the winner's, None if nobody won; *errors* say which questions had no answer."""

    value: T | None
    winner: C | None
    records: tuple[AttemptRecord[C], ...]
    errors: Mapping[int, BaseException] = field(default_factory=dict)

    @property
    def failures(self) -> list[BaseException]:
        """Why each attempt failed, in their order."""
        return [record.error for record in self.records if record.error is not None]


class _Runner(Generic[C, T]):
    def __init__(
        self,
        race: Race[C],
        connect: Callable[[C], Awaitable[T]],
        close: Callable[[T], object],
    ) -> None:
        self.race = race
        self.connect = connect
        self.close = close
        self.value: list[T] = []
        self.crash: Exception | None = None
        self.changed = anyio.Event()

    async def ask(self, family: int, question: Callable[[], Awaitable[Sequence[C]]]) -> None:
        found: Sequence[C] = ()
        refusal = None
        try:
            found = await question()
        except OSError as error:
            refusal = error
        except Exception as error:
            self.crash = self.crash or error
        self.race.answered(family, found, anyio.current_time(), refusal)
        self.changed.set()

    async def attempt(self, record: AttemptRecord[C]) -> None:
        race, index = self.race, record.index
        try:
            value = await self.connect(record.candidate)
        except Exception as error:
            race.failed(index, anyio.current_time(), error)
            if not isinstance(error, OSError):
                self.crash = self.crash or error
        except BaseException:
            race.lost(index, anyio.current_time())
            raise
        else:
            if race.succeeded(index, anyio.current_time()):
                self.value.append(value)
            else:
                self.close(value)
        self.changed.set()

    async def run(self, questions: Mapping[int, Callable[[], Awaitable[Sequence[C]]]]) -> None:
        if not questions and (only := self.race.only(anyio.current_time())) is not None:
            await self.attempt(only)
            return
        async with anyio.create_task_group() as tasks:
            for family, question in questions.items():
                tasks.start_soon(self.ask, family, question)
            while not self.race.is_over and self.crash is None:
                record = self.race.next(anyio.current_time())
                if record is not None:
                    tasks.start_soon(self.attempt, record)
                    continue
                await self.wait()
            tasks.cancel_scope.cancel()

    async def wait(self) -> None:
        """Until something has come in, or the race wants to go on."""
        deadline = self.race.deadline()
        with anyio.CancelScope(deadline=float("inf") if deadline is None else deadline):
            await self.changed.wait()
        if self.changed.is_set():
            self.changed = anyio.Event()


async def run(
    race: Race[C],
    questions: Mapping[int, Callable[[], Awaitable[Sequence[C]]]],
    connect: Callable[[C], Awaitable[T]],
    close: Callable[[T], object],
) -> RaceResult[C, T]:
    """Ask every question, attempt *connect* as *race* says, and answer what the first one gave.

    Families without a question have to be answered() before. OSError from a
    question or an attempt is a result; any other exception ends the race and is raised.
    *close* must not wait: it gets what connected too late, and the winner's value if this
    call ends with an exception.
    """
    runner = _Runner(race, connect, close)
    try:
        await runner.run(questions)
        if runner.crash is not None:
            raise runner.crash
    except BaseException:
        for won in runner.value:
            close(won)
        raise
    winner = None if race.winner is None else race.winner.candidate
    value = runner.value[0] if runner.value else None
    return RaceResult(value, winner, tuple(race.records), dict(race.errors))
