"""Vouchers: who inherits them, what may be raised, and which class a send gets."""

from __future__ import annotations

import contextvars
import gc
import itertools
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.loops import LOOPS, Go, runner
from xsock.nw._voucher import (
    Originator,
    Originators,
    QoS,
    ServiceClass,
    Voucher,
    adoption,
    class_of_qos,
    current_voucher,
    inherited_voucher,
    qos,
    received_voucher,
    service_class_of,
    with_voucher,
)

BACKGROUND = Voucher(qos=QoS.BACKGROUND)
URGENT = Voucher(qos=QoS.USER_INTERACTIVE)
PAYER = Originator("tenant-7")


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)


@pytest.fixture(autouse=True)
def nothing_left() -> Generator[None, None, None]:
    """No test leaves a voucher behind in the context of the next."""
    yield
    assert adoption.get() is None


class Stacklike:
    def __init__(self) -> None:
        self.originators = Originators()


# ---- the class of a send ----

LEVELS = ("context", "connection", "parameters", "voucher")


@pytest.mark.parametrize("present", list(itertools.product([False, True], repeat=4)))
def test_precedence(present: tuple[bool, ...]) -> None:
    """Each level has a class of its own; the first present decides."""
    chosen = dict(zip(LEVELS, (
        ServiceClass.SIGNALING, ServiceClass.OAM, ServiceClass.STREAMING_AV,
        ServiceClass.INTERACTIVE_VOICE,
    ), strict=True))  # fmt: skip
    context, connection, parameters, service_class = (
        chosen[name] if there else None for name, there in zip(LEVELS, present, strict=True)
    )
    voucher = Voucher(qos=QoS.BACKGROUND, service_class=service_class)
    expected = next(
        (chosen[name] for name, there in zip(LEVELS, present, strict=True) if there),
        ServiceClass.BACKGROUND,
    )
    assert service_class_of(context, connection, parameters, voucher) is expected


def test_the_lowest_levels() -> None:
    assert service_class_of(None, None, None, None) is ServiceClass.BEST_EFFORT
    for level, expected in (
        (QoS.BACKGROUND, ServiceClass.BACKGROUND), (QoS.UTILITY, ServiceClass.BEST_EFFORT),
        (QoS.DEFAULT, ServiceClass.BEST_EFFORT),
        (QoS.USER_INITIATED, ServiceClass.RESPONSIVE_DATA),
        (QoS.USER_INTERACTIVE, ServiceClass.RESPONSIVE_DATA),
    ):  # fmt: skip
        assert service_class_of(None, None, None, Voucher(qos=level)) is expected
        assert class_of_qos(level) is expected


def test_best_effort_is_a_choice() -> None:
    """The class whose number is 0 counts like any other."""
    chosen = service_class_of(ServiceClass.BEST_EFFORT, ServiceClass.OAM, None, URGENT)
    assert chosen is ServiceClass.BEST_EFFORT


def test_numbers() -> None:
    voice = ServiceClass.INTERACTIVE_VOICE
    assert (voice.value, voice.packet_class, voice.net_service_type) == (800, 0x00400180, 4)
    assert ServiceClass.SIGNALING.dscp("fastlane") == 24
    assert ServiceClass.SIGNALING.dscp("rfc4594") == 40
    assert ServiceClass.BACKGROUND.dscp("fastlane") == 10
    assert ServiceClass.CONTROL.net_service_type is None
    assert sorted(item.index for item in ServiceClass) == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    types = [item.net_service_type for item in ServiceClass if item.net_service_type is not None]
    assert sorted(types) == list(range(9))
    # XNU: SCIDX is in bits 19 and up of the PKT_SC number.
    for item in ServiceClass:
        index = ((item.packet_class >> 16) & 0xFF) >> 3
        assert index == (7 if item is ServiceClass.SIGNALING else item.index)


# ---- who inherits ----


