"""The contract of a channel, as checks that every kind of pair has to pass.

A :class:`Pair` is a channel under test, ``near``, whose other end sends back
what it gets: another channel of this process that ``pump`` drives, one in
another process, or a kernel pipe's provider. ``check_channel`` gets a function
that makes fresh pairs with given parameters.
"""

from __future__ import annotations

import gc
import select
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from skywalk import Channel, ChannelError, ChannelParams, Direction, Meta, Packet, Reason

__all__ = ["CHECKS", "Pair", "PairFactory", "check_channel", "echo"]

WAIT = 10.0
PARAMS = ChannelParams(slots=16, packets=24, buffer=256, buflets=12, max_frags=4)


def _pump_nothing() -> None:
    """The other end works by itself."""


@dataclass(slots=True)
class Pair:
    """*pump* lets the other end send back what has come to it."""

    near: Channel
    pump: Callable[[], None] = _pump_nothing

    def receive(self, count: int) -> list[Packet]:
        """Exactly *count* packets, or fewer when the wait was in vain."""
        got: list[Packet] = []
        while len(got) < count:
            self.pump()
            batch = self.near.rx.receive_batch(count - len(got))
            got += batch
            if not batch and not self.near.wait_readable(WAIT):
                break
        return got

    def settle(self) -> None:
        """Wait until all that was sent is free again."""
        for _ in range(1000):
            self.pump()
            self.near.sync()
            if self.near.statistics().given == 0:
                return
            select.select([], [], [], 0.01)
        raise AssertionError("the other end keeps packets")


PairFactory = Callable[[ChannelParams], AbstractContextManager[Pair]]


def echo(channel: Channel) -> None:
    """Send back what is there, as far as there is room."""
    while len(channel.tx) > 0 and (batch := channel.rx.receive_batch(1)):
        for packet in batch:
            assert channel.tx.send(bytes(packet), packet.meta)
    channel.sync()


@contextmanager
def opened(factory: PairFactory, params: ChannelParams = PARAMS) -> Iterator[Pair]:
    """A pair whose pool is whole at the end."""
    with factory(params) as pair:
        yield pair
        if pair.near.reason is Reason.ACTIVE:
            pair.receive(0)
            for _ in pair.near.rx:
                pass
            gc.collect()
            pair.settle()
            statistics = pair.near.statistics()
            assert (statistics.free, statistics.held) == (pair.near.params.packets, 0)


def check_packets_come_back_whole_and_in_order(factory: PairFactory) -> None:
    with opened(factory) as pair:
        sizes = [0, 1, 63, 64, 255, 256, 257, 512, 513, 1024]
        for turn in range(10):
            sent = [bytes([turn, i] * 512)[:size] for i, size in enumerate(sizes)]
            got = []
            for data in sent:
                assert pair.near.tx.send(data)
                got += [bytes(packet) for packet in pair.receive(1)]
            assert got == sent


def check_columns(factory: PairFactory) -> None:
    with opened(factory) as pair:
        lengths = array("I", [3, 0, 200, 7])
        data = bytes(range(210))
        assert pair.near.tx.send_batch(data, lengths) == 4
        assert b"".join(bytes(p) for p in pair.receive(4)) == data
        assert pair.near.tx.send_batch(data, [1, 2]) == 2
        buffer = bytearray(4096)
        got = array("I")
        at = b""
        while len(got) < 2:
            pair.pump()
            assert pair.near.wait_readable(WAIT)
            some = pair.near.rx.receive_into(buffer)
            got += some
            at += buffer[: sum(some)]
        assert list(got) == [1, 2]
        assert at == data[:3]


def check_metadata_travels(factory: PairFactory) -> None:
    with opened(factory) as pair:
        meta = Meta(time=2**63, flowid=7, origin=9, csum_start=34, csum_offset=16, gso_size=1460,
                    hdrlen=54, gso_type=1, flags=1, svc=5)  # fmt: skip
        assert pair.near.tx.send(b"x", meta)
        (packet,) = pair.receive(1)
        assert packet.meta == meta


