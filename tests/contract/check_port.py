"""The contract of a port, as checks that any backend or wrapper has to pass.

A :class:`Link` is a port under test, ``near``, and whatever is at the other end
of its wire, ``far``: the other port of a pair, a second interface on the same
wire, or, for a loopback, the port itself. ``check_port`` gets a function that
makes fresh links and holds all of the contract against them: frames arrive
once, whole, in order; what a full port refuses stays with the sender; counters
count; what the port cannot do is done in software; nothing is left over.
"""

from __future__ import annotations

import select
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import pytest

from nic import NEVER, Caps, Pool, Port
from tests.contract.frames import (
    Frame,
    build,
    ethernet,
    finished,
    is_sound,
    payload_of,
    sequence_of,
)

__all__ = ["Link", "LinkFactory", "check_port"]

WAIT_MS = 2000  # a wire through the kernel: until it must have delivered


@dataclass(slots=True)
class Link:
    """*room* frames of any size certainly fit on the wire; *fills*: it is known to be full
    some time after *room*."""

    near: Port
    far: Port
    room: int
    fills: bool = False
    now: int = 1000
    _inbox: dict[Port, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    @property
    def kind(self) -> str:
        """The link type: ``ethernet`` or ``rawip``."""
        return self.near.info.link

    @property
    def header(self) -> int:
        """Bytes of link header."""
        return 14 if self.kind == "ethernet" else 0

    def head(self, version: int, *, back: bool = False) -> bytes:
        """A link header from near to far, or *back*."""
        if self.kind != "ethernet":
            return b""
        to, of = (self.near, self.far) if back else (self.far, self.near)
        return ethernet(to.info.mac, of.info.mac, version)

    def frame(
        self, number: int, size: int, version: int = 4, proto: int = 17, *, back: bool = False
    ) -> Frame:
        """A packet of *size* IP bytes whose payload tells its number, from near or *back*."""
        headers = (20 if version == 4 else 40) + (8 if proto == 17 else 20)
        mark = number.to_bytes(4, "big")
        body = (mark * (size // 4 + 1))[: size - headers]
        return build(self.head(version, back=back), version, proto, body, number=number)

    def receive(self, port: Port, count: int) -> list[bytes]:
        """Up to *count* frames; fewer when no more come."""
        got = self._inbox[port]
        while len(got) < count:
            if not self._drive() and not self.pass_time() and not self._wait(port):
                break
        taken, got[:] = got[:count], got[count:]
        return taken

    def is_idle(self, port: Port) -> bool:
        """Whether *port* has nothing to receive now."""
        self._drive()
        return not self._inbox[port]

    def pass_time(self) -> bool:
        """Go to the next moment that the near port has planned, and drive it; False: none."""
        at = self.near.poll_at()
        if at == NEVER or at <= self.now:
            return False
        self.now = at
        self._take(self.near)
        return True

    def _drive(self) -> bool:
        return self._take(self.near) | self._take(self.far)

    def _take(self, port: Port) -> bool:
        frame = port.recv(self.now)
        if frame is not None:
            self._inbox[port].append(frame)
        return frame is not None

    def _wait(self, port: Port) -> bool:
        """Wait for the kernel; False: nothing more comes."""
        fd = port.fileno()
        return fd >= 0 and _poll(fd, WAIT_MS)


LinkFactory = Callable[[Pool], AbstractContextManager[Link]]


def _poll(fd: int, timeout_ms: int) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(timeout_ms))


@contextmanager
def opened(factory: LinkFactory) -> Iterator[Link]:
    """A link that leaves no packet behind when it is closed."""
    with Pool() as pool:
        with factory(pool) as link:
            try:
                yield link
            finally:
                link.near.close()
                link.far.close()
        assert pool.statistics().active == 0, "packets outlive their ports"


def check_frames_arrive_whole_and_in_order(factory: LinkFactory) -> None:
    with opened(factory) as link:
        mtu = min(link.near.info.mtu, 65535)
        sizes = [28, 29, 46, 47, 576, mtu - 1, mtu]
        for start in range(0, 60, link.room):
            sent = []
            for number in range(start, min(60, start + link.room)):
                frame = finished(link.frame(number, sizes[number % len(sizes)]))
                link.near.send(frame, link.now)
                sent.append(frame)
            assert link.receive(link.far, len(sent)) == sent
        assert link.is_idle(link.far)


def check_both_ways(factory: LinkFactory) -> None:
    with opened(factory) as link:
        if link.near is link.far:
            return
        sent = []
        for number in range(min(40, link.room)):
            frame = finished(link.frame(number, 100 + number, version=6, back=True))
            link.far.send(frame, link.now)
            sent.append(frame)
        got = link.receive(link.near, len(sent))
        assert got == sent
        assert link.near.statistics().rxpkts == len(sent)
        assert link.near.statistics().rxbytes == sum(map(len, sent))


def check_nothing_is_lost_below_the_limit(factory: LinkFactory) -> None:
    with opened(factory) as link:
        sent = [finished(link.frame(number, 200)) for number in range(link.room)]
        for frame in sent:
            link.near.send(frame, link.now)
        assert link.receive(link.far, link.room) == sent
        statistics = link.near.statistics()
        assert (statistics.txdrops, statistics.txerrs) == (0, 0)


def check_what_is_refused_stays_with_the_sender(factory: LinkFactory) -> None:
    with opened(factory) as link:
        if not link.fills:
            return
        sent: list[bytes] = []

        def fill() -> None:
            while True:
                frame = finished(link.frame(len(sent), 100))
                link.near.send(frame, link.now)
                sent.append(frame)
                assert len(sent) < 4 * link.room + 256, "the port is never full"

        with pytest.raises(BlockingIOError):
            fill()
        assert len(sent) >= link.room
        got = link.receive(link.far, 10)
        link.pass_time()
        link.near.send(frame := finished(link.frame(len(sent), 100)), link.now)
        sent.append(frame)
        got += link.receive(link.far, len(sent) - len(got))
        assert got == sent
        assert link.is_idle(link.far)


def check_counters(factory: LinkFactory) -> None:
    with opened(factory) as link:
        count = min(30, link.room)
        sent = [finished(link.frame(number, 300)) for number in range(count)]
        for frame in sent:
            link.near.send(frame, link.now)
        assert len(link.receive(link.far, count)) == count
        near, far = link.near.statistics(), link.far.statistics()
        assert (near.txpkts, near.txbytes) == (count, sum(map(len, sent)))
        assert (far.rxpkts, far.rxbytes) == (count, sum(map(len, sent)))
        assert (near.txdrops, near.txerrs, far.rxdrops, far.rxerrs) == (0, 0, 0, 0)


def check_checksums_are_finished(factory: LinkFactory) -> None:
    for version, proto in ((4, 6), (4, 17), (6, 6), (6, 17)):
        with opened(factory) as link:
            frames = [link.frame(n, 200 + n, version, proto) for n in range(8)]
            for frame in frames:
                link.near.send(frame.data, link.now, frame.todo)
            got = link.receive(link.far, len(frames))
            assert got == [finished(frame) for frame in frames]
            assert all(is_sound(data, link.kind) for data in got)
            software = link.near.statistics().swcsum
            assert software == (0 if Caps.TXCSUM in link.near.info.caps else len(frames))


def check_super_segments_are_cut_or_kept(factory: LinkFactory) -> None:
    for version, proto, cap in (
        (4, 6, Caps.TSO4),
        (6, 6, Caps.TSO6),
        (4, 17, Caps.USO),
        (6, 17, Caps.USO),
    ):
        with opened(factory) as link:
            size, body = 1000, bytes(range(251)) * 50
            count = -(-len(body) // size)
            big = build(link.head(version), version, proto, body, gso_size=size)
            link.near.send(big.data, link.now, big.todo)
            got = link.receive(link.far, 1)
            assert got, "nothing came"
            if len(payload_of(got[0], link.kind)) < len(body):
                got += link.receive(link.far, count - 1)
                assert [len(payload_of(data, link.kind)) for data in got] == [
                    min(size, len(body) - i * size) for i in range(count)
                ]
            assert b"".join(payload_of(data, link.kind) for data in got) == body
            assert all(is_sound(data, link.kind) for data in got)
            if proto == 6 and len(got) > 1:
                assert [sequence_of(data, link.kind) for data in got] == [
                    1 + i * size for i in range(count)
                ]
            if cap not in link.near.info.caps:
                assert link.near.statistics().swgso == 1
                assert len(got) == count


def check_a_waiting_frame_shows(factory: LinkFactory) -> None:
    with opened(factory) as link:
        assert link.is_idle(link.far)
        link.near.send(finished(link.frame(1, 100)), link.now)
        while link.near is not link.far and link.pass_time():
            pass
        fd = link.far.fileno()
        assert link.far.poll_at() <= link.now or (fd >= 0 and _poll(fd, WAIT_MS))
        assert len(link.receive(link.far, 1)) == 1
        assert link.is_idle(link.far)
        assert fd < 0 or not _poll(fd, 0)


def check_info_is_consistent(factory: LinkFactory) -> None:
    with opened(factory) as link:
        info = link.near.info
        assert info.mtu >= 68
        assert info.name
        assert info.link in ("ethernet", "rawip")
        assert info.fd == link.near.fileno()
        if info.link == "ethernet":
            assert info.mac[0] & 1 == 0
            assert info.mac != bytes(6)
        if Caps.TSO4 in info.caps:
            assert Caps.TXCSUM in info.caps
            assert info.gsomax >= info.mtu


def check_bad_offloads_are_refused(factory: LinkFactory) -> None:
    with opened(factory) as link:
        frame = link.frame(1, 100)
        for data, start in ((frame.data, len(frame.data)), (frame.data, 65535)):
            bad = type(frame.todo)(csum=True, csum_start=start, csum_offset=6)
            with pytest.raises(OSError, match="Invalid argument"):
                link.near.send(data, link.now, bad)
        with pytest.raises(OSError, match="too long"):
            link.near.send(b"", link.now)
        with pytest.raises(OSError, match="too long"):
            link.near.send(bytes(1 << 20), link.now)
        assert link.near.statistics().txpkts == 0


def check_closing_frees_what_is_on_the_way(factory: LinkFactory) -> None:
    with opened(factory) as link:
        for number in range(min(20, link.room)):
            frame = link.frame(number, 500)
            link.near.send(frame.data, link.now, frame.todo)
        assert link.near.statistics().txpkts == min(20, link.room)


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


def check_port(factory: LinkFactory) -> None:
    """Hold the whole contract against the links that *factory* makes in a given pool."""
    for check in CHECKS:
        check(factory)
