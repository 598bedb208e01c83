"""Happy Eyeballs: the decisions over random timings in virtual time; the skin on each loop."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.loops import LOOPS, Go, runner
from xsock.nw._race import Outcome, Race, RaceResult, run

V4, V6 = 2, 10
NEVER = float("inf")


def family_of(address: str) -> int:
    return V6 if ":" in address else V4


def v6_first(addresses: Sequence[str]) -> list[str]:
    """What RFC 6724 makes of these addresses on a host with both families."""
    return sorted(addresses, key=lambda address: ":" not in address)


@dataclass
class World:
    """What a race meets: answers (after, addresses) by family; (after, connects) by address."""

    answers: dict[int, tuple[float, list[str]]]
    hosts: dict[str, tuple[float, bool]]
    attempt_delay: float = 0.25
    resolution_delay: float = 0.05
    now: float = 0.0
    wins: list[int] = field(default_factory=list)

    def run(self) -> Race[str]:
        """The whole race, event by event; after it everybody's results still come in."""
        race = Race(
            list(self.answers), family_of=family_of, order=v6_first,
            attempt_delay=self.attempt_delay, resolution_delay=self.resolution_delay,
        )  # fmt: skip
        events: list[tuple[float, int, Callable[[], None]]] = []

        def later(after: float, call: Callable[[], None]) -> None:
            if after != NEVER:
                heapq.heappush(events, (self.now + after, len(events) + id(call), call))

        for family, (after, found) in self.answers.items():
            later(after, lambda family=family, found=found: race.answered(family, found, self.now))  # type: ignore[misc]
        while True:
            while (record := race.next(self.now)) is not None:
                after, connects = self.hosts[record.candidate]
                later(after, lambda index=record.index, good=connects: self.end(race, index, good))  # type: ignore[misc]
            due = race.deadline()
            if events and (due is None or events[0][0] <= due):
                self.now, _, call = heapq.heappop(events)
                call()
            elif due is not None:
                self.now = max(self.now, due)
            else:
                return race

    def end(self, race: Race[str], index: int, connects: bool) -> None:
        if not connects:
            race.failed(index, self.now, ConnectionRefusedError())
        elif race.succeeded(index, self.now):
            self.wins.append(index)


# ---- the cases the RFC names ----


def test_a_blackhole_of_v6_costs_one_delay_and_a_round_trip() -> None:
    world = World(
        {V6: (0.01, ["::1", "::2"]), V4: (0.02, ["192.0.2.1"])},
        {"::1": (NEVER, False), "::2": (NEVER, False), "192.0.2.1": (0.03, True)},
    )
    race = world.run()
    assert race.winner is not None
    assert race.winner.candidate == "192.0.2.1"
    assert race.winner.ended == pytest.approx(0.01 + 0.25 + 0.03)


def test_a_late_aaaa_is_preferred() -> None:
    world = World(
        {V6: (0.049, ["::1"]), V4: (0.0, ["192.0.2.1"])},
        {"::1": (0.02, True), "192.0.2.1": (0.0, True)},
    )
    race = world.run()
    assert [record.candidate for record in race.records] == ["::1"]


def test_a_later_aaaa_is_not_waited_for_but_joins() -> None:
    world = World(
        {V6: (0.2, ["::1"]), V4: (0.0, ["192.0.2.1", "192.0.2.2"])},
        {"::1": (0.02, True), "192.0.2.1": (NEVER, True), "192.0.2.2": (NEVER, True)},
    )
    race = world.run()
    assert [r.candidate for r in race.records] == ["192.0.2.1", "::1"]
    assert [r.started for r in race.records] == pytest.approx([0.05, 0.3])


def test_no_aaaa_at_all_ends_the_wait() -> None:
    world = World({V6: (0.01, []), V4: (0.0, ["192.0.2.1"])}, {"192.0.2.1": (0.0, True)})
    assert world.run().records[0].started == pytest.approx(0.01)


