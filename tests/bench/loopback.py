"""One process, its own loopback, against the kernel's."""

from __future__ import annotations

from tests.bench.case import Bar, Case, work


def _case(name: str, about: str, unit: str, bar: Bar, work_name: str, amount: int) -> Case:
    return Case(
        name=name,
        about=about,
        unit=unit,
        bar=bar,
        ours=lambda _lab: work(work_name, amount, stack=True),
        peer=lambda _lab: work(work_name, amount, stack=False),
    )


CASES = [
    _case("loopback-bulk", "one TCP flow, 256 KiB calls", "MiB/s", Bar(1.5), "bulk", 2048),
    _case("loopback-rr", "64 bytes there and back, two threads", "us", Bar(0.8, True), "rr", 20000),
    _case("loopback-udp", "64-byte datagrams in one thread", "1/s", Bar(2.0), "udp", 100000),
    _case("loopback-crr", "connect, a byte each way, close", "1/s", Bar(2.0), "crr", 5000),
]
