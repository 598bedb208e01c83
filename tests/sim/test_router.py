"""Two hosts, a router between them and a bad link, all in one process and in virtual time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.helpers.sim import MIB, Simulation, Transfer


def trace(seed: int, capture: Path, total: int = 10 * MIB) -> tuple[str, int]:
    """Move *total* bytes over a 1 % loss link; the hash of the capture, and the time it took."""
    with Simulation(seed=seed) as sim:
        a, router, b = sim.host("a"), sim.host("router"), sim.host("b")
        link = "loss=1%,delay=5ms"
        one, _ = sim.link(a, "10.0.1.2/24", router, "10.0.1.1/24", capture=str(capture))
        _, two = sim.link(router, "10.0.2.1/24", b, "10.0.2.2/24", fault=link)
        router.sysctl["net.inet.ip.forwarding"] = 1
        a.add_route("0.0.0.0/0", "10.0.1.1", one)
        b.add_route("0.0.0.0/0", "10.0.2.1", two)
        near, far = sim.connect(a, b, "10.0.2.2")
        move = Transfer(near, far, total)
        start = sim.now
        sim.run(move.pump)
        took = sim.now - start
        far.close()
        near.close()
        sim.run_for(1)
    return hashlib.sha256(capture.read_bytes()).hexdigest(), took


def test_same_seed_same_trace(tmp_path: Path) -> None:
    first = trace(7, tmp_path / "1.pcapng")
    assert first == trace(7, tmp_path / "2.pcapng")
    assert first[0] != trace(8, tmp_path / "3.pcapng", 1 * MIB)[0]


@pytest.mark.parametrize(
    "fault",
    [
        "loss=5%,delay=2ms",
        "reorder=10%/3ms,delay=2ms",
        "dup=5%,delay=2ms",
        "corrupt=1%,delay=1ms",
        "burst-loss=0.5%/20%,delay=2ms",
        "delay=5ms,jitter=4ms",
        "delay=10ms,rate=20mbit/30",
        "delay=5ms,jitter=2ms,loss=1%,dup=1%,reorder=2%/3ms,corrupt=0.2%",
    ],
)
@pytest.mark.parametrize("offload", [False, True])
def test_bytes_survive(fault: str, offload: bool) -> None:
    with Simulation(seed=11) as sim:
        a, b = sim.host("a"), sim.host("b")
        sim.link(a, "10.0.0.1/24", b, "10.0.0.2/24", fault=fault, offload=offload)
        near, far = sim.connect(a, b, "10.0.0.2")
        there, back = Transfer(near, far, 1 * MIB), Transfer(far, near, 1 * MIB)
        sim.run(lambda: there.pump() & back.pump())
        near.close()
        far.close()
        sim.run_for(200)
