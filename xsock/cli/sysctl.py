"""Show or set tunables: of the running stack of --pid, else their defaults.

xsock sysctl tcp
xsock sysctl --pid 4711 net.inet.tcp.delack=10
"""

import argparse
from typing import Any

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("names", nargs="*", metavar="WORD|NAME=N",
                        help="only names that hold WORD; or set one")  # fmt: skip
    parser.add_argument("--pid", type=int, help="whose stack; without it the defaults are shown")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _defaults() -> list[dict[str, Any]]:
    from bsdcore.stack import Stack

    with Stack("sysctl", virtual_time=True) as stack:
        return [row._asdict() for row in stack.sysctl.tunables()]


def run(given: argparse.Namespace) -> int:
    """Set what is to be set, then print what was asked for."""
    from xsock._control import ask
    from xsock.cli.netstat import table

    words = []
    for item in given.names:
        name, equals, value = item.partition("=")
        if not equals:
            words.append(name)
            continue
        if given.pid is None:
            raise ValueError("sysctl: setting needs --pid; for a new stack: xsock run --sysctl")
        if not value.removeprefix("-").isdigit():
            raise ValueError(f"sysctl: {item!r} is not NAME=N")
        ask(given.pid, "sysctl", name=name, value=int(value))
        words.append(name)
    rows = _defaults() if given.pid is None else ask(given.pid, "sysctl")
    rows = [r for r in rows if not words or any(w in r["name"] for w in words)]
    if given.json:
        import json

        print(json.dumps(rows))
    else:
        heads = ("Name", "Value", "Least", "Most", "What")
        print("\n".join(table(heads, [
            (r["name"], r["value"], r["minimum"], r["maximum"], r["doc"]) for r in rows
        ])))  # fmt: skip
    return 0
