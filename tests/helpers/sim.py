"""Hosts, routers and links in one process, in virtual time.

Nothing here sleeps or reads a clock: time jumps to the next thing any stack
has planned. With the same seed a run is the same, packet for packet.

    with Simulation(seed=7) as sim:
        a, b = sim.host("a"), sim.host("b")
        sim.link(a, "10.0.0.1/24", b, "10.0.0.2/24", fault="loss=1%,delay=10ms")
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import nic
from bsdcore.sockets import Socket
from bsdcore.stack import NEVER, Stack

AF_INET, SOCK_STREAM, SOCK_DGRAM = 2, 1, 2
SECOND = 10**9
MIB = 1 << 20


@dataclass
class Simulation:
    """Owns every stack and port made through it."""

    seed: int = 1
    now: int = SECOND
    stacks: list[Stack] = field(default_factory=list)
    _ifs: itertools.count[int] = field(default_factory=itertools.count)
    _pool: nic.Pool = field(default_factory=nic.Pool)
    _held: list[nic.Pool] = field(default_factory=list)

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stack in self.stacks:
            stack.close()
        active = self._pool.statistics().active
        for pool in self._held:
            pool.drop()
        self._pool.close()
        if kind is None and active:
            raise AssertionError(f"{active} packets were never given back")

    def host(self, name: str) -> Stack:
        """A stack whose randomness follows from the simulation's seed and its name."""
        seed = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        stack = Stack(name, seed=seed, virtual_time=True, start_time=self.now)
        self.stacks.append(stack)
        return stack

    def link(
        self,
        a: Stack,
        a_addr: str,
        b: Stack,
        b_addr: str,
        *,
        fault: str | None = None,
        classq: str | None = None,
        mtu: int = 1500,
        offload: bool = False,
        capture: str | None = None,
    ) -> tuple[str, str]:
        """A cable between two stacks; *fault* acts on what *a* sends and receives.

        *classq* are class queues of *a*'s end, in front of its faults. Answers
        the names of the two interfaces.
        """
        caps = None if offload else nic.Caps(0)
        left, right = nic.open_pair(mtu=mtu, caps=caps, pools=(self._pool, self._pool))
        if fault is not None:
            left = nic.wrap_fault(left, f"{fault},seed={self.seed}")
        if classq is not None:
            left = nic.wrap_classq(left, classq)
        if capture is not None:
            left = nic.wrap_pcapng(left, capture)
        names = []
        for stack, port, addr in ((a, left, a_addr), (b, right, b_addr)):
            name = f"en{next(self._ifs)}"
            raw, pool = port.release()
            self._held.append(pool)
            stack.attach(raw, name)
            stack.set_flags(name, 1)
            stack.add_address(name, addr)
            names.append(name)
        return names[0], names[1]

    def step(self) -> bool:
        """Run every stack at the present, then jump to the next plan; False: nothing is planned."""
        for stack in self.stacks:
            while stack.run(self.now):
                pass
        due = min(stack.poll_at() for stack in self.stacks)
        if due == NEVER:
            return False
        self.now = max(self.now, due)
        return True

    def run(self, until: Callable[[], bool], limit: float = 3600.0) -> None:
        """Run until *until* is true; AssertionError if all is still or *limit* seconds passed."""
        end = self.now + int(limit * SECOND)
        while not until():
            if not self.step() and not until():
                raise AssertionError("nothing is planned and the condition does not hold")
            if self.now > end:
                raise AssertionError(f"not within {limit} virtual seconds")

    def run_for(self, seconds: float) -> None:
        """Let *seconds* of virtual time pass."""
        end = self.now + int(seconds * SECOND)
        while True:
            due = min(stack.poll_at() for stack in self.stacks)
            if due > end:
                break
            self.now = max(self.now, due)
            for stack in self.stacks:
                while stack.run(self.now):
                    pass
        self.now = end
        for stack in self.stacks:
            stack.run(self.now)

    def connect(
        self, client: Stack, server: Stack, addr: str, port: int = 80
    ) -> tuple[Socket, Socket]:
        """A TCP connection from *client* to *addr* of *server*: both ends."""
        with server.socket(AF_INET, SOCK_STREAM) as listener:
            listener.bind(addr, port)
            listener.listen(8)
            near = client.socket(AF_INET, SOCK_STREAM)
            with contextlib.suppress(BlockingIOError):
                near.connect(addr, port, timeout=0)
            far: list[Socket] = []

            def accepted() -> bool:
                try:
                    far.append(listener.accept(timeout=0)[0])
                except BlockingIOError:
                    return False
                return True

            self.run(accepted)
            return near, far[0]


@dataclass
class Transfer:
    """Bytes of a repeatable stream from one socket to another, checked on arrival."""

    source: Socket
    sink: Socket
    total: int
    sent: int = 0
    received: int = 0
    digest: object = field(default_factory=hashlib.sha256)
    ended: bool = False

    BLOCK = bytes(hashlib.shake_128(b"xsock").digest(1 << 18))

    def pump(self) -> bool:
        """Send and receive what goes without waiting; True once all has arrived and ended."""
        while self.sent < self.total:
            at = self.sent % len(self.BLOCK)
            chunk = self.BLOCK[at : at + min(65536, self.total - self.sent)]
            try:
                self.sent += self.source.send(chunk, timeout=0)
            except BlockingIOError:
                break
            if self.sent == self.total:
                self.source.shutdown(1)
        while not self.ended:
            try:
                data = self.sink.recv(65536, timeout=0)
            except BlockingIOError:
                break
            self._check(data)
        return self.ended

    def _check(self, data: bytes) -> None:
        if not data:
            assert self.received == self.total, f"{self.received} of {self.total} bytes arrived"
            self.ended = True
            return
        at = self.received % len(self.BLOCK)
        want = (self.BLOCK * 2)[at : at + len(data)]
        assert data == want, f"bytes differ near offset {self.received}"
        self.received += len(data)
