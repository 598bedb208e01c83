"""ECN end to end: who agrees with whom, and marks in the place of losses (RFC 3168)."""

from __future__ import annotations

import pytest

from bsdcore.netstat import counters
from tests.helpers.sim import MIB, Simulation, Transfer


def run(asks: int, agrees: int, *, classq: str = "rate=20mbit") -> tuple[dict[str, int], ...]:
    """A transfer through class queues of the asking side; both sides' counters."""
    with Simulation(seed=5) as sim:
        a, b = sim.host("a"), sim.host("b")
        a.sysctl["net.inet.tcp.ecn"], b.sysctl["net.inet.tcp.ecn"] = asks, agrees
        sim.link(a, "10.0.0.1/24", b, "10.0.0.2/24", classq=classq, fault="delay=10ms")
        near, far = sim.connect(a, b, "10.0.0.2")
        transfer = Transfer(near, far, 8 * MIB)
        begin = sim.now
        sim.run(transfer.pump, limit=60)
        assert (sim.now - begin) / 1e9 < 5, "8 MiB take 3.5 s at 20 Mbit/s"
        return counters(a), counters(b)


@pytest.mark.parametrize(
    ("asks", "agrees", "on"),
    [(1, 2, True), (1, 1, True), (2, 2, False), (1, 0, False), (0, 1, False), (2, 1, False)],
)
def test_both_have_to_want_it(asks: int, agrees: int, on: bool) -> None:
    a, b = run(asks, agrees)
    assert (a["tcp.ecn_on"], b["tcp.ecn_on"]) == (on, on)
    if on:
        assert b["tcp.ecn_ce"] > 0
        assert a["tcp.ecn_ece"] > 0
        assert abs(a["tcp.ecn_cwr"] - a["tcp.ecn_ece"]) <= 1
        assert a["tcp.sack_recovery"] == 0, "a mark costs no packet"
        assert a["tcp.sndrexmitpack"] == b["tcp.rcvduppack"]
    else:
        assert b["tcp.ecn_ce"] == 0
        assert a["tcp.sack_recovery"] > 0, "the queue drops instead"


def test_a_lost_question_is_not_repeated() -> None:
    with Simulation() as sim:
        a, b = sim.host("a"), sim.host("b")
        a.sysctl["net.inet.tcp.ecn"] = 1
        sim.link(a, "10.0.0.1/24", b, "10.0.0.2/24", fault="delay=1500ms")
        near, far = sim.connect(a, b, "10.0.0.2")
        transfer = Transfer(near, far, 10_000)
        sim.run(transfer.pump)
        # The second SYN came while the first was on its way, and did not ask.
        assert counters(a)["tcp.ecn_on"] == counters(b)["tcp.ecn_on"] == 0


def test_a_queue_may_be_told_not_to_mark() -> None:
    a, b = run(1, 2, classq="rate=20mbit,ecn=off")
    assert a["tcp.ecn_on"] == b["tcp.ecn_on"] == 1
    assert b["tcp.ecn_ce"] == 0
    assert a["tcp.sack_recovery"] > 0
