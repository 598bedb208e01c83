"""The contract of a byte stream, as checks that every implementation has to pass.

It is anyio's ByteStream as its documentation and its own sockets have it, and no more, so the
host's sockets pass as well as everything of ours. A :class:`Pair` is two streams that
are connected; each check gets a fresh one, in a running event loop. What an implementation
cannot do by its nature the pair says, and only those checks are left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import anyio.abc
import pytest
from anyio.abc import ByteStream

__all__ = ["CHECKS", "Pair", "PairFactory", "checks_for"]

MANY: Final = 256 * 1024  # bytes; several of everybody's reads
FLOOD: Final = 24 * 1024 * 1024  # bytes; more than all buffers between the two
GONE: Final = (anyio.EndOfStream, anyio.BrokenResourceError)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two streams; what one sends the other receives."""

    near: ByteStream
    far: ByteStream


FACTS: Final = frozenset({
    "half_close",  # send_eof() works
    "guards",  # a second task in one direction is refused
    "counts_bytes",  # one large send waits for its reader
    "back_pressure",  # so do many
    "refuses_zero",  # receive(0) is a ValueError
    "ends_cleanly",  # aclose() needs nothing of the peer, who reads EndOfStream
    "wakes_receiver",  # aclose() ends a receive() of another task
    "knows_closed",  # ClosedResourceError after aclose(), however that ended
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class PairFactory:
    """Makes pairs, and says what these cannot do."""

    name: str
    make: Callable[[], AbstractAsyncContextManager[Pair]]
    loops: tuple[str, ...] = ("asyncio", "uvloop", "trio")
    lacks: frozenset[str] = frozenset()  # names out of FACTS
    lacks_on_uvloop: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


Check = Callable[[Pair], Awaitable[None]]
CHECKS: Final[dict[str, tuple[frozenset[str], Check]]] = {}


def check(*needs: str) -> Callable[[Check], Check]:
    """Register a check for streams that have the facts *needs*."""
    assert FACTS.issuperset(needs)

    def register(fn: Check) -> Check:
        CHECKS[fn.__name__] = (frozenset(needs), fn)
        return fn

    return register


def checks_for(factory: PairFactory, loop: str) -> list[str]:
    """The names of the checks that apply."""
    lacks = factory.lacks | (factory.lacks_on_uvloop if loop == "uvloop" else frozenset())
    assert FACTS.issuperset(lacks)
    return [name for name, (needs, _) in CHECKS.items() if not needs & lacks]


async def read(stream: ByteStream, count: int, at_most: int = 65536) -> bytes:
    """Exactly *count* bytes."""
    parts = []
    while count:
        parts.append(await stream.receive(min(count, at_most)))
        assert 0 < len(parts[-1]) <= min(count, at_most)
        count -= len(parts[-1])
    return b"".join(parts)


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def send_in_pieces(stream: ByteStream, data: bytes, seed: int) -> None:
    """Pieces of one byte to several segments."""
    dice, at = random.Random(seed), 0
    while at < len(data):
        size = int(2 ** (dice.random() * 18))
        await stream.send(data[at : at + size])
        at += size


async def settled(*streams: ByteStream) -> None:
    """Until every task waits for something that is not there."""
    await anyio.wait_all_tasks_blocked()


# ---- bytes ----


@check()
async def bytes_arrive_in_order(pair: Pair) -> None:
    for near, far in ((pair.near, pair.far), (pair.far, pair.near)):
        await near.send(b"first, ")
        await near.send(b"second")
        assert await read(far, 13) == b"first, second"


@check()
async def receive_gives_no_more_than_asked(pair: Pair) -> None:
    await pair.near.send(b"0123456789")
    assert await pair.far.receive(1) == b"0"
    assert await read(pair.far, 9, at_most=4) == b"123456789"


@check("refuses_zero")
async def receive_of_nothing_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is not anyio's to fix
        await pair.far.receive(0)


@check()
async def an_empty_send_sends_nothing(pair: Pair) -> None:
    await pair.near.send(b"")
    await pair.near.send(b"x")
    assert await pair.far.receive() == b"x"


@check()
async def much_arrives_as_it_was_in_both_directions_at_once(pair: Pair) -> None:
    there, back = noise(1, MANY), noise(2, MANY)
    dice = random.Random(3)
    got: dict[str, bytes] = {}

    async def receive(name: str, stream: ByteStream) -> None:
        parts, left = [], MANY
        while left:
            parts.append(await stream.receive(dice.randint(1, 100_000)))
            left -= len(parts[-1])
        got[name] = b"".join(parts)

    async with anyio.create_task_group() as group:
        group.start_soon(receive, "there", pair.far)
        group.start_soon(receive, "back", pair.near)
        group.start_soon(send_in_pieces, pair.near, there, 4)
        group.start_soon(send_in_pieces, pair.far, back, 5)
    assert got == {"there": there, "back": back}


@check()
async def one_large_send_arrives_whole(pair: Pair) -> None:
    data = noise(6, 8 * MANY)
    async with anyio.create_task_group() as group:
        group.start_soon(pair.near.send, data)
        assert await read(pair.far, len(data)) == data


@check("back_pressure")
async def a_sender_waits_for_its_reader(pair: Pair) -> None:
    sent = 0

    async def flood() -> None:
        nonlocal sent
        piece = bytes(MANY)
        while sent < FLOOD:
            await pair.near.send(piece)
            sent += len(piece)

    async with anyio.create_task_group() as group:
        group.start_soon(flood)
        await settled()
        assert sent < FLOOD, "a peer that does not read should stop the sender"
        await read(pair.far, sent)
        group.cancel_scope.cancel()


# ---- ends ----


@check("half_close")
async def a_half_closed_stream_still_receives(pair: Pair) -> None:
    await pair.near.send(b"question")
    await pair.near.send_eof()
    await pair.near.send_eof()
    assert await read(pair.far, 8) == b"question"
    for _ in range(2):
        with pytest.raises(anyio.EndOfStream):
            await pair.far.receive()
    await pair.far.send(b"answer")
    assert await read(pair.near, 6) == b"answer"
    await pair.far.send_eof()
    with pytest.raises(anyio.EndOfStream):
        await pair.near.receive()


@check("half_close")
async def data_in_flight_survives_a_half_close(pair: Pair) -> None:
    data = noise(7, MANY)
    got: list[bytes] = []

    async def answer() -> None:
        async for part in pair.far:
            got.append(part)
        await pair.far.send(data)
        await pair.far.send_eof()

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        await pair.near.send(data)
        await pair.near.send_eof()
        assert await read(pair.near, MANY) == data
    assert b"".join(got) == data


@check("ends_cleanly")
async def a_closed_stream_ends_the_other(pair: Pair) -> None:
    await pair.near.send(b"last words")
    async with anyio.create_task_group() as group:
        group.start_soon(pair.near.aclose)
        assert await read(pair.far, 10) == b"last words"
        with pytest.raises(anyio.EndOfStream):
            await pair.far.receive()
        await pair.far.aclose()


@check("knows_closed")
async def a_closed_stream_says_so(pair: Pair) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(pair.far.aclose)
        await pair.near.aclose()
    await pair.near.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await pair.near.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await pair.near.send(b"x")


@check("wakes_receiver")
async def closing_ends_a_receive(pair: Pair) -> None:
    ended = []

    async def receive() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await pair.near.receive()
        ended.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await settled()
        group.start_soon(pair.far.aclose)
        group.start_soon(pair.near.aclose)
    assert ended


@check()
async def sending_to_one_who_has_gone_breaks(pair: Pair) -> None:
    await anyio.aclose_forcefully(pair.far)

    async def flood() -> None:
        while True:
            await pair.near.send(bytes(65536))

    with pytest.raises(anyio.BrokenResourceError):
        await flood()


@check("knows_closed")
async def closing_under_cancellation_releases(pair: Pair) -> None:
    await anyio.aclose_forcefully(pair.near)
    with pytest.raises(anyio.ClosedResourceError):
        await pair.near.receive()
    with pytest.raises(GONE):
        await read(pair.far, FLOOD)


# ---- one task in each direction ----


@check("guards")
async def a_second_receiver_is_refused(pair: Pair) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(pair.near.receive)
        await settled()
        with pytest.raises(anyio.BusyResourceError):
            await pair.near.receive()
        await pair.far.send(b"x")


@check("guards", "counts_bytes")
async def a_second_sender_is_refused(pair: Pair) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(pair.near.send, bytes(FLOOD))
        await settled()
        with pytest.raises(anyio.BusyResourceError):
            await pair.near.send(b"x")
        group.cancel_scope.cancel()


# ---- cancellation ----


@check()
async def a_cancelled_receive_loses_nothing(pair: Pair) -> None:
    data = noise(8, 20_000)
    got = b""
    waiting = 0

    async def trickle() -> None:
        dice, at = random.Random(9), 0
        while at < len(data):
            size = dice.randint(1, 900)
            await pair.near.send(data[at : at + size])
            at += size
            for _ in range(dice.randint(0, 3)):
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(trickle)
        dice = random.Random(10)
        while len(got) < len(data):
            with anyio.CancelScope() as scope:
                turns = dice.randint(0, 3)
                async with anyio.create_task_group() as inner:

                    async def cancel(turns: int, scope: anyio.CancelScope) -> None:
                        for _ in range(turns):
                            await anyio.lowlevel.checkpoint()
                        scope.cancel()

                    inner.start_soon(cancel, turns, scope)
                    got += await pair.far.receive(dice.randint(1, 700))
            waiting += scope.cancelled_caught
    assert got == data
    assert waiting, "no receive was cancelled while it waited"


@check()
async def a_receive_in_a_cancelled_scope_takes_nothing(pair: Pair) -> None:
    await pair.near.send(b"ab")
    assert await pair.far.receive(1) == b"a"
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pair.far.receive()
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    # What had been handed over before the scope was left is the caller's; nothing else is gone.
    await pair.near.send(b"c")
    assert (await read(pair.far, 1)) in (b"b", b"c")


@check("counts_bytes")
async def a_cancelled_send_ends_at_once(pair: Pair) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(pair.near.send, bytes(FLOOD))
            await settled()
            scope.cancel()
    assert scope.cancelled_caught


@check()
async def attributes_can_be_asked_for(pair: Pair) -> None:
    for attribute in (anyio.abc.SocketAttribute.remote_address, object()):
        value: Any = pair.near.extra(attribute, math.inf)
        assert value == math.inf or isinstance(value, tuple)
