"""Controllers, bindings, lazy close, and other processes that die or write rubbish."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from skywalk import (
    Channel,
    ChannelError,
    ChannelParams,
    Controller,
    Nexus,
    NexusFlags,
    NexusType,
    Reason,
    open_channel,
)

ROOT = Path(__file__).resolve().parents[3]
PARAMS = ChannelParams(slots=16, packets=24, buffer=256, buflets=8, max_frags=4)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    with Controller(tmp_path / "nexus") as made:
        yield made


def pipe(controller: Controller, **binding: object) -> Nexus:
    return controller.create(controller.register(NexusType.USER_PIPE, "pipe", PARAMS, **binding))  # type: ignore[arg-type]


def test_a_port_is_bound_to_a_process_or_a_key(controller: Controller) -> None:
    nexus = pipe(controller)
    with pytest.raises(OSError, match="not bound to anybody"):
        nexus.open(1)
    nexus.bind(1, pid=os.getpid(), key=b"both")
    with pytest.raises(OSError, match="somebody else"):
        nexus.open(1)
    nexus.bind(0, pid=os.getpid() + 1)
    with pytest.raises(OSError, match="somebody else"):
        nexus.open(0)
    with nexus.open(1, key=b"both") as channel:
        assert channel.reason is Reason.ACTIVE
        with pytest.raises(OSError, match="has a channel"):
            nexus.open(1, key=b"both")
    with nexus.open(1, key=b"both"):
        pass


@pytest.mark.parametrize(
    ("port", "binding", "number"),
    [
        (0, {}, errno.EINVAL),
        (0, {"key": b""}, errno.EINVAL),
        (0, {"key": bytes(1025)}, errno.EINVAL),
        (2, {"pid": 1}, errno.EDOM),
        (-1, {"pid": 1}, errno.EDOM),
    ],
)
def test_bindings_that_cannot_be(
    controller: Controller, port: int, binding: dict[str, bytes], number: int
) -> None:
    nexus = pipe(controller)
    with pytest.raises(OSError) as info:  # noqa: PT011
        nexus.bind(port, **binding)  # type: ignore[arg-type]
    assert info.value.errno == number
    nexus.bind(0, pid=1)
    with pytest.raises(OSError, match="is bound"):
        nexus.bind(0, pid=1)
    nexus.unbind(0)
    with pytest.raises(OSError, match="not bound"):
        nexus.unbind(0)


def test_closing_is_lazy(controller: Controller) -> None:
    nexus = pipe(controller, anonymous=True)
    with nexus.open(1) as server, nexus.open(0) as client:
        controller.deregister(nexus.provider)
        assert nexus.flags & NexusFlags.CLOSED
        assert not nexus.flags & NexusFlags.INVALIDATED
        with pytest.raises(OSError, match="closed"):
            nexus.open(0)
        assert client.tx.send(b"still")
        assert [bytes(packet) for packet in server.rx] == [b"still"]
        controller.reap()
        assert nexus.uuid in controller.nexuses
    controller.reap()
    assert nexus.uuid not in controller.nexuses
    assert nexus.flags & NexusFlags.INVALIDATED


def test_kinds_without_a_domain_are_refused(controller: Controller) -> None:
    with pytest.raises(OSError, match="no domain"):
        controller.register(NexusType.NET_IF, "en0")


def test_monitor(controller: Controller) -> None:
    nexus = pipe(controller, anonymous=True)
    with nexus.open(1) as server, nexus.open(0) as client:
        tap = controller.register(NexusType.MONITOR, "tap", PARAMS, anonymous=True, target=server)
        with controller.create(tap).open(0) as monitor:
            assert client.tx.send(b"in")
            assert [bytes(packet) for packet in server.rx] == [b"in"]
            assert server.tx.send(b"out" * 100)
            seen = [(packet.meta.direction, bytes(packet)) for packet in monitor.rx]
            assert seen == [(2, b"in"), (1, b"out" * 100)]


def test_rubbish_at_the_socket(controller: Controller) -> None:
    seed = 7
    chance = random.Random(seed)
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(os.fspath(controller.path or ""))
            sock.sendall(chance.randbytes(chance.randrange(1, 80)))
            sock.shutdown(socket.SHUT_WR)
            assert controller.serve(5)
            with suppress(ConnectionResetError):
                assert sock.recv(100)[8:] in (b"", bytes(29))
    nexus = pipe(controller, anonymous=True)
    nexus.open(1).close()


# A process that opens the port it is told to, and then does as it is told.
CHILD = """
import os, random, sys, uuid
from skywalk import ChannelError, Direction, open_channel
path, nexus, port, what, seed = sys.argv[1:]
chance = random.Random(int(seed))
channel = open_channel(path, uuid.UUID(nexus), int(port), key=b"key")
print("open", flush=True)
kept = []
try:
    while True:
        channel.tx.send(chance.randbytes(chance.randrange(1000)))
        batch = channel.rx.receive_batch(chance.randrange(1, 8))
        if chance.random() < 0.01:
            kept.append(batch)
        if what == "rubbish" and chance.random() < 0.2:
            maps = [line.split() for line in open("/proc/self/maps") if "memfd:skywalk" in line]
            (low, high), = [[int(x, 16) for x in m[0].split("-")] for m in maps if "w" in m[1]]
            with open("/proc/self/mem", "r+b", 0) as memory:
                for _ in range(8):
                    memory.seek(low + 4096 + chance.randrange(min(high - low, 24576) - 4096 - 8))
                    memory.write(chance.randbytes(chance.randrange(1, 8)))
        del batch
        if not channel.arm(Direction.RX):
            channel.wait_readable(0.01)
