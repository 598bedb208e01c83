"""What a benchmark is, and the loop that runs one."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAIRS: Final = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """What the ratio (or, without a peer, the value) must be: at least or at most."""

    limit: float
    at_most: bool = False

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Case:
    """One benchmark: two measurements of the same work and the bar for their ratio."""

    name: str
    about: str
    unit: str
    bar: Bar
    ours: Callable[[Any], float]
    peer: Callable[[Any], float] | None
    lab: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)


def run_case(case: Case, pairs: int = PAIRS) -> dict[str, object]:
    """Alternate *pairs* runs of both sides; the sides swap who goes first."""
    ours: list[float] = []
    peer: list[float] = []
    with case.lab() as lab:
        for turn in range(pairs):
            sides = [(ours, case.ours)]
            if case.peer is not None:
                sides.append((peer, case.peer))
            for out, measure in sides if turn % 2 == 0 else reversed(sides):
                out.append(measure(lab))
    ratios = [a / b for a, b in zip(ours, peer, strict=True)] if peer else []
    value = statistics.median(ratios) if ratios else statistics.median(ours)
    return {
        "name": case.name,
        "ours": statistics.median(ours),
        "peer": statistics.median(peer) if peer else None,
        "unit": case.unit,
        "ratio": statistics.median(ratios) if ratios else None,
        "bar": str(case.bar),
        "holds": case.bar.holds(value),
        "runs": {"ours": ours, "peer": peer, "ratios": ratios},
        "load": os.getloadavg()[0],
    }


def work(
    module: str, *args: object, stack: bool, prefix: list[str] | None = None, **env: str
) -> float:
    """Run ``tests.bench.work`` *module* in a new process; the number it prints last.

    *stack*: with xsock patched in (its configuration through *env*), else on
    the kernel's sockets. *prefix* goes before the command, as in ``ip netns exec``.
    """
    command = [*(prefix or []), sys.executable, "-m", "tests.bench.work", module]
    command += [str(a) for a in args]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"BENCH_STACK": "1" if stack else "0"} | env,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))
