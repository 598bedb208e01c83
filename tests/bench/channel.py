"""User pipes: packets a second in C and from Python, and a long exchange of two processes."""

from __future__ import annotations

import subprocess
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.case import ROOT, Bar, Case

SIZE = 64
GIGABYTE = 10**9


@contextmanager
def compiled() -> Iterator[Path]:
    """The C side, compiled with the library's own sources."""
    sources = [ROOT / "tests" / "bench" / "channel_load.c"]
    for folder in ("mem", "channel", "nexus"):
        sources += sorted((ROOT / "skywalk" / folder).glob("*.c"))
    with TemporaryDirectory() as folder:
        program = Path(folder) / "channel_load"
        command: list[str | Path] = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", f"-I{ROOT}"]
        command += ["-pthread", "-o", program]
        subprocess.run([*command, *sources], check=True)
        yield program


def load(program: Path, what: str, amount: int) -> float:
    """What the C side prints for *amount* packets or bytes."""
    done = subprocess.run(
        [program, what, str(amount)], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )
    return float(done.stdout)


def batches(amount: int) -> float:
    """Mpps of two Python threads, one copying batches in, one taking them as columns."""
    from skywalk import ChannelParams, open_pipe
    from skywalk.channel import BATCH

    data, lengths = bytes(SIZE * BATCH), array("I", [SIZE] * BATCH)
    near, far = open_pipe(ChannelParams(slots=2048))
    amount -= amount % BATCH

    def send() -> None:
        sent = 0
        while sent < amount:
            count = near.tx.send_batch(data, lengths[: amount - sent])
            sent += count
            if count == 0:
                near.wait_writable()

    with near, far:
        thread = threading.Thread(target=send)
        start = time.perf_counter()
        thread.start()
        got = total = 0
        while got < amount:
            batch = far.rx.receive_batch()
            if not batch:
                far.wait_readable()
            got += len(batch)
            total += sum(batch.lengths)
        taken = time.perf_counter() - start
        thread.join()
    assert total == got * SIZE
    return got / taken / 1e6


CASES = [
    Case(
        name="channel-pps",
        about="user pipe, 64-byte packets, two threads in C",
        unit="Mpps",
        bar=Bar(5.0),
        ours=lambda program: load(program, "pps", 10_000_000),
        peer=None,
        lab=compiled,
    ),
    Case(
        name="channel-pps-py",
        about="the same in batches of 64 from two Python threads",
        unit="Mpps",
        bar=Bar(1.0),
        ours=lambda _lab: batches(1_000_000),
        peer=None,
    ),
    Case(
        name="channel-10gb",
        about="10 GB between two processes, both ways, every word checked",
        unit="MiB/s",
        bar=Bar(1024.0),
        ours=lambda program: load(program, "bulk", 10 * GIGABYTE),
        peer=None,
        lab=compiled,
    ),
    Case(
        name="channel-10gb-kill",
        about="the same, one of the two killed at seeded moments and replaced",
        unit="MiB/s",
        bar=Bar(512.0),
        ours=lambda program: load(program, "kill", 10 * GIGABYTE),
        peer=None,
        lab=compiled,
    ),
]
