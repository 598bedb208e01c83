"""``python -m tests.bench``: list and run the benchmarks."""

from __future__ import annotations

import argparse
import json
import sys

from tests.bench import channel, loopback, nw, process, qos, usernet, veth
from tests.bench.case import PAIRS, run_case

MODULES = (loopback, veth, usernet, process, qos, channel, nw)
CASES = {c.name: c for m in MODULES for c in m.CASES}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", nargs="?", help="which benchmark to run")
    parser.add_argument("--list", action="store_true", help="name them all, with their bars")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="alternating runs of each side")
    args = parser.parse_args()
    if args.list:
        for case in CASES.values():
            print(f"{case.name:16} {case.about} ({case.unit}; ratio {case.bar})")
        return 0
    if args.name not in CASES:
        parser.error(f"name one of: {', '.join(CASES)}")
    result = run_case(CASES[args.name], args.pairs)
    if args.json:
        print(json.dumps(result))
    else:
        peer = "" if result["peer"] is None else f", peer {result['peer']:.4g}"
        ratio = "" if result["ratio"] is None else f", ratio {result['ratio']:.3f}"
        verdict = "holds" if result["holds"] else "MISSED"
        print(f"{args.name}: {result['ours']:.4g} {result['unit']}{peer}{ratio} "
              f"({result['bar']}: {verdict})")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
