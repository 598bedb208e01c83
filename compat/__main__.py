"""``python -m compat cpython FILE...``: run, compare, write the scoreboard."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from compat.run import ROOT, isolation, run_file
from compat.score import compare, read_scores, scoreboard, write_ledger


def _version(python: str) -> str:
    code = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat", description=__doc__)
    parser.add_argument("suite", choices=["cpython"], help="whose tests")
    parser.add_argument("files", nargs="+", help="test files, as in test_socket")
    parser.add_argument("--python", default=sys.executable, help="interpreter to run them with")
    parser.add_argument("--results", type=Path, default=ROOT / "results/compat")
    parser.add_argument("--at-least", type=float, default=0.0, metavar="SHARE",
                        help="fail below this share of AF_INET(6) ids")  # fmt: skip
    args = parser.parse_args()
    version = _version(args.python)
    if not isolation():
        print("compat: no namespace to be had; running on the host's loopback", file=sys.stderr)
    ok = True
    for name in args.files:
        folder: Path = args.results / version
        stock = run_file(args.python, name, False, folder / f"{name}.stock.log")
        ours = run_file(args.python, name, True, folder / f"{name}.xsock.log")
        score = compare(version, name, stock, ours)
        write_ledger(folder / f"{name}.json", score, stock, ours)
        ok = ok and score.inet_share >= args.at_least
        print(f"{name} on {version}: {score.both} of {score.stock} pass; AF_INET(6) "
              f"{score.inet_both} of {score.inet_stock} ({score.inet_share:.1%})")  # fmt: skip
    (args.results / "scoreboard.md").write_text(scoreboard(read_scores(args.results)))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