def test_a_refusal_starts_the_next_at_once() -> None:
    world = World(
        {V6: (0.0, ["::1", "::2"]), V4: (0.0, ["192.0.2.1"])},
        {"::1": (0.01, False), "192.0.2.1": (0.01, False), "::2": (0.01, True)},
    )
    race = world.run()
    assert [r.candidate for r in race.records] == ["::1", "192.0.2.1", "::2"]
    assert [r.started for r in race.records] == pytest.approx([0.0, 0.01, 0.02])
    assert [r.outcome for r in race.records] == [Outcome.FAILED, Outcome.FAILED, Outcome.WON]
    assert isinstance(race.records[0].error, ConnectionRefusedError)


def test_an_earlier_attempt_may_still_win() -> None:
    world = World(
        {V6: (0.0, ["::1"]), V4: (0.0, ["192.0.2.1"])},
        {"::1": (0.3, True), "192.0.2.1": (0.3, True)},
    )
    race = world.run()
    assert race.winner is not None
    assert race.winner.candidate == "::1"
    assert [r.outcome for r in race.records] == [Outcome.WON, Outcome.LOST]


def test_nobody() -> None:
    assert World({V6: (0.1, []), V4: (0.2, [])}, {}).run().is_over
    race = World({V4: (0.0, ["192.0.2.1"])}, {"192.0.2.1": (1.0, False)}).run()
    assert race.is_over
    assert race.winner is None


def test_delays_are_kept_within_bounds() -> None:
    hosts = {"192.0.2.1": (NEVER, True), "192.0.2.2": (0.0, True)}
    for wanted, got in ((0.0, 0.01), (9.0, 2.0)):
        world = World({V4: (0.0, list(hosts))}, hosts, attempt_delay=wanted)
        assert world.run().records[1].started == pytest.approx(got)


# ---- properties ----

times = st.integers(0, 400).map(lambda n: n / 1000) | st.just(NEVER)
finite = st.integers(0, 400).map(lambda n: n / 1000)
fates = st.tuples(times, st.booleans())


@st.composite
def worlds(draw: st.DrawFn) -> World:
    answers: dict[int, tuple[float, list[str]]] = {}
    hosts: dict[str, tuple[float, bool]] = {}
    for family, form in ((V6, "2001:db8::{}"), (V4, "192.0.2.{}")):
        if draw(st.booleans()):
            found = [form.format(i) for i in range(1, 1 + draw(st.integers(0, 4)))]
            answers[family] = (draw(finite), found)
            hosts |= {address: draw(fates) for address in found}
    return World(answers, hosts)


@given(worlds())
def test_what_always_holds(world: World) -> None:
    race = world.run()
    tried = [record.candidate for record in race.records]
    assert len(tried) == len(set(tried))
    assert len(world.wins) == (race.winner is not None) <= 1
    # Somebody reachable is found; without one everybody is tried.
    reachable = [a for a, (after, good) in world.hosts.items() if good and after != NEVER]
    assert bool(race.winner) == bool(reachable)
    if race.winner is None:
        assert set(tried) == set(world.hosts)
        assert race.is_over == all(after != NEVER for after, _ in world.hosts.values())
    # Every attempt has its end, except those that are never answered.
    for record in race.records:
        silent = world.hosts[record.candidate][0] == NEVER
        assert (record.outcome is Outcome.RUNNING) == silent
    # Paced: closer than the delay only after the latest has failed.
    for one, two in zip(race.records, race.records[1:], strict=False):
        assert (
            two.started - one.started >= 0.25 - 1e-9
            or (one.outcome is Outcome.FAILED and one.ended is not None
                and one.ended <= two.started)
        )  # fmt: skip
    # Nothing starts after somebody has won.
    if race.winner is not None:
        assert all(r.started <= (race.winner.ended or 0) for r in race.records)


