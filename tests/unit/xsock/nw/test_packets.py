"""Memory lent: in place, never used again while anybody looks, whole at the end."""

import random
from typing import Any

import anyio
import pytest

from xsock import nw

pytestmark = pytest.mark.anyio


async def test_a_packet_shows_what_was_received_and_ends_with_its_block(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"payload")
    with await far.receive_packet() as packet:
        assert bytes(packet.data) == packet.copy() == b"payload"
        assert packet.data.readonly
        assert len(packet) == 7
        kept = packet.data[2:5]
    with pytest.raises(ValueError, match="given back"):
        packet.data  # noqa: B018
    for _ in range(50):
        await near.send(b"x" * 500)
        await far.receive_exactly(500)
    assert bytes(kept) == b"ylo"
    del kept


async def test_payload_is_not_copied(net: Any) -> None:
    """What the sender reserved is what the receiver is lent: the same addresses."""
    near, far = await net.pair()
    with await near.reserve(1400) as room:
        room.view[:] = b"hello, you" * 140
        where = address(room.view)
        room.commit(1400)
    with await far.receive_packet() as packet:
        assert bytes(packet.data) == b"hello, you" * 140
        assert address(packet.data) == where


def address(view: memoryview) -> int:
    """Where a view lies."""
    from bsdcore._ffi import ffi

    return int(ffi.cast("uintptr_t", ffi.from_buffer(view)))


async def test_reserved_and_not_committed_nothing_is_sent(net: Any) -> None:
    near, far = await net.pair()
    with await near.reserve(10):
        pass
    with await near.reserve(10) as room:
        with pytest.raises(ValueError, match="can be sent"):
            room.commit(11)
        room.view[:2] = b"ok"
        room.commit(2)
        with pytest.raises(ValueError, match="sent"):
            room.view  # noqa: B018
    assert await far.receive() == b"ok"


async def test_forwarding_moves_memory_from_one_connection_to_another(net: Any) -> None:
    near, middle_in = await net.pair()
    middle_out, far = await net.pair()
    data = random.Random(1).randbytes(200_000)
    got = bytearray()

    async def relay() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(near.send, data)
            moved = 0
            while moved < len(data):
                with await middle_in.receive_batch(8) as batch:
                    moved += sum(batch.lengths)
                    while len(batch) and not batch.forward(middle_out):
                        await middle_out.wait_send_capacity()
                    while len(batch):
                        await middle_out.wait_send_capacity()
                        batch.forward(middle_out)
        await middle_out.send_eof()

    async with anyio.create_task_group() as group:
        group.start_soon(relay)
        async for piece in far:
            got += piece
    assert got == data


async def test_send_many_takes_packets(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"middle")
    with await far.receive_packet() as packet:
        assert await far.send_many([b"<", packet, b">"]) == 3
        with pytest.raises(ValueError, match="given back"):
            packet.copy()
    assert await near.receive_exactly(8) == b"<middle>"


async def test_a_batch_is_columns_and_packets_on_demand(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"abc")
    with await far.receive_batch() as batch:
        assert list(batch.lengths) == [3]
        assert batch.copies() == [b"abc"]
        assert bytes(batch.views()[0]) == b"abc"
        assert [p.copy() for p in batch] == [b"abc"]
        kept = batch[0].retain()
        batch.select([False])
        assert len(batch) == 0
    assert kept.detach() == b"abc"
    assert far.try_receive_batch() is None


async def test_leaked_slices_keep_their_bytes_and_their_memory_comes_back(net: Any) -> None:
    rng = random.Random(7)
    near, far = await net.pair()
    leaked: list[tuple[memoryview, bytes]] = []
    for turn in range(600):
        data = rng.randbytes(rng.randrange(1, 3000))
        await near.send(data)
        got = b""
        while len(got) < len(data):
            with await far.receive_packet() as packet:
                at = len(got)
                for segment in packet.segments:
                    if rng.random() < 0.2:
                        leaked.append((segment[:100], data[at : at + 100]))
                    at += len(segment)
                got += packet.copy()
        assert got == data
        if turn % 50 == 49:
            for view, expected in leaked:
                assert bytes(view) == expected[: len(view)]
            del leaked[: len(leaked) // 2]
    assert net.stack.driver.core_memory()["lent"] > 0
    leaked.clear()
    del view, segment, packet
    assert net.stack.driver.core_memory()["lent"] == 0


async def test_beyond_what_may_be_lent_packets_are_copies(net: Any) -> None:
    net.stack.driver.core.sysctl["kern.ipc.lendmax"] = 65536
    near, far = await net.pair()
    kept = []
    for number in range(100):
        data = bytes([number]) * 3000
        await near.send(data)
        with await far.receive_packet() as packet:
            kept.append((packet.retain(), data))
    for packet, data in kept:
        assert packet.copy() == data
    for packet, _ in kept:
        packet.release()
    kept.clear()
    del packet


async def test_halves_and_batch_scope(net: Any) -> None:
    near, far = await net.pair()
    receive, send = near.split()
    with near.batch():
        await send.send(b"one")
        await send.send(b"two")
    assert await far.receive_exactly(6) == b"onetwo"
    await send.aclose()
    with pytest.raises(anyio.EndOfStream):
        await far.receive()
    await far.send(b"still")
    assert await receive.receive() == b"still"


async def test_idempotent_data_goes_with_the_connection(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        conn = net.stack.connection(listener.local)
        conn.send_idempotent(b"early")
        far = await listener.accept()
        assert await far.receive() == b"early"
        assert conn.state is nw.State.READY
        conn.abort()
        far.abort()
