"""Send ICMP echo requests from a running stack, or with --nic from one made for it.

xsock ping 10.0.2.2
xsock ping --nic tap:tap0 --addr 10.0.0.2/24 10.0.0.1
"""

import argparse
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from xsock.cli._settings import add_settings, settings

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("host", help="address or name")
    parser.add_argument("-c", type=int, default=4, metavar="COUNT", help="how many (4)")
    parser.add_argument("-i", type=float, default=1.0, metavar="SECONDS", help="pause (1)")
    parser.add_argument("-s", type=int, default=56, metavar="BYTES", help="payload (56)")
    parser.add_argument("-W", type=float, default=2.0, metavar="SECONDS", help="patience (2)")
    parser.add_argument("--pid", type=int, help="whose stack; needed if there are several")
    add_settings(parser)


def run(given: argparse.Namespace) -> int:
    """0 if anything answered."""
    if not 0 <= given.s <= 65000:
        raise ValueError("ping: -s is 0 to 65000 bytes")
    chosen = settings(given)
    if not chosen:
        from xsock._control import ask

        return _repeat(given, lambda n: ask(given.pid, "ping", host=given.host, sequence=n,
                                            size=given.s, timeout=given.W))  # fmt: skip
    from xsock._ping import echo
    from xsock._wiring import Stack

    with Stack(**chosen) as stack:
        return _repeat(given, lambda n: echo(stack, given.host, n, given.s, given.W))


def _repeat(given: argparse.Namespace, one: Callable[[int], dict[str, Any]]) -> int:
    answered = 0
    for sequence in range(given.c):
        start = monotonic()
        answer = one(sequence)
        if "ms" in answer and "failure" not in answer:
            answered += 1
            print(f"{answer['size']} bytes from {answer['from']}: icmp_seq={sequence} "
                  f"ttl={answer['ttl']} time={answer['ms']:.3f} ms")  # fmt: skip
        else:
            print(f"{answer['address']}: icmp_seq={sequence} {answer['failure']}")
        if sequence + 1 < given.c:
            sleep(max(0.0, start + given.i - monotonic()))
    print(f"{given.c} sent, {answered} answered")
    return 0 if answered else 1
