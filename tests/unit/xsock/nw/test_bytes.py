"""Streams of bytes: receiving in all its forms, back-pressure, cancellation."""

import asyncio
import random
from typing import Any

import anyio
import pytest

from xsock import nw

pytestmark = pytest.mark.anyio


async def test_receive_takes_no_more_than_asked(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"abcdef")
    assert [await far.receive(2) for _ in range(3)] == [b"ab", b"cd", b"ef"]


async def test_receive_range_and_exactly_and_until(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"12345")
    await near.send(b"line one\r\nline two\r\n\x01\x02rest")
    assert await far.receive_exactly(3) == b"123"
    chunk = await far.receive_range(2, 2)
    assert (chunk.data, chunk.is_complete) == (b"45", False)
    assert await far.receive_until(b"\r\n", 100) == b"line one"
    with pytest.raises(anyio.DelimiterNotFound):
        await far.receive_until(b"\r\n", 3)
    assert await far.receive_until(b"\r\n", 8) == b"line two"
    assert await far.receive_int(2) == 0x102
    await near.send_eof()
    with pytest.raises(anyio.IncompleteRead):
        await far.receive_exactly(5)
    with pytest.raises(anyio.IncompleteRead):
        await far.receive_until(b"\n", 100)
    chunk = await far.receive_range(100, 200)
    assert (chunk.data, chunk.is_complete) == (b"rest", True)
    with pytest.raises(anyio.EndOfStream):
        await far.receive_range()


async def test_receive_into(net: Any) -> None:
    near, far = await net.pair()
    room = bytearray(8)
    await near.send(b"abc")
    assert await far.receive_into(room) == 3
    await near.send(b"defghijk", end_of_stream=True)
    assert await far.receive_into(memoryview(room)[3:], at_least=5) == 5
    assert room == b"abcdefgh"
    assert await far.receive_into(room) == 3
    assert await far.receive_into(room) == 0


async def test_a_cancelled_receive_consumes_nothing(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"data")
    net.stack.driver.pump()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await far.receive()
    assert scope.cancelled_caught
    assert await far.receive() == b"data"


async def test_cancelled_while_the_data_was_on_its_way(net: Any) -> None:
    """The task is cancelled after the driver woke it and before it runs."""
    near, far = await net.pair()
    got = []

    async def receive() -> None:
        got.append(await far.receive())

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        await near.send(b"data")
        net.stack.driver.pump()
        group.cancel_scope.cancel()
    if not got:
        with anyio.fail_after(1):
            got.append(await far.receive())
    assert got == [b"data"]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "uvloop"], indirect=True)
async def test_cancelled_by_asyncio_itself_while_the_data_was_on_its_way(net: Any) -> None:
    near, far = await net.pair()
    task = asyncio.ensure_future(far.receive())
    await asyncio.sleep(0)
    await near.send(b"data")
    net.stack.driver.pump()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with anyio.fail_after(1):
        assert await far.receive() == b"data"


async def test_a_cancelled_receive_exactly_gives_back_what_it_had(net: Any) -> None:
    near, far = await net.pair()
    async with anyio.create_task_group() as group:
        group.start_soon(far.receive_exactly, 10)
        await anyio.wait_all_tasks_blocked()
        await near.send(b"12345")
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert await far.receive(3) == b"123"
    await near.send(b"67890")
    assert await far.receive_exactly(7) == b"4567890"