except ChannelError as error:
    print(error.reason.name, flush=True)
"""


@contextmanager
def child(
    nexus: Nexus, controller: Controller, what: str, seed: int
) -> Iterator[subprocess.Popen[bytes]]:
    path = os.fspath(controller.path or "")
    words = [sys.executable, "-c", CHILD, path, str(nexus.uuid), "0", what, str(seed)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            while 0 not in nexus.open_ports:
                assert controller.serve(20), "the child does not come"
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
            yield process
        finally:
            process.kill()


def babble(channel: Channel, chance: random.Random, until: float) -> Reason | None:
    """Send and receive; why the channel ended, or None at *until* (monotonic seconds)."""
    kept = []
    try:
        while time.monotonic() < until:
            channel.tx.send(chance.randbytes(chance.randrange(1000)))
            batch = channel.rx.receive_batch(chance.randrange(1, 8))
            if chance.random() < 0.01:
                kept.append(batch)
            if not batch:
                channel.wait_readable(0.01)
    except ChannelError as error:
        return error.reason
    return None


def assert_whole(channel: Channel) -> None:
    with pytest.raises(ChannelError):
        channel.sync()
    statistics = channel.statistics()
    assert (statistics.free, statistics.held, statistics.given) == (channel.params.packets, 0, 0)


def test_the_other_end_is_killed(controller: Controller) -> None:
    """At any point: this end is told, keeps no packet, and the port opens again."""
    seed = int(os.environ.get("XSOCK_SEED", "20261122"))
    print(f"XSOCK_SEED={seed}")
    chance = random.Random(seed)
    nexus = pipe(controller)
    nexus.bind(0, key=b"key")
    nexus.bind(1, pid=os.getpid())
    for turn in range(5):
        with nexus.open(1) as channel, child(nexus, controller, "babble", seed + turn) as process:
            assert babble(channel, chance, time.monotonic() + chance.random() / 20) is None
            os.kill(process.pid, signal.SIGKILL)
            assert babble(channel, chance, time.monotonic() + 20) is Reason.PEER_DIED
            assert_whole(channel)
        controller.reap()
        assert nexus.open_ports == frozenset()


def test_the_other_end_writes_rubbish(controller: Controller) -> None:
    """Only its channel ends; another one of the same controller goes on."""
    seed = int(os.environ.get("XSOCK_SEED", "20261122"))
    print(f"XSOCK_SEED={seed}")
    chance = random.Random(seed)
    nexus, other = pipe(controller), pipe(controller, anonymous=True)
    nexus.bind(0, key=b"key")
    nexus.bind(1, pid=os.getpid())
    broken = set()
    with other.open(1) as good, other.open(0) as far:
        for turn in range(4):
            with nexus.open(1) as channel, child(nexus, controller, "rubbish", seed + turn):
                reason = babble(channel, chance, time.monotonic() + 20)
                assert reason is not None
                broken.add(reason)
                assert_whole(channel)
            assert good.tx.send(b"fine")
            assert [bytes(packet) for packet in far.rx] == [b"fine"]
    assert any(reason >= Reason.SCHEMA_BAD for reason in broken), broken


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_channel(tmp_path / "none", uuid.uuid4(), 0)


def test_no_such_nexus(controller: Controller) -> None:
    command = [sys.executable, "-c", "import sys, uuid; from skywalk import open_channel;"
               "open_channel(sys.argv[1], uuid.uuid4(), 0)"]  # fmt: skip
    with subprocess.Popen(
        [*command, os.fspath(controller.path or "")], cwd=ROOT, stderr=subprocess.PIPE
    ) as process:
        assert controller.serve(20)
        _, complaint = process.communicate(timeout=20)
    assert b"No such file" in complaint
