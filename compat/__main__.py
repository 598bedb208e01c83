"""``python -m compat cpython FILE...`` runs tests; ``python -m compat scoreboard`` sums up."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from compat import expect
from compat.run import ROOT, isolation, run_file
from compat.score import Score, compare, read_scores, scoreboard, write_ledger
from compat.sets import SETS

RESULTS: Final = ROOT / "results/compat"
SCOREBOARD: Final = ROOT / "compat/scoreboard.md"
# Asks an interpreter for its version and which of the files named it has.
PROBE: Final = """
import importlib.util, json, sys
def has(name):
    try:
        return importlib.util.find_spec("test." + name) is not None
    except ModuleNotFoundError:
        return False
print(json.dumps(["%d.%d.%d" % sys.version_info[:3], [n for n in sys.argv[1:] if has(n)]]))
"""


def _probe(python: str, names: list[str]) -> tuple[str, list[str]]:
    command = [python, "-c", PROBE, *names]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    version, found = json.loads(out)
    return version, found


def _both_sides(python: str, version: str, name: str, folder: Path) -> Score:
    """The two sides at the same time, each in a namespace of its own: tests mostly wait."""
    with ThreadPoolExecutor(2) as pool:
        stock, ours = (
            pool.submit(run_file, python, name, patched, folder / f"{name}.{side}.log")
            for patched, side in ((False, "stock"), (True, "xsock"))
        )
        score = compare(version, name, stock.result(), ours.result())
        write_ledger(folder / f"{name}.json", score, stock.result(), ours.result())
    return score


def _cpython(args: argparse.Namespace) -> int:
    names = [*args.files, *(SETS[args.set] if args.set else ())]
    version, found = _probe(args.python, names)
    if missing := set(args.files) - set(found):
        print(f"compat: {version} has no {', '.join(sorted(missing))}", file=sys.stderr)
        return 2
    if not isolation():
        print("compat: no namespace to be had; running on the host's loopback", file=sys.stderr)
    expected = expect.load(version)
    surprises: list[str] = []
    for name in found:
        score = _both_sides(args.python, version, name, args.results / version)
        print(f"{name} on {version}: {score.both} of {score.stock} pass; AF_INET(6) "
              f"{score.inet_both} of {score.inet_stock}", flush=True)  # fmt: skip
        surprises += expect.surprises(score, expected)
        if score.inet_share < args.at_least:
            surprises.append(f"{name}: {score.inet_share:.1%} of AF_INET(6) ids pass")
    for line in surprises:
        print(f"unexpected: {line}")
    return 1 if surprises else 0


def _scoreboard(args: argparse.Namespace) -> int:
    scores = read_scores(args.results)
    causes = {version: expect.load(version).causes() for version in {s.python for s in scores}}
    SCOREBOARD.write_text(scoreboard(scores, causes))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where ledgers are kept")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("cpython", help="run CPython's own tests")
    run.add_argument("files", nargs="*", help="test files, as in test_socket")
    run.add_argument("--set", choices=sorted(SETS), help="a named set of files")
    run.add_argument("--python", default=sys.executable, help="interpreter to run them with")
    run.add_argument("--at-least", type=float, default=0.0, metavar="SHARE",
                     help="fail, too, below this share of AF_INET(6) ids")  # fmt: skip
    run.set_defaults(work=_cpython)
    board = commands.add_parser("scoreboard", help=f"write {SCOREBOARD.relative_to(ROOT)}")
    board.set_defaults(work=_scoreboard)
    args = parser.parse_args()
    return int(args.work(args))


if __name__ == "__main__":
    sys.exit(main())
