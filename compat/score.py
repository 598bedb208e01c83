"""Compares the two sides of a run and writes ledger and scoreboard."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """How many ids pass on the standard socket, and of those, how many on the stack."""

    python: str
    name: str
    stock: int
    both: int
    inet_stock: int
    inet_both: int
    lost: list[Entry]  # pass on the standard socket, not on the stack
    not_measured: dict[str, str]  # status of those that do not pass on the standard socket

    @property
    def inet_share(self) -> float:
        return self.inet_both / self.inet_stock if self.inet_stock else 1.0


def compare(python: str, name: str, stock: list[Entry], ours: list[Entry]) -> Score:
    """Ids that pass on the stock socket are the measure; the rest are not counted."""
    theirs = {e["id"]: e for e in stock if e["status"] == "pass"}
    mine = {e["id"]: e for e in ours}
    missing = {"status": "missing", "cause": "not run"}
    lost = [
        {"id": i, "inet": e["inet"], **{k: mine.get(i, missing)[k] for k in ("status", "cause")}}
        for i, e in sorted(theirs.items())
        if mine.get(i, missing)["status"] != "pass"
    ]
    inet = {i for i, e in theirs.items() if e["inet"]}
    lost_ids = {e["id"] for e in lost}
    return Score(
        python=python,
        name=name,
        stock=len(theirs),
        both=len(theirs) - len(lost),
        inet_stock=len(inet),
        inet_both=len(inet - lost_ids),
        lost=lost,
        not_measured={e["id"]: e["status"] for e in stock if e["status"] != "pass"},
    )


def write_ledger(path: Path, score: Score, stock: list[Entry], ours: list[Entry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = {"python": score.python, "file": score.name, "stock": stock, "xsock": ours}
    path.write_text(json.dumps(ledger, indent=1))


def read_scores(folder: Path) -> list[Score]:
    scores = []
    for path in sorted(folder.glob("3.*/*.json")):
        ledger = json.loads(path.read_text())
        scores.append(compare(ledger["python"], ledger["file"], ledger["stock"], ledger["xsock"]))
    return scores


def scoreboard(scores: list[Score], causes: dict[str, dict[str, str]]) -> str:
    """Markdown: one row per file and Python, then every lost id with its cause."""
    pythons = sorted({s.python for s in scores}, key=lambda v: [int(n) for n in v.split(".")])
    by_file: dict[str, dict[str, Score]] = {}
    for s in scores:
        by_file.setdefault(s.name, {})[s.python] = s
    lines = [
        "# Compatibility with the standard socket",
        "",
        "CPython's own test files, unedited, run twice in an empty network namespace: on the",
        'standard socket and on the stack. A figure is "passes on the stack / passes on the',
        'standard socket"; in brackets the same of those that make an AF_INET or AF_INET6 socket.',
        "Made by `python -m compat scoreboard` from the ledgers that",
        "`python -m compat cpython --set all --python PYTHON` leaves, once for each Python.",
        "",
        f"| file | {' | '.join(pythons)} |",
        f"|---|{'---|' * len(pythons)}",
    ]
    for name, of in by_file.items():
        cells = [_cell(of[version]) if version in of else "" for version in pythons]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    totals = [_cell(_total([s for s in scores if s.python == version])) for version in pythons]
    lines.append(f"| **all** | {' | '.join(totals)} |")
    lines += ["", "## What is lost, and why", ""]
    reasons: dict[tuple[str, str], list[str]] = {}
    for s in scores:
        for e in s.lost:
            cause = causes[s.python].get(e["id"], f"not listed: {e['cause']}")
            test = e["id"].removeprefix("test.")
            reasons.setdefault((cause, test), []).append(s.python.rpartition(".")[0])
    by_cause: dict[str, list[str]] = {}
    for (cause, test), versions in reasons.items():
        by_cause.setdefault(cause, []).append(f"`{test}` ({', '.join(versions)})")
    for cause, tests in sorted(by_cause.items()):
        lines.append(f"- {cause}")
        lines += [f"  - {test}" for test in tests]
    return "\n".join(lines) + "\n"


def _cell(s: Score) -> str:
    return f"{s.both}/{s.stock} ({s.inet_both}/{s.inet_stock})"


def _total(scores: list[Score]) -> Score:
    def add(field: str) -> int:
        return sum(getattr(s, field) for s in scores)

    counts = {f: add(f) for f in ("stock", "both", "inet_stock", "inet_both")}
    return Score(python="", name="", lost=[], not_measured={}, **counts)
