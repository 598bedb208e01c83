"""Datagrams: one peer, many peers, batches."""

from typing import Any

import anyio
import pytest

from xsock import nw

pytestmark = pytest.mark.anyio


async def test_a_connection_and_a_socket(net: Any) -> None:
    async with (
        net.stack.datagram_socket(("127.0.0.1", 0)) as far,
        net.stack.connection(far.local, nw.UDP()) as near,
    ):
        assert isinstance(near, nw.DatagramConnection)
        await near.send(b"one")
        await near.send(nw.Message(b"two"))
        data, sender = await far.receive()
        assert (data, sender) == (b"one", near.local)
        assert (await far.receive())[0] == b"two"
        await far.send(b"back", sender)
        assert (await near.receive()).content == b"back"
    with pytest.raises(anyio.ClosedResourceError):
        await near.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await far.receive()


async def test_batches_keep_boundaries_and_senders(net: Any) -> None:
    async with (
        net.stack.datagram_socket(("127.0.0.1", 0)) as far,
        net.stack.datagram_socket(("127.0.0.1", 0)) as one,
        net.stack.datagram_socket(("127.0.0.1", 0)) as two,
    ):
        sent: dict[int, list[bytes]] = {one.port: [], two.port: []}
        for number in range(40):
            for source in (one, two):
                data = bytes([number]) * (1 + number % 7)
                sent[source.port].append(data)
                assert await source.send_many([(data, far.local)]) == 1
        got: dict[int, list[bytes]] = {one.port: [], two.port: []}
        while sum(map(len, got.values())) < 80:
            with await far.receive_batch() as batch:
                assert list(batch.lengths) == [len(v) for v in batch.views()]
                assert len(batch.timestamps) == len(batch.ecn) == len(batch)
                for packet in batch:
                    got[packet.remote.port].append(packet.copy())
                kept = batch.views()[0]
            with pytest.raises(ValueError, match="given back"):
                batch.views()
            assert len(kept) >= 1
        assert got == sent
        assert far.try_receive_batch() is None


async def test_a_batch_of_equal_ones_and_forwarding(net: Any) -> None:
    async with (
        net.stack.datagram_socket(("127.0.0.1", 0)) as end,
        net.stack.datagram_socket(("127.0.0.1", 0)) as middle,
        net.stack.connection(middle.local, nw.UDP()) as near,
        net.stack.connection(end.local, nw.UDP()) as onward,
    ):
        parts = [bytes([n]) * 64 for n in range(64)]
        assert await near.send_many(parts) == 64
        moved = 0
        while moved < 64:
            with await middle.receive_batch() as batch:
                moved += batch.forward(onward)
        got: list[bytes] = []
        while len(got) < 64:
            with await end.receive_batch() as batch:
                got += batch.copies()
        assert got == parts


async def test_too_large(net: Any) -> None:
    async with (
        net.stack.datagram_socket(("127.0.0.1", 0)) as far,
        net.stack.connection(far.local, nw.UDP()) as near,
    ):
        with pytest.raises(nw.MessageTooLarge):
            await near.send(bytes(70_000))


async def test_nobody_there(net: Any) -> None:
    async with net.stack.connection(("127.0.0.1", 9), nw.UDP()) as near:
        await near.send(b"x")
        with anyio.fail_after(1), pytest.raises(ConnectionRefusedError):
            await near.receive()
        assert near.state is nw.State.READY


async def test_a_cancelled_receive_consumes_nothing(net: Any) -> None:
    async with (
        net.stack.datagram_socket(("127.0.0.1", 0)) as far,
        net.stack.connection(far.local, nw.UDP()) as near,
    ):
        await near.send_many([b"a", b"b"])
        assert (await far.receive())[0] == b"a"
        with anyio.CancelScope() as scope:
            scope.cancel()
            await far.receive()
        assert scope.cancelled_caught
        assert (await far.receive())[0] == b"b"


async def test_datagrams_go_under_the_voucher_of_their_send(net: Any) -> None:
    payer = nw.Originator("tenant-7")
    urgent = nw.Voucher(service_class=nw.ServiceClass.INTERACTIVE_VOICE, originator=payer)
    signal = nw.ContentContext(service_class=nw.ServiceClass.SIGNALING)

    def seen(originator: nw.Originator | None) -> dict[nw.ServiceClass, int]:
        classes = net.stack.ledger[originator].classes
        return {kind: n for kind, traffic in classes.items() if (n := traffic.packets_out)}

    async with (
        net.stack.datagram_socket(("127.0.0.1", 0)) as far,
        net.stack.connection(far.local, nw.UDP()) as near,
    ):
        await near.send(b"plain")
        with urgent.adopt():
            await near.send(b"voice")
            await near.send(nw.Message(b"signal", signal))
            assert await near.send_many([b"a", b"b"]) == 2
            await far.send(b"back", near.local)
            assert await far.send_many([(b"c", near.local), (b"d", near.local)]) == 2
        assert await far.send_many([(b"e", near.local)]) == 1
        near.set_service_class(nw.ServiceClass.OAM)
        await near.send(b"oam")
        assert seen(payer) == {
            nw.ServiceClass.INTERACTIVE_VOICE: 6,
            nw.ServiceClass.SIGNALING: 1,
        }
        assert seen(None) == {nw.ServiceClass.BEST_EFFORT: 2, nw.ServiceClass.OAM: 1}
