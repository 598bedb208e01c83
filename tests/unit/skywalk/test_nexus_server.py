"""The process that has the controller, and the server's end, dies or misbehaves under its client.

test_nexus.py has the other role: the opener is killed or writes rubbish under the controller.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from skywalk import Channel, ChannelError, Reason, open_channel, open_pipe
from tests.unit.skywalk.test_nexus import PARAMS, ROOT, assert_whole, babble

# A process with a controller and its port 1, which does as it is told once port 0 is open.
SERVER = """
import random, sys
from skywalk import ChannelError, Controller, Direction, NexusType
from tests.unit.skywalk.test_nexus import PARAMS
from tests.unit.skywalk.test_nexus_server import KINDS, scribble
path, what, seed = sys.argv[1:]
chance = random.Random(int(seed))
with Controller(path) as controller:
    kind = NexusType.KERNEL_PIPE if what == "kernel" else NexusType.USER_PIPE
    nexus = controller.create(controller.register(kind, "pipe", PARAMS, anonymous=True))
    channel = None if what == "kernel" else nexus.open(1)
    print(nexus.uuid, flush=True)
    while 0 not in nexus.open_ports:
        controller.serve(20)
    while what == "kernel":
        controller.serve(20)
    print("open", flush=True)
    try:
        KINDS[what](channel, chance)
    except ChannelError as error:
        print(error.reason.name, flush=True)
"""


def scribble(chance: random.Random) -> None:
    """Random bytes into what this process may write of its channel but the payload."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    maps = [line for line in lines if "memfd:skywalk" in line[5:] or "/memfd:skywalk" in line[5:]]
    ((low, high),) = [[int(x, 16) for x in m[0].split("-")] for m in maps if "w" in m[1]]
    with Path("/proc/self/mem").open("r+b", 0) as memory:
        for _ in range(8):
            memory.seek(low + 4096 + chance.randrange(min(high - low, 24576) - 4096 - 8))
            memory.write(chance.randbytes(chance.randrange(1, 8)))


def babbles(channel: Channel, chance: random.Random) -> None:
    """Send and receive until killed."""
    babble(channel, chance, time.monotonic() + 60)


def writes_rubbish(channel: Channel, chance: random.Random) -> None:
    """The same, with rubbish in the rings now and then."""
    while babble(channel, chance, time.monotonic() + 0.005) is None:
        scribble(chance)


def never_drains(channel: Channel, chance: random.Random) -> None:
    """Wait to be killed."""
    sys.stdin.read()


def floods(channel: Channel, chance: random.Random) -> None:
    """Send without end and receive nothing."""
    while True:
        if not channel.tx.send(bytes(chance.randrange(1000))):
            channel.wait_writable()


KINDS = {
    "babble": babbles,
    "rubbish": writes_rubbish,
    "never": never_drains,
    "flood": floods,
}


@contextmanager
def served(path: Path, what: str, seed: int) -> Iterator[tuple[subprocess.Popen[bytes], Channel]]:
    """A server that does *what*, and a channel to it."""
    words = [sys.executable, "-c", SERVER, os.fspath(path), what, str(seed)]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            name = uuid.UUID(process.stdout.readline().decode().strip())
            with open_channel(path, name, 0, timeout=20) as channel:
                yield process, channel
        finally:
            process.kill()
            path.unlink(missing_ok=True)


def seeded() -> int:
    seed = int(os.environ.get("XSOCK_SEED", "20261122"))
    print(f"XSOCK_SEED={seed}")
    return seed


def test_the_server_is_killed(tmp_path: Path) -> None:
    """At any point; and a new controller at the same path is opened at once."""
    seed = seeded()
    chance = random.Random(seed)
    for turn in range(4):
        with served(tmp_path / "nexus", "babble", seed + turn) as (process, channel):
            assert babble(channel, chance, time.monotonic() + chance.random() / 20) is None
            process.kill()
            assert babble(channel, chance, time.monotonic() + 20) is Reason.PEER_DIED
            assert_whole(channel)


def test_a_provider_is_killed(tmp_path: Path) -> None:
    """Of a kernel pipe: the process whose callbacks are the other end."""
    seed = seeded()
    chance = random.Random(seed)
    for turn in range(2):
        with served(tmp_path / "nexus", "kernel", seed + turn) as (process, channel):
            assert babble(channel, chance, time.monotonic() + chance.random() / 20) is None
            process.kill()
            assert babble(channel, chance, time.monotonic() + 20) is Reason.PEER_DIED
            assert_whole(channel)


def test_the_server_writes_rubbish(tmp_path: Path) -> None:
    """Only that channel ends, with the reason."""
    seed = seeded()
    chance = random.Random(seed)
    broken = set()
    near, far = open_pipe(PARAMS)
    with near, far:
        for turn in range(4):
            with served(tmp_path / "nexus", "rubbish", seed + turn) as (_, channel):
                reason = babble(channel, chance, time.monotonic() + 20)
                assert reason is not None
                broken.add(reason)
                assert_whole(channel)
            assert near.tx.send(b"fine")
            assert [bytes(packet) for packet in far.rx] == [b"fine"]
    assert any(reason >= Reason.SCHEMA_BAD for reason in broken), broken


def test_the_server_never_drains(tmp_path: Path) -> None:
    """What can be sent is bounded by the ring, and all of it comes back when the server dies."""
    near, far = open_pipe(PARAMS)
    with near, far, served(tmp_path / "nexus", "never", 0) as (process, channel):
        sent = sum(bool(channel.tx.send(b"more")) for _ in range(10_000))
        assert sent == PARAMS.slots - 1
        assert not channel.wait_writable(0)
        assert channel.statistics().given == sent
        assert near.tx.send(b"fine")
        assert [bytes(packet) for packet in far.rx] == [b"fine"]
        process.kill()
        with pytest.raises(ChannelError) as info:
            channel.wait_writable(20)
        assert info.value.reason is Reason.PEER_DIED
        assert_whole(channel)


def drained(channel: Channel) -> tuple[int, Reason]:
    """Receive until the channel ends: how many packets there were, and why it ended."""
    left = 0
    try:
        while True:
            left += len(channel.rx.receive_batch(64))
            channel.wait_readable(20)
    except ChannelError as error:
        return left, error.reason


def test_the_server_floods(tmp_path: Path) -> None:
    """No more than a ring of it is ever here; the rest waits over there."""
    near, far = open_pipe(PARAMS)
    with near, far, served(tmp_path / "nexus", "flood", 0) as (process, channel):
        got = 0
        while got < 5000:
            batch = channel.rx.receive_batch(64)
            assert len(batch) < PARAMS.slots
            got += len(batch)
            if not batch:
                assert channel.wait_readable(20)
            del batch
            assert channel.statistics().lent == 0
        assert near.tx.send(b"fine")
        assert [bytes(packet) for packet in far.rx] == [b"fine"]
        process.kill()
        process.wait()
        left, reason = drained(channel)
        assert left <= PARAMS.packets
        assert reason is Reason.PEER_DIED
        assert_whole(channel)
