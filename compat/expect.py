"""What is known not to pass, per Python, and how a run differs from it.

``expect/3.11.toml`` has two tables by test id: ``[expect]``, what fails and
how ({status, cause}), and ``[flaky]``, what passes or fails from one run to the
next, with the reason.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compat.score import Score

FOLDER: Final = Path(__file__).parent / "expect"


@dataclass(frozen=True, slots=True)
class Expectation:
    """Ids that do not pass on the stack: (status, cause); and ids that may do either: reason."""

    failing: dict[str, tuple[str, str]]
    flaky: dict[str, str]

    def causes(self) -> dict[str, str]:
        """Why an id is listed."""
        known = {test: cause for test, (_, cause) in self.failing.items()}
        return known | {test: f"flaky: {reason}" for test, reason in self.flaky.items()}


def load(version: str) -> Expectation:
    """The expectation for a Python, "3.12.1" or "3.12"; nothing fails if there is none."""
    path = FOLDER / f"{'.'.join(version.split('.')[:2])}.toml"
    tables = tomllib.loads(path.read_text()) if path.exists() else {}
    return Expectation(
        failing={i: (e["status"], e["cause"]) for i, e in tables.get("expect", {}).items()},
        flaky=dict(tables.get("flaky", {})),
    )


def surprises(score: Score, expected: Expectation) -> list[str]:
    """How the run of one file differs from what is expected of it, a line each."""
    lost = {e["id"]: e for e in score.lost}
    found = [
        f"{test} {entry['status']}: {entry['cause']}"
        for test, entry in lost.items()
        if test not in expected.flaky and expected.failing.get(test, ("", ""))[0] != entry["status"]
    ]
    found += [
        f"{test} passes, or is gone"
        for test in expected.failing
        if test.startswith(f"test.{score.name}.") and test not in lost | score.not_measured
    ]
    return found
