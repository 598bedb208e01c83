"""Every kind of pair keeps the contract of check_channel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import pytest

from skywalk import ChannelParams, Controller, NexusType, open_channel, open_pipe
from tests.contract.check_channel import CHECKS, Pair, PairFactory, echo

ROOT = Path(__file__).resolve().parents[2]

# The other end in a process of its own: sends back what it gets until its peer goes.
CHILD = """
import sys, uuid
from skywalk import ChannelError, Direction, open_channel
from tests.contract.check_channel import echo
channel = open_channel(sys.argv[1], uuid.UUID(sys.argv[2]), 0, key=b"check")
print("open", flush=True)
try:
    while True:
        echo(channel)
        channel.wait_readable() if len(channel.tx) else channel.wait_writable()
except ChannelError:
    pass
"""


@contextmanager
def in_process(params: ChannelParams) -> Iterator[Pair]:
    near, far = open_pipe(params)
    with near, far:
        yield Pair(near, lambda: echo(far))


@contextmanager
def kernel_pipe(params: ChannelParams) -> Iterator[Pair]:
    with Controller() as controller:
        provider = controller.register(NexusType.KERNEL_PIPE, "loop", params, anonymous=True)
        with controller.create(provider).open(0) as near:

            def pump() -> None:
                controller.serve(0)

            yield Pair(near, pump)


@contextmanager
def _served(controller: Controller, name: str, params: ChannelParams) -> Iterator[Pair]:
    """A kernel pipe whose user came through the socket, its provider run by a thread."""
    provider = controller.register(NexusType.KERNEL_PIPE, name, params)
    nexus = controller.create(provider)
    nexus.bind(0, pid=os.getpid(), key=b"k")

    done = Event()

    def serve() -> None:
        while not done.is_set():
            controller.serve(0.02)

    thread = Thread(target=serve)
    thread.start()
    try:
        assert controller.path is not None
        with open_channel(controller.path, nexus.uuid, 0, key=b"k") as near:
            yield Pair(near)
    finally:
        done.set()
        thread.join()


@contextmanager
def kernel_pipe_elsewhere(params: ChannelParams) -> Iterator[Pair]:
    with (
        TemporaryDirectory() as folder,
        Controller(Path(folder) / "nexus") as controller,
        _served(controller, "loop", params) as pair,
    ):
        yield pair


@contextmanager
def two_processes(params: ChannelParams) -> Iterator[Pair]:
    with TemporaryDirectory() as folder, Controller(Path(folder) / "nexus") as controller:
        nexus = controller.create(controller.register(NexusType.USER_PIPE, "pipe", params))
        nexus.bind(0, key=b"check")
        nexus.bind(1, pid=os.getpid())
        command = [sys.executable, "-c", CHILD, os.fspath(controller.path or ""), str(nexus.uuid)]
        with (
            nexus.open(1) as near,
            subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child,
        ):
            while 0 not in nexus.open_ports:
                assert controller.serve(20), "the child does not come"
            assert child.stdout is not None
            assert child.stdout.readline() == b"open\n"
            try:
                yield Pair(near)
            finally:
                near.close()
                assert child.wait(20) == 0


KINDS: dict[str, PairFactory] = {
    "pipe": in_process,
    "kernel-pipe": kernel_pipe,
    "kernel-pipe-elsewhere": kernel_pipe_elsewhere,
    "pipe-two-processes": two_processes,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_channel(kind: str, check: Callable[[PairFactory], None]) -> None:
    check(KINDS[kind])