def check_in_place(factory: PairFactory) -> None:
    with opened(factory) as pair:
        with pair.near.tx.reserve(3) as room:
            assert len(room) == 3
            room[0][:5] = b"hello"
            room[1][:] = bytes(256)
            assert room.send([5, 256]) == 2
            assert len(room) == 1
        assert [bytes(p) for p in pair.receive(2)] == [b"hello", bytes(256)]
        assert pair.near.statistics().copied == 5 + 256 - 261  # nothing was copied here


def check_a_packet_given_cannot_be_written(factory: PairFactory) -> None:
    with opened(factory) as pair:
        with pair.near.tx.reserve() as room:
            kept = room[0][:4]
            with pytest.raises(BufferError):
                room.send([4])
            again = room[0][:4]
            del kept
            with pytest.raises(BufferError):
                room.send([4])
            del again
            view = room[0]
            assert room.send([4]) == 1
            with pytest.raises(ValueError, match="released"):
                view[0] = 1
        assert len(pair.receive(1)) == 1


def check_lent_memory_is_kept(factory: PairFactory) -> None:
    with opened(factory) as pair:
        assert pair.near.tx.send(b"0123456789")
        view = pair.receive(1)[0].data
        part = view[2:5]
        assert view.readonly
        del view
        for i in range(100):
            assert pair.near.tx.send(bytes([i]) * 256)
            assert len(pair.receive(1)) == 1
        assert bytes(part) == b"234"
        assert pair.near.statistics().lent == 1
        del part
        assert pair.near.statistics().lent == 0


def check_full_loses_nothing(factory: PairFactory) -> None:
    with opened(factory) as pair:
        sent, got = 0, 0
        while got < 300:
            if sent < 300 and pair.near.tx.send(sent.to_bytes(4, "big") * 60):
                sent += 1
                continue
            # Who keeps all that the other end has would wait for ever.
            (packet,) = pair.receive(1)
            assert bytes(packet) == got.to_bytes(4, "big") * 60
            got += 1


def check_too_long_is_refused(factory: PairFactory) -> None:
    with opened(factory) as pair:
        with pytest.raises(ValueError, match="at most 1024 bytes"):
            pair.near.tx.send(bytes(1025))
        with pytest.raises(ValueError, match="add up"):
            pair.near.tx.send_batch(b"abc", [2, 2])
        with pair.near.tx.reserve() as room, pytest.raises(ValueError, match="at most 256"):
            room.send([257])
        assert pair.near.statistics().txpkts == 0


def check_waiting(factory: PairFactory) -> None:
    with opened(factory) as pair:
        assert not pair.near.wait_readable(0.01)
        assert pair.near.wait_writable(WAIT)
        assert not pair.near.arm(Direction.RX)
        poller = select.poll()
        poller.register(pair.near, select.POLLIN)
        assert pair.near.tx.send(b"x")
        pair.pump()
        assert poller.poll(WAIT * 1000)
        assert pair.near.wait_readable(WAIT)
        assert len(pair.receive(1)) == 1


def check_closing(factory: PairFactory) -> None:
    with opened(factory) as pair:
        assert pair.near.tx.send(b"last")
        view = pair.receive(1)[0].data
        pair.near.close()
        pair.near.close()
        assert bytes(view) == b"last"
        assert pair.near.reason is Reason.CLOSED
        with pytest.raises(ChannelError) as info:
            pair.near.tx.send(b"x")
        assert info.value.reason is Reason.CLOSED
        with pytest.raises(ChannelError):
            pair.near.rx.receive_batch()


def check_defunct(factory: PairFactory) -> None:
    with opened(factory) as pair:
        assert pair.near.tx.send(b"here")
        view = pair.receive(1)[0].data
        pair.near.defunct()
        assert bytes(view) == bytes(4)
        with pytest.raises(ChannelError, match="DEFUNCT"):
            pair.near.tx.send(b"x")
        with pytest.raises(ChannelError, match="DEFUNCT"):
            pair.near.wait_readable()


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


def check_channel(factory: PairFactory) -> None:
    """Hold the whole contract against the pairs that *factory* makes."""
    for check in CHECKS:
        check(factory)