@given(worlds())
def test_a_bound_on_time(world: World) -> None:
    """The best answer is not later than its turn, with each turn one attempt delay."""
    race = world.run()
    for address, (after, good) in world.hosts.items():
        if good and after != NEVER:
            assert race.winner is not None
            known = world.answers[family_of(address)][0] + world.resolution_delay
            turns = len(world.hosts) * world.attempt_delay
            assert (race.winner.ended or 0) <= known + turns + after + 1e-9


@given(worlds())
def test_v6_goes_first_if_it_is_known_in_time(world: World) -> None:
    race = world.run()
    if not race.records or V6 not in world.answers or not world.answers[V6][1]:
        return
    first4 = world.answers[V4][0] if world.answers.get(V4, (0, []))[1] else NEVER
    if world.answers[V6][0] < first4 + world.resolution_delay:
        assert family_of(race.records[0].candidate) == V6


# ---- the skin ----


@dataclass
class Line:
    """A connection that knows whether it was closed."""

    address: str
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)


def asked(*addresses: str) -> Callable[[], Any]:
    async def question() -> Sequence[str]:
        return addresses

    return question


def test_the_loser_is_closed(go: Go) -> None:
    """Both connect in the same turn of the loop: one is the winner, the other is closed."""
    lines: list[Line] = []

    async def main() -> RaceResult[str, Line]:
        both = anyio.Event()

        async def connect(address: str) -> Line:
            line = Line(address)
            lines.append(line)
            if len(lines) == 2:
                both.set()
            with anyio.CancelScope(shield=True):
                await both.wait()
            return line

        race = Race([V6, V4], family_of=family_of, order=v6_first, attempt_delay=0.01)
        return await run(race, {V6: asked("::1"), V4: asked("192.0.2.1")}, connect, Line.close)

    result = go(main)
    assert result.value in lines
    assert [line.closed for line in lines if line is not result.value] == [1]
    assert result.value.closed == 0
    assert sorted(record.outcome.value for record in result.records) == ["lost", "won"]


def test_attempts_that_wait_are_cancelled(go: Go) -> None:
    ended: list[str] = []

    async def main() -> RaceResult[str, str]:
        async def connect(address: str) -> str:
            if ":" in address:
                try:
                    await anyio.sleep_forever()
                finally:
                    ended.append(address)
            return address

        race = Race([V6, V4], family_of=family_of, order=v6_first, attempt_delay=0.01)
        return await run(race, {V6: asked("::1"), V4: asked("192.0.2.1")}, connect, ended.append)

    result = go(main)
    assert result.value == "192.0.2.1"
    assert ended == ["::1"]
    assert [record.outcome for record in result.records] == [Outcome.LOST, Outcome.WON]


def test_all_fail(go: Go) -> None:
    async def main() -> RaceResult[str, str]:
        async def connect(address: str) -> str:
            raise ConnectionRefusedError(111, f"refused by {address}")

        async def no_answer() -> Sequence[str]:
            raise OSError(5, "no name server")

        race = Race([V6, V4], family_of=family_of, order=v6_first)
        questions = {V6: no_answer, V4: asked("192.0.2.1", "192.0.2.2")}
        return await run(race, questions, connect, print)

    result = go(main)
    assert result.value is None
    assert [str(error) for error in result.failures] == [
        "[Errno 111] refused by 192.0.2.1", "[Errno 111] refused by 192.0.2.2",
    ]  # fmt: skip
    assert result.errors[V6].errno == 5


def test_a_mistake_is_raised_as_it_is(go: Go) -> None:
    async def main() -> None:
        async def connect(address: str) -> str:
            raise ZeroDivisionError

        for addresses in (("192.0.2.1",), ("192.0.2.1", "192.0.2.2")):
            race = Race([V4], family_of=family_of, order=v6_first)
            with pytest.raises(ZeroDivisionError):
                await run(race, {V4: asked(*addresses)}, connect, print)

    go(main)


