"""The benchmark harness: names, bars and the object it prints. Nothing is measured."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bench import __main__ as command
from tests.bench.case import PAIRS, Bar, Case, run_case

# Ours divided by the peer's; without a peer, ours.
BARS = {
    "loopback-bulk": "at least 1.5",
    "loopback-rr": "at most 0.8",
    "loopback-udp": "at least 2",
    "loopback-crr": "at least 2",
    "veth-send": "at least 0.6",
    "veth-recv": "at least 0.6",
    "veth-rr": "at most 1.5",
    "usernet-bulk": "at least 1",
    "idle-memory": "at most 4096",
    "import-time": "at most 40",
    "qos-latency": "at most 2",
    "channel-pps": "at least 5",
    "channel-pps-py": "at least 1",
    "channel-10gb": "at least 1024",
    "channel-10gb-kill": "at least 512",
    "nw-rr": "at least 2",
    "nw-bulk": "at least 2",
    "nw-udp-batch": "at least 10",
    "nw-veth-bulk": "at least 1",
    "nw-idle": "at most 1.2",
}


class Fake:
    """Sides that answer what they are told to, in a lab that notes all of it."""

    def __init__(self, ours: list[float], peer: list[float]) -> None:
        self.ours, self.peer = iter(ours), iter(peer)
        self.log: list[str] = []

    @contextmanager
    def lab(self) -> Iterator[list[str]]:
        self.log.append("set up")
        yield self.log
        self.log.append("tear down")

    def measure_ours(self, lab: list[str]) -> float:
        lab.append("ours")
        return next(self.ours)

    def measure_peer(self, lab: list[str]) -> float:
        lab.append("peer")
        return next(self.peer)

    def case(self, bar: Bar, with_peer: bool = True) -> Case:
        peer = self.measure_peer if with_peer else None
        return Case("fake", "nothing", "MiB/s", bar, self.measure_ours, peer, self.lab)


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> str:
    monkeypatch.setattr(sys, "argv", ["tests.bench", *words])
    assert command.main() == 0
    return capsys.readouterr().out


def test_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(monkeypatch, capsys, "--list").splitlines()
    assert [line.split()[0] for line in lines] == list(BARS)
    for line, bar in zip(lines, BARS.values(), strict=True):
        assert line.endswith(f"ratio {bar})")


def test_sides_alternate_within_one_lab() -> None:
    fake = Fake([1, 1, 1], [2, 2, 2])
    run_case(fake.case(Bar(1.0)), 3)
    assert fake.log == ["set up", "ours", "peer", "peer", "ours", "ours", "peer", "tear down"]


@pytest.mark.parametrize(("bar", "holds"), [(Bar(2.0), True), (Bar(2.5), False),
                                            (Bar(2.0, at_most=True), True)])  # fmt: skip
def test_json(
    bar: Bar, holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The median of the pairs' ratios, which is not the ratio of the medians."""
    fake = Fake([10, 60, 30, 80, 50], [10, 20, 30, 40, 25])
    monkeypatch.setitem(command.CASES, "fake", fake.case(bar))
    out = printed(monkeypatch, capsys, "fake", "--json")
    assert len(out.splitlines()) == 1
    result = json.loads(out)
    assert PAIRS >= 5
    assert result.pop("load") >= 0
    assert result == {
        "name": "fake",
        "ours": 50,
        "peer": 25,
        "unit": "MiB/s",
        "ratio": 2,
        "bar": str(bar),
        "holds": holds,
        "runs": {
            "ours": [10, 60, 30, 80, 50],
            "peer": [10, 20, 30, 40, 25],
            "ratios": [1, 3, 1, 2, 2],
        },
    }


def test_without_a_peer() -> None:
    result = run_case(Fake([30, 50, 40], []).case(Bar(40, at_most=True), with_peer=False), 3)
    assert (result["peer"], result["ratio"], result["ours"]) == (None, None, 40)
    assert result["holds"] is True


def test_unknown_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["tests.bench", "speed"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "name one of: loopback-bulk" in capsys.readouterr().err
