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
    )


def write_ledger(path: Path, score: Score, stock: list[Entry], ours: list[Entry]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = {"python": score.python, "file": score.name, "stock": stock, "xsock": ours}
    path.write_text(json.dumps(ledger, indent=1))


def read_scores(folder: Path) -> list[Score]:
    scores = []
    for path in sorted(folder.glob("*/*.json")):
        ledger = json.loads(path.read_text())
        scores.append(compare(ledger["python"], ledger["file"], ledger["stock"], ledger["xsock"]))
    return scores


def scoreboard(scores: list[Score]) -> str:
    """Markdown: one row per file and Python, then every lost id with its cause."""
    lines = [
        "# Compatibility with the standard socket",
        "",
        "Ids that pass on the standard socket, and of those, ids that pass on the stack.",
        "",
        "| Python | file | stock passes | stack passes "
        "| AF_INET(6) stock | AF_INET(6) stack | share |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.python} | {s.name} | {s.stock} | {s.both} | {s.inet_stock} | {s.inet_both} "
        f"| {s.inet_share:.1%} |"
        for s in scores
    ]
    for s in scores:
        lines += ["", f"## {s.name} on {s.python}: {len(s.lost)} lost", ""]
        lines += [f"- `{e['id']}` {e['status']}: {e['cause']}" for e in s.lost]
    return "\n".join(lines) + "\n"