def test_tasks_inherit_what_was_adopted_when_they_began(go: Go) -> None:
    seen: dict[str, QoS] = {}

    async def look(name: str) -> None:
        await anyio.sleep(0)
        seen[name] = current_voucher().qos
        with qos(QoS.BACKGROUND):
            await anyio.sleep(0)
        seen[f"{name} after"] = current_voucher().qos

    async def main() -> None:
        async with anyio.create_task_group() as outer:
            outer.start_soon(look, "before")
            with qos(QoS.UTILITY):
                outer.start_soon(look, "inside")
                async with anyio.create_task_group() as inner:
                    inner.start_soon(look, "nested")
                    with qos(QoS.BACKGROUND):
                        inner.start_soon(look, "lower")
                    inner.start_soon(look, "nested again")
            outer.start_soon(look, "later")
        # The child outlives the block in which it began, and keeps its voucher.
        assert seen == {
            "before": QoS.DEFAULT, "before after": QoS.DEFAULT,
            "inside": QoS.UTILITY, "inside after": QoS.UTILITY,
            "nested": QoS.UTILITY, "nested after": QoS.UTILITY,
            "lower": QoS.BACKGROUND, "lower after": QoS.BACKGROUND,
            "nested again": QoS.UTILITY, "nested again after": QoS.UTILITY,
            "later": QoS.DEFAULT, "later after": QoS.DEFAULT,
        }  # fmt: skip

    go(main)


def test_worker_threads_inherit(go: Go) -> None:
    async def main() -> tuple[QoS, QoS]:
        with qos(QoS.UTILITY):
            inside = await anyio.to_thread.run_sync(lambda: current_voucher().qos)
        return inside, await anyio.to_thread.run_sync(lambda: current_voucher().qos)

    assert go(main) == (QoS.UTILITY, QoS.DEFAULT)


