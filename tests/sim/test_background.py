"""Background senders stand back: LEDBAT beside foreground traffic, and throttled interfaces."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from bsdcore.sockets import Socket
from bsdcore.stack import Stack
from tests.helpers.sim import SECOND, Simulation, Transfer

Address = tuple[Any, ...]
SOCK_DGRAM = 2
AF_INET = 2
BE, BK_SYS, BK = 0, 1, 2
MS = 10**6
BLOCK = bytes(65536)


class Echo:
    """A datagram there and back every 50 ms; the round trips, in milliseconds."""

    def __init__(self, sim: Simulation, client: Stack, server: Stack) -> None:
        self.sim = sim
        self.near = client.socket(AF_INET, SOCK_DGRAM)
        self.far = server.socket(AF_INET, SOCK_DGRAM)
        self.far.bind("10.0.0.2", 7)
        self.near.connect("10.0.0.2", 7, timeout=0)
        self.next = 0
        self.samples: list[float] = []

    def pump(self) -> None:
        if self.sim.now >= self.next:
            self.near.send(self.sim.now.to_bytes(8, "big"), timeout=0)
            self.next = self.sim.now + 50 * MS
        while (asked := self._take(self.far)) is not None:
            data, (host, port, *_) = asked
            self.far.sendto(data, host, port, timeout=0)
        while (answer := self._take(self.near)) is not None:
            self.samples.append((self.sim.now - int.from_bytes(answer[0], "big")) / MS)

    @staticmethod
    def _take(sock: Socket) -> tuple[bytes, Address] | None:
        try:
            return sock.recvfrom(64, timeout=0)
        except BlockingIOError:
            return None


def pump_upload(near: Socket, far: Socket) -> int:
    try:
        while True:
            near.send(BLOCK, timeout=0)
    except BlockingIOError:
        pass
    got = 0
    try:
        while True:
            got += len(far.recv(1 << 18, timeout=0))
    except BlockingIOError:
        return got


def run(sim: Simulation, seconds: float, near: Socket, far: Socket, echo: Echo | None) -> int:
    """Upload for *seconds*; the bytes that arrived."""
    end, got = sim.now + int(seconds * SECOND), 0
    while sim.now < end:
        for stack in sim.stacks:
            while stack.run(sim.now):
                pass
        got += pump_upload(near, far)
        if echo is not None:
            echo.pump()
        for stack in sim.stacks:
            while stack.run(sim.now):
                pass
        due = min(stack.poll_at() for stack in sim.stacks)
        sim.now = max(sim.now, min(due, end, echo.next if echo is not None else end))
    return got


def hosts(sim: Simulation) -> tuple[Stack, Stack, str]:
    """Ten megabits, ten milliseconds each way, and a queue of more than a second."""
    client, server = sim.host("client"), sim.host("server")
    name, _ = sim.link(
        client,
        "10.0.0.1/24",
        server,
        "10.0.0.2/24",
        fault="rate=10mbit/1000,delay=10ms",
    )
    return client, server, name


@pytest.mark.parametrize("svc", [BE, BK, BK_SYS])
def test_background_keeps_the_queue_short_for_others(svc: int) -> None:
    with Simulation() as sim:
        client, server, _ = hosts(sim)
        near, far = sim.connect(client, server, "10.0.0.2")
        near.set_tag(svc)
        echo = Echo(sim, client, server)
        got = run(sim, 15, near, far, echo)
        late = statistics.median(echo.samples[-100:])
        if svc == BE:
            assert late > 300, "an ordinary upload fills the queue"
        else:
            # The target is 60 ms of queue on top of 20 ms of way.
            assert late < 110
        assert got * 8 / 15 > 6e6, "it gives way, it does not starve"


def test_background_alone_is_as_fast_as_any() -> None:
    with Simulation() as sim:
        client, server, _ = hosts(sim)
        near, far = sim.connect(client, server, "10.0.0.2")
        near.set_tag(BK)
        run(sim, 5, near, far, None)  # the handshake was control, seen 2 s ago at most
        assert run(sim, 10, near, far, None) * 8 / 10 > 9.3e6


def test_a_throttled_interface_holds_system_background_and_nothing_else() -> None:
    with Simulation() as sim:
        client, server, name = hosts(sim)
        pairs = [sim.connect(client, server, "10.0.0.2", 80 + i) for i in range(2)]
        held, free = (Transfer(near, far, 2 << 20) for near, far in pairs)
        held.source.set_tag(BK_SYS)
        free.source.set_tag(BK)
        sim.run(lambda: held.pump() or held.received > 100_000)
        client.set_throttle(name, True)
        sim.run_for(1)
        held.pump()
        stood = held.received
        assert 100_000 < stood < 2 << 20
        sim.run(free.pump)
        with client.socket(AF_INET, SOCK_DGRAM) as datagrams:
            datagrams.set_tag(BK_SYS)
            with pytest.raises(OSError, match="No buffer space"):
                datagrams.sendto(b"x", "10.0.0.2", 9, timeout=0)
            datagrams.set_tag(BK)
            datagrams.sendto(b"x", "10.0.0.2", 9, timeout=0)
        sim.run_for(3 * 3600)
        held.pump()
        assert held.received == stood, "nothing moved, and nobody gave up"
        client.set_throttle(name, False)
        sim.run(held.pump, limit=60)