def test_a_cancelled_race_leaves_nothing_open(go: Go) -> None:
    """Cancelled at every place where it waits, as early or late as can be."""
    opened: list[Line] = []

    async def main() -> None:
        for turns in range(12):
            kept: list[Line] = []

            async def connect(address: str) -> Line:
                line = Line(address)
                opened.append(line)
                try:
                    await anyio.sleep(0)
                    await anyio.sleep(0)
                except BaseException:
                    line.close()
                    raise
                return line

            async def whole(kept: list[Line] = kept) -> None:
                race = Race([V6, V4], family_of=family_of, order=v6_first)
                questions = {V6: asked("::1"), V4: asked("192.0.2.1")}
                result = await run(race, questions, connect, Line.close)
                assert result.value is not None
                kept.append(result.value)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(whole)
                for _ in range(turns):
                    await anyio.sleep(0)
                tasks.cancel_scope.cancel()
            assert [line for line in opened if not line.closed] == kept
            for line in kept:
                line.close()

    go(main)
    assert opened
    assert {line.closed for line in opened} == {1}


def test_one_address_needs_no_tasks(go: Go) -> None:
    async def main() -> RaceResult[str, str]:
        async def connect(address: str) -> str:
            return address

        race = Race([V4], family_of=family_of, order=v6_first)
        race.answered(V4, ["192.0.2.1"], 0.0)
        return await run(race, {}, connect, print)

    result = go(main)
    assert (result.value, result.winner) == ("192.0.2.1", "192.0.2.1")


def test_a_blackhole_through_the_skin_in_virtual_time() -> None:
    async def main() -> float:
        async def connect(address: str) -> str:
            await trio.sleep(NEVER if ":" in address else 0.02)
            return address

        async def slow() -> Sequence[str]:
            await trio.sleep(0.03)
            return ["::1", "::2"]

        start = trio.current_time()
        race = Race([V6, V4], family_of=family_of, order=v6_first)
        result = await run(race, {V6: slow, V4: asked("192.0.2.1")}, connect, print)
        assert result.winner == "192.0.2.1"
        assert [record.candidate for record in result.records] == ["::1", "192.0.2.1"]
        return trio.current_time() - start

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=clock) == pytest.approx(0.03 + 0.25 + 0.02)


@given(worlds(), st.none() | finite, st.sampled_from([None, ConnectionError, ZeroDivisionError]))
def test_the_skin_leaves_nothing_open(
    world: World, end: float | None, crash: type[Exception] | None
) -> None:
    """Whenever it is cancelled, whatever an attempt raises: one line at most stays open."""
    lines: list[Line] = []
    results: list[RaceResult[str, Line]] = []

    async def connect(address: str) -> Line:
        after, connects = world.hosts[address]
        await trio.sleep(after)
        if not connects:
            raise crash() if crash is not None else ConnectionRefusedError
        lines.append(Line(address))
        return lines[-1]

    def question(family: int) -> Callable[[], Any]:
        async def ask() -> Sequence[str]:
            after, found = world.answers[family]
            await trio.sleep(after)
            return found

        return ask

    async def main() -> None:
        race = Race(list(world.answers), family_of=family_of, order=v6_first)
        questions = {family: question(family) for family in world.answers}
        # Without an end to it a race of attempts that hang goes on for ever.
        with trio.move_on_after(100 if end is None else end), suppress(ZeroDivisionError):
            results.append(await run(race, questions, connect, Line.close))

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    kept = results[0].value if results else None
    assert [line for line in lines if not line.closed] == ([] if kept is None else [kept])
    assert all(line.closed <= 1 for line in lines)
    if results:
        assert all(record.outcome is not Outcome.RUNNING for record in results[0].records)
    if end is None and crash is None:
        model = world.run().winner
        if model is not None:
            assert results
            assert results[0].winner is not None
