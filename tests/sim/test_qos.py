"""Classes end to end: urgent datagrams of a socket pass its own bulk."""

from __future__ import annotations

import contextlib
import statistics

from bsdcore.sockets import Socket
from tests.helpers.sim import SECOND, Simulation

AF_INET, SOCK_DGRAM = 2, 2
BK, VO = 2, 8
MS = 10**6


def settle(sim: Simulation) -> None:
    for stack in sim.stacks:
        while stack.run(sim.now):
            pass


def arrivals(sock: Socket, into: dict[int, list[float]], now: int) -> None:
    """The age of every datagram there, in milliseconds, by the class in its first byte."""
    with contextlib.suppress(BlockingIOError):
        while True:
            data = sock.recv(2000, timeout=0)
            into[data[0]].append((now - int.from_bytes(data[1:9], "big")) / MS)


def test_urgent_datagrams_of_a_socket_pass_its_bulk() -> None:
    with Simulation() as sim:
        a, b = sim.host("a"), sim.host("b")
        sim.link(
            a, "10.0.0.1/24", b, "10.0.0.2/24", classq="rate=20mbit,limit=200", fault="delay=5ms"
        )
        near, far = a.socket(AF_INET, SOCK_DGRAM), b.socket(AF_INET, SOCK_DGRAM)
        far.bind("10.0.0.2", 9)
        near.connect("10.0.0.2", 9, timeout=0)
        ages: dict[int, list[float]] = {BK: [], VO: []}
        turn = 0
        while sim.now < 4 * SECOND:
            settle(sim)
            # 24 Mbit/s of bulk, and a small urgent one every 20 ms.
            for svc, size in ((BK, 1400), (VO, 100)) if turn % 42 == 0 else ((BK, 1400),):
                near.set_tag(svc)
                with contextlib.suppress(OSError):
                    near.send(bytes([svc]) + sim.now.to_bytes(8, "big") + bytes(size), timeout=0)
            settle(sim)
            arrivals(far, ages, sim.now)
            sim.now += 476_000
            turn += 1
        assert len(ages[VO]) > 140, "none of them is lost"
        # One bulk packet at most is in front of it; the rest is the step of this clock.
        assert max(ages[VO][5:]) < 5 + 0.6 + 2 * 0.476
        assert statistics.median(ages[BK][-500:]) > 20