@pytest.mark.parametrize("seed", range(6))
async def test_cancel_storm_loses_and_duplicates_no_byte(net: Any, seed: int) -> None:
    rng = random.Random(seed)
    near, far = await net.pair()
    sent, got = bytearray(), bytearray()
    total = 300_000

    async def sender() -> None:
        while len(sent) < total:
            data = rng.randbytes(rng.choice((1, 64, 700, 20_000)))
            with anyio.CancelScope() as scope:
                if rng.random() < 0.1:
                    scope.cancel()
                await near.send(data)
            if not scope.cancelled_caught:
                sent.extend(data)
            if rng.random() < 0.2:
                await anyio.lowlevel.checkpoint()
        await near.send_eof()

    async def receiver() -> None:
        kinds = 3
        while True:
            scope = anyio.CancelScope()
            if rng.random() < 0.2:
                scope.cancel()
            async with anyio.create_task_group() as storm:

                async def strike(scope: anyio.CancelScope = scope) -> None:
                    for _ in range(rng.randrange(4)):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                if rng.random() < 0.5:
                    storm.start_soon(strike)
                with scope:
                    try:
                        match rng.randrange(kinds):
                            case 0:
                                got.extend(await far.receive(rng.choice((1, 100, 65536))))
                            case 1:
                                chunk = await far.receive_range(rng.choice((1, 50, 5000)))
                                got.extend(chunk.data)
                            case _:
                                got.extend(await far.receive_exactly(rng.choice((1, 30, 3000))))
                    except anyio.IncompleteRead:
                        kinds = 2  # the rest is shorter
                    except anyio.EndOfStream:
                        return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(sender)
            group.start_soon(receiver)
    assert got == sent


async def test_a_slow_peer_is_bounded_by_the_high_water_mark(net: Any) -> None:
    high = 32_768
    near, _far = await net.pair(
        nw.Parameters(send_high_water=high),
        nw.Parameters(receive_window=16_384),
    )
    sent = 0
    with anyio.move_on_after(0.2):
        while True:
            await near.send(bytes(1000))
            sent += 1000
    assert 0 < near.send_queue <= high
    assert high <= sent <= high + 3 * 16_384


async def test_a_send_cancelled_half_way_says_so_and_ends_sending(net: Any) -> None:
    near, far = await net.pair()
    size = 5_000_000
    with anyio.move_on_after(0.05) as scope:
        await near.send(bytes(size))
    assert scope.cancelled_caught
    assert 0 < near.send_accepted < size
    with pytest.raises(anyio.BrokenResourceError, match=f"{near.send_accepted} of {size}"):
        await near.send(b"x")
    got = 0
    with anyio.move_on_after(0.5):
        while got < near.send_accepted:
            got += len(await far.receive())
    assert got == near.send_accepted


async def test_large_and_small_sends_keep_their_order(net: Any) -> None:
    near, far = await net.pair()
    parts = [b"a" * 10, b"b" * 100_000, b"c" * 5, b"d" * 300_000, b"e"]

    async def send() -> None:
        assert await near.send_many(parts) == len(parts)
        await near.send_eof()

    got = bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(send)
        async for data in far:
            got += data
    assert got == b"".join(parts)


async def test_wait_send_capacity_of_a_connection_that_ends(net: Any) -> None:
    near, far = await net.pair()
    while near.try_send(bytes(50_000)):
        net.stack.driver.pump()
    seen = []

    async def wait() -> None:
        try:
            await near.wait_send_capacity()
        except anyio.ClosedResourceError as error:
            seen.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            near.abort()
    assert len(seen) == 1
    with pytest.raises(anyio.ClosedResourceError):
        await near.wait_send_capacity()
    far.abort()


async def test_wait_send_capacity_after_send_eof(net: Any) -> None:
    near, _ = await net.pair()
    await near.send_eof()
    with pytest.raises(anyio.ClosedResourceError):
        await near.wait_send_capacity()


async def test_wait_send_capacity(net: Any) -> None:
    near, far = await net.pair()
    while near.try_send(bytes(50_000)):
        net.stack.driver.pump()

    async def drain() -> None:
        for _ in range(20):
            await far.receive()

    async with anyio.create_task_group() as group:
        group.start_soon(drain)
        with anyio.fail_after(5):
            await near.wait_send_capacity()
        assert near.try_send(b"x") == 1
        group.cancel_scope.cancel()
