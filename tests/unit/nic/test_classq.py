"""Class queues as Python sees them: made from a specification, changed, asked."""

from __future__ import annotations

import pytest

from nic import NEVER, Caps, ClassqSpec, Pool, open_pair, wrap_capoff, wrap_classq

SECOND = 10**9
MS = 10**6
BE, BK, VO = 0, 2, 8  # SVC_* of qos.h


def test_a_better_class_overtakes() -> None:
    with Pool() as pool:
        near, far = open_pair(pools=(pool, pool))
        with wrap_classq(near, "rate=8mbit,burst=1000") as near, far:
            for number in range(20):
                near.send_class(bytes([number]) * 1000, BK, flowid=7, now=SECOND)
            near.send_class(b"v" * 1000, VO, flowid=8, now=SECOND)
            assert near.classq_statistics(8).pkts == 18
            assert near.classq_statistics(1).pkts == 1
            now, got = SECOND, []
            while (at := near.poll_at()) != NEVER:
                now = max(now, at)
                near.recv(now)
                while (frame := far.recv(now)) is not None:
                    got.append((now, frame[0]))
            assert [first for _, first in got][:4] == [0, 1, ord("v"), 2]
            assert got[-1] == (SECOND + 19 * MS, 19)
            voice = near.classq_statistics(1)
            assert (voice.txpkts, voice.txbytes, voice.flows) == (1, 1000, 0)
            assert voice.maxdelay_ns == MS
            assert {(f.flowid, f.txpkts) for f in near.classq_flows()} == {(7, 20), (8, 1)}
        assert pool.statistics().active == 0


def test_a_rate_takes_segmentation_away_and_gives_it_back() -> None:
    near, far = open_pair()
    with wrap_classq(near) as near, far:
        assert near.info.kind == "classq"
        assert Caps.TSO4 in near.info.caps
        near.set_classq(ClassqSpec(rate=10**6))
        near.recv(0)
        assert Caps.TSO4 not in near.info.caps
        near.set_classq(ClassqSpec())
        near.recv(0)
        assert Caps.TSO4 in near.info.caps


def test_only_class_queues_have_them() -> None:
    near, far = open_pair()
    with wrap_capoff(near, Caps(0)) as near, far:
        with pytest.raises(ValueError, match=r"no class queues; nic\.wrap_classq"):
            near.set_classq(ClassqSpec())
        with pytest.raises(ValueError, match="no class queues"):
            near.classq_flows()
        with pytest.raises(ValueError, match="0 to 9"):
            near.classq_statistics(10)


def test_a_class_queue_is_found_through_a_wrapper() -> None:
    near, far = open_pair()
    with wrap_capoff(wrap_classq(near), Caps(0)) as near, far:
        assert near.classq_statistics(7).txpkts == 0
