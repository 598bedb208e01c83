"""A foreground request beside a background upload, through a shaped port, in virtual time.

The path is a client's stack, class queues at 50 Mbit/s, a link of 4 ms each way and a server's
stack. Eight connections upload as fast as they may (a backup, say) while one more sends a request
of 16 KiB and waits for its answer, again and again. With vouchers the upload is background and
the requests are responsive data; without them all is best effort, and the request, one flow of
nine, waits for eight packets of others before each of its own.

Time is virtual, so the numbers are the same on every machine and in every run of a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bsdcore.sockets import Socket
from bsdcore.stack import Stack
from tests.bench.case import ROOT, Bar, Case
from tests.bench.svg import Series, write_latency
from tests.helpers.sim import Simulation

RATE = "50mbit"
DELAY_MS = 4
JITTER = "500us"
UPLOADS = 8
REQUEST = 16 << 10
ANSWER = 512
THINK_NS = range(15_000_000, 25_000_000, 700_001)  # from an answer to the next request, in turn
WARM_UP = 2.0  # virtual seconds before the first sample counts
SECONDS = 12.0
BLOCK = bytes(1 << 16)
SVC_BK, SVC_RD = 2, 3
FOREGROUND, BACKGROUND = 1, 2  # originators
PICTURE = ROOT / "docs" / "qos-latency.svg"


@dataclass
class Requests:
    """One connection that asks, waits for the answer, thinks, and asks again."""

    sim: Simulation
    near: Socket
    far: Socket
    samples: list[tuple[float, float]] = field(default_factory=list)
    started: int = 0
    next_at: int = 0
    sent: int = 0
    asked: int = 0
    answered: int = 0

    def pump(self) -> None:
        """Do what can be done now, on both sides."""
        if not self.started and self.sim.now >= self.next_at:
            self.started, self.sent, self.answered = self.sim.now, 0, 0
        while self.started and self.sent < REQUEST and self._send():
            pass
        while (got := _drain(self.far)) > 0:
            self.asked += got
            if self.asked >= REQUEST:
                self.asked -= REQUEST
                self.far.send(BLOCK[:ANSWER], timeout=0)
        self.answered += _drain(self.near)
        if self.started and self.answered >= ANSWER:
            now = self.sim.now
            self.samples.append((self.started / 1e9, (now - self.started) / 1e6))
            self.started, self.next_at = 0, now + THINK_NS[len(self.samples) % len(THINK_NS)]

    def _send(self) -> bool:
        try:
            self.sent += self.near.send(BLOCK[: REQUEST - self.sent], timeout=0)
        except BlockingIOError:
            return False
        return True


def _drain(sock: Socket) -> int:
    try:
        return len(sock.recv(1 << 18, timeout=0))
    except BlockingIOError:
        return 0


def _flood(sock: Socket) -> None:
    try:
        while True:
            sock.send(BLOCK, timeout=0)
    except BlockingIOError:
        pass


def _pairs(sim: Simulation, client: Stack, server: Stack, n: int) -> list[tuple[Socket, Socket]]:
    return [sim.connect(client, server, "10.0.0.2", 1000 + i) for i in range(n)]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run gave: (second, milliseconds) of every request, and the upload's Mbit/s."""

    samples: list[tuple[float, float]]
    upload: float

    def percentile(self, p: float) -> float:
        """The *p*-th percentile of the latency, milliseconds."""
        values = sorted(ms for _, ms in self.samples)
        return values[min(len(values) - 1, int(len(values) * p / 100))]


def measure(uploads: int, vouchers: bool, seed: int = 1, seconds: float = SECONDS) -> Run:
    """Requests beside *uploads* saturating connections, tagged or not."""
    with Simulation(seed=seed) as sim:
        client, server = sim.host("client"), sim.host("server")
        sim.link(
            client,
            "10.0.0.1/24",
            server,
            "10.0.0.2/24",
            classq=f"rate={RATE}",
            fault=f"delay={DELAY_MS}ms,jitter={JITTER}",
        )
        near, far = sim.connect(client, server, "10.0.0.2", 80)
        bulk = _pairs(sim, client, server, uploads)
        if vouchers:
            near.set_tag(SVC_RD, FOREGROUND)
            for source, _ in bulk:
                source.set_tag(SVC_BK, BACKGROUND)
        requests = Requests(sim, near, far)
        begin = sim.now
        counted = sim.now + int(WARM_UP * 1e9)
        received = 0
        while sim.now < begin + int(seconds * 1e9):
            _settle(sim)
            for source, sink in bulk:
                _flood(source)
                got = _drain(sink)
                received += got if sim.now >= counted else 0
            requests.pump()
            _settle(sim)
            due = min(stack.poll_at() for stack in sim.stacks)
            if not requests.started:
                due = min(due, requests.next_at)
            sim.now = max(sim.now, due)
        samples = [(t - begin / 1e9, ms) for t, ms in requests.samples if t * 1e9 >= counted]
        return Run(samples, received * 8 / 1e6 / (seconds - WARM_UP))


def _settle(sim: Simulation) -> None:
    for stack in sim.stacks:
        while stack.run(sim.now):
            pass


@contextmanager
def _lab() -> Iterator[Path]:
    PICTURE.parent.mkdir(exist_ok=True)
    yield PICTURE


def latency(picture: Path | None = None, seed: int = 1) -> dict[str, Run]:
    """The three runs, and the picture of them if *picture* says where."""
    runs = {
        "idle": measure(0, True, seed),
        "upload, vouchers on": measure(UPLOADS, True, seed),
        "upload, vouchers off": measure(UPLOADS, False, seed),
    }
    if picture is not None:
        write_latency(
            picture,
            f"16 KiB requests beside {UPLOADS} uploads through {RATE}, {2 * DELAY_MS} ms away",
            [Series(name, run.samples, run.percentile(99)) for name, run in runs.items()],
        )
    return runs


@cache
def ratio(picture: Path | None) -> float:
    """p99 loaded, with vouchers, over p99 idle."""
    runs = latency(picture)
    idle = runs["idle"].percentile(99)
    for name, run in runs.items():
        print(
            f"  {name:22} p50 {run.percentile(50):6.2f} ms  p99 {run.percentile(99):6.2f} ms "
            f"({run.percentile(99) / idle:.2f} of idle)  upload {run.upload:.1f} Mbit/s"
        )
    return runs["upload, vouchers on"].percentile(99) / idle


CASES = [
    Case(
        name="qos-latency",
        about="p99 of requests beside a background upload through 50 Mbit/s, to that without",
        unit="of idle",
        bar=Bar(2.0, at_most=True),
        ours=ratio,
        peer=None,
        lab=_lab,
    )
]