def test_plain_threads_begin_without() -> None:
    seen: list[QoS] = []

    def look() -> None:
        seen.append(current_voucher().qos)

    with qos(QoS.UTILITY):
        context = contextvars.copy_context()
        for target in (look, lambda: context.run(look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert seen == [QoS.DEFAULT, QoS.UTILITY]


def test_an_abandoned_generator_takes_its_voucher_along(go: Go) -> None:
    """It ends in another context; what it left in this one forwards to what was there before."""

    async def numbers() -> AsyncGenerator[int, None]:
        with BACKGROUND.adopt():
            yield 1
            yield 2

    async def main() -> list[QoS]:
        seen = []
        with qos(QoS.UTILITY):
            generator = numbers()
            async for _ in generator:
                seen.append(current_voucher().qos)
                break

            async def end() -> None:
                await generator.aclose()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end)
            seen.append(current_voucher().qos)
        seen.append(current_voucher().qos)
        return seen

    # A generator's context is its caller's, so while it is in its block the caller is too.
    assert go(main) == [QoS.BACKGROUND, QoS.UTILITY, QoS.DEFAULT]


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # trio tells of them
def test_a_forgotten_generator(go: Go) -> None:
    @with_voucher(BACKGROUND)
    async def numbers() -> AsyncGenerator[QoS, None]:
        while True:
            yield current_voucher().qos

    async def main() -> list[QoS]:
        seen = []
        async for level in numbers():
            seen += [level, current_voucher().qos]
            break
        gc.collect()
        for _ in range(3):
            await anyio.sleep(0)
        return [*seen, current_voucher().qos]

    assert go(main) == [QoS.BACKGROUND, QoS.DEFAULT, QoS.DEFAULT]


def test_cancelled_tasks_leave_nothing(go: Go) -> None:
    async def main() -> QoS:
        async def busy() -> None:
            with BACKGROUND.adopt():
                await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(busy)
            await anyio.sleep(0)
            tasks.cancel_scope.cancel()
        with anyio.move_on_after(0), BACKGROUND.adopt():
            await anyio.sleep(0)
        return current_voucher().qos

    assert go(main) is QoS.DEFAULT


def test_an_adoption_is_entered_once() -> None:
    once = BACKGROUND.adopt()
    with once:
        pass
    with pytest.raises(RuntimeError, match="once"), once:
        pass


# ---- decorated ----


def test_a_decorated_function() -> None:
    @with_voucher(BACKGROUND)
    def level(of: str) -> tuple[str, QoS]:
        """Says where it is."""
        return of, current_voucher().qos

    assert level("work") == ("work", QoS.BACKGROUND)
    assert (level.__name__, level.__doc__) == ("level", "Says where it is.")
    assert current_voucher().qos is QoS.DEFAULT


def test_a_decorated_generator_runs_its_steps_under_the_voucher() -> None:
    seen: list[object] = []

    @with_voucher(BACKGROUND)
    def body() -> Generator[int, str, str]:
        try:
            seen.append(current_voucher().qos)
            seen.append((yield 1))
            try:
                yield 2
            except ZeroDivisionError:
                seen.append(current_voucher().qos)
            yield 3
            return "end"
        finally:
            seen.append(current_voucher().qos)

    steps = body()
    assert next(steps) == 1
    assert current_voucher().qos is QoS.DEFAULT
    assert steps.send("sent") == 2
    assert steps.throw(ZeroDivisionError()) == 3
    with pytest.raises(StopIteration) as caught:
        next(steps)
    assert caught.value.value == "end"
    low = QoS.BACKGROUND
    assert seen == [low, "sent", low, low]
    closed = body()
    next(closed)
    closed.close()
    assert seen[4:] == [low, low]


def test_a_decorated_coroutine(go: Go) -> None:
    @with_voucher(BACKGROUND)
    async def level() -> QoS:
        await anyio.sleep(0)
        return current_voucher().qos

    @with_voucher(BACKGROUND)
    async def echo() -> AsyncGenerator[object, object]:
        got: object = current_voucher().qos
        while True:
            try:
                got = yield got
            except ZeroDivisionError:
                got = current_voucher().qos

    async def main() -> list[object]:
        steps = echo()
        seen = [await level(), await anext(steps), await steps.asend("sent")]
        seen.append(await steps.athrow(ZeroDivisionError()))
        await steps.aclose()
        return [*seen, current_voucher().qos]

    low = QoS.BACKGROUND
    assert go(main) == [low, low, "sent", low, QoS.DEFAULT]


# ---- raising and lowering ----


def test_lowering_is_free_and_raising_is_not() -> None:
    own = Voucher(originator=PAYER, importance=3)
    assert own.derive(qos=QoS.BACKGROUND, importance=0).qos is QoS.BACKGROUND
    assert own.derive(activity=9, deadline=1.5, user_data=(("a", b"b"),)).activity == 9
    assert own.derive(originator=Originator("other")).originator == Originator("other")
    raises: list[dict[str, Any]] = [
        {"qos": QoS.USER_INITIATED}, {"importance": 4},
        {"service_class": ServiceClass.INTERACTIVE_VOICE},
        {"qos": QoS.BACKGROUND, "service_class": ServiceClass.RESPONSIVE_DATA},
    ]  # fmt: skip
    for changes in raises:
        with pytest.raises(PermissionError):
            own.derive(**changes)


def test_a_grant_raises_its_originators_vouchers_so_far() -> None:
    stack = Stacklike()
    grant = stack.originators.grant(
        PAYER, qos=QoS.USER_INITIATED, service_class=ServiceClass.RESPONSIVE_DATA
    )
    own = Voucher(originator=PAYER)
    assert own.derive(grant=grant, qos=QoS.USER_INITIATED).qos is QoS.USER_INITIATED
    with pytest.raises(PermissionError):
        own.derive(grant=grant, qos=QoS.USER_INTERACTIVE)
    with pytest.raises(PermissionError):
        own.derive(grant=grant, service_class=ServiceClass.CONTROL)
    with pytest.raises(PermissionError):
        Voucher(originator=Originator("other")).derive(grant=grant, qos=QoS.USER_INITIATED)
    grant.revoke()
    with pytest.raises(PermissionError):
        own.derive(grant=grant, qos=QoS.USER_INITIATED)


def test_qos_under_a_voucher_may_only_lower() -> None:
    with qos(QoS.USER_INITIATED), qos(QoS.UTILITY):
        assert current_voucher().qos is QoS.UTILITY
        with pytest.raises(PermissionError):
            qos(QoS.USER_INITIATED)
    paid = Voucher(originator=PAYER, service_class=ServiceClass.OAM)
    with paid.adopt(), qos(QoS.BACKGROUND):
        assert current_voucher() == Voucher(qos=QoS.BACKGROUND, originator=PAYER)


# ---- recipes ----

short = st.binary(max_size=9)
vouchers = st.builds(
    Voucher,
    qos=st.sampled_from(QoS),
    service_class=st.none() | st.sampled_from(ServiceClass),
    originator=st.none() | st.builds(Originator, st.text(min_size=1, max_size=60)),
    activity=st.integers(0, 2**64 - 1),
    importance=st.integers(0, 2**31 - 1),
    deadline=st.none() | st.floats(0, 1e12),
    user_data=st.lists(st.tuples(st.text(max_size=9), short), max_size=3).map(tuple),
    extra=st.lists(st.tuples(st.integers(8, 65535), short), max_size=3).map(tuple),
)


@given(vouchers)
def test_a_recipe_brings_back_what_was_granted(voucher: Voucher) -> None:
    stack = Stacklike()
    redeemed = Voucher.redeem(voucher.to_recipe(), stack)
    assert redeemed.qos <= QoS.DEFAULT
    assert redeemed.effective_class.rank <= ServiceClass.BEST_EFFORT.rank
    assert redeemed.importance == 0
    assert (redeemed.extra, redeemed.user_data) == (voucher.extra, voucher.user_data)
    assert redeemed.originator == voucher.originator
    if voucher.originator is not None:
        stack.originators.grant(voucher.originator)
        assert Voucher.redeem(voucher.to_recipe(), stack) == voucher


@given(st.binary(max_size=80))
def test_rubbish_is_refused_or_modest(recipe: bytes) -> None:
    try:
        voucher = Voucher.redeem(recipe, Stacklike())
    except ValueError:
        return
    assert voucher.qos <= QoS.DEFAULT


@given(vouchers, st.data())
def test_a_damaged_recipe(voucher: Voucher, data: st.DataObject) -> None:
    recipe = bytearray(voucher.to_recipe())
    recipe[data.draw(st.integers(0, len(recipe) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        redeemed = Voucher.redeem(bytes(recipe), Stacklike())
    except ValueError:
        return
    assert redeemed.qos <= QoS.DEFAULT


def test_too_long_a_recipe() -> None:
    with pytest.raises(ValueError, match="at most"):
        Voucher.redeem(bytes(70000), Stacklike())


# ---- numbers, and what comes from outside ----


def test_originators_have_numbers() -> None:
    numbers = Originators()
    assert numbers.intern(None) == 0
    first = numbers.intern(PAYER)
    assert first == numbers.intern(Originator("tenant-7")) == 1
    assert numbers.intern(Originator("b")) == 2
    assert numbers.originator(1) == PAYER
    assert numbers.originator(0) is numbers.originator(99) is None
    assert len(numbers) == 2
    for bad in ("", "x" * 256):
        with pytest.raises(ValueError, match="originator"):
            Originator(bad)


def test_originators_from_many_threads() -> None:
    numbers, names = Originators(), [Originator(str(i)) for i in range(200)]
    got: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: got.append([numbers.intern(name) for name in names]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [list(range(1, 201))] * 4


@pytest.mark.parametrize("dscp", range(64))
def test_a_dscp_is_no_privilege(dscp: int) -> None:
    voucher = received_voucher(dscp)
    low = dscp in (1, 8, 10, 12, 14)
    assert voucher.qos is (QoS.BACKGROUND if low else QoS.DEFAULT)
    assert voucher.effective_class.rank <= ServiceClass.BEST_EFFORT.rank
    assert voucher.originator is None


def test_what_a_handler_inherits() -> None:
    packet = received_voucher(8)
    assert received_voucher(46, URGENT) is URGENT
    assert inherited_voucher("connection", URGENT, packet) is URGENT
    assert inherited_voucher("connection", None, packet) == Voucher()
    assert inherited_voucher("packet", URGENT, packet) is packet
    assert inherited_voucher(None, URGENT, packet) is None
    with pytest.raises(ValueError, match="adopt"):
        inherited_voucher("both", None, packet)  # type: ignore[arg-type]
