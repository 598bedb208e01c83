"""TCP over a channel: in virtual time, joined to another port, and between two processes."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

import nic
from bsdcore.stack import Stack
from skywalk import ChannelParams, Controller, NexusType, PortJoin, channel_port, open_pipe
from tests.helpers.sim import MIB, Simulation, Transfer

ROOT = Path(__file__).resolve().parents[3]
T = TypeVar("T")
WAIT = 20 * 10**9
PARAMS = ChannelParams(slots=64, packets=128, buffer=2048, buflets=1024, max_frags=33)


def attach(sim: Simulation, stack: Stack, port: nic.Port, address: str) -> None:
    raw, pool = port.release()
    sim._held.append(pool)
    stack.attach(raw, "en0")
    stack.set_flags("en0", 1)
    stack.add_address("en0", address)


def test_tcp_over_a_pipe() -> None:
    with Simulation(seed=3) as sim:
        a, b = sim.host("a"), sim.host("b")
        for stack, end, address in zip(
            (a, b), open_pipe(PARAMS), ("10.0.0.1/24", "10.0.0.2/24"), strict=True
        ):
            attach(sim, stack, channel_port(end, sim._pool), address)
        near, far = sim.connect(a, b, "10.0.0.2")
        with near, far:
            sim.run(Transfer(near, far, 4 * MIB).pump)
            sim.run(Transfer(far, near, 4 * MIB).pump)


def test_tcp_through_a_join() -> None:
    """A stack on a channel whose other end is joined to a port of this process."""
    with Simulation(seed=4) as sim:
        a, b = sim.host("a"), sim.host("b")
        near_end, far_end = open_pipe(PARAMS)
        inner, outer = nic.open_pair("rawip", pools=(sim._pool, sim._pool))
        attach(sim, a, channel_port(near_end, sim._pool), "10.0.0.1/24")
        attach(sim, b, outer, "10.0.0.2/24")
        with PortJoin(channel_port(far_end, sim._pool), inner) as join:
            step = sim.step

            def joined() -> bool:
                join.run(sim.now)
                busy = step()
                join.run(sim.now)
                return busy or any(stack.poll_at() <= sim.now for stack in sim.stacks)

            sim.step = joined  # type: ignore[method-assign]
            near, far = sim.connect(a, b, "10.0.0.2")
            with near, far:
                sim.run(Transfer(near, far, MIB).pump)


def test_a_join_wants_equal_links() -> None:
    with nic.Pool() as pool:
        ethernet = nic.open_pair(pools=(pool, pool))
        bare = nic.open_pair("rawip", pools=(pool, pool))
        with (
            ethernet[0] as one,
            ethernet[1],
            bare[0] as other,
            bare[1],
            pytest.raises(ValueError, match="different links"),
        ):
            PortJoin(one, other)


def test_a_channel_too_small_for_the_mtu() -> None:
    near, far = open_pipe(ChannelParams(buffer=1024))
    with nic.Pool() as pool, far, pytest.raises(ValueError, match="1500 bytes"):
        channel_port(near, pool)


def patient(call: Callable[[], T]) -> T:
    """What *call* answers; a wait in C may end for nothing (EINTR), and is begun again."""
    while True:
        try:
            return call()
        except InterruptedError:
            pass


def test_a_refused_sender_is_woken_by_room() -> None:
    """Also when the port is asked for packets in between, which quietens its descriptor."""
    ends = open_pipe(ChannelParams(slots=4, packets=8))
    with nic.Pool() as pool:
        near, far = (channel_port(end, pool) for end in ends)
        with near, far, select.epoll() as poller:
            poller.register(near.fileno(), select.EPOLLIN)
            frame = b"\x45" + bytes(30)
            for _ in range(3):
                near.send(frame)
            with pytest.raises(BlockingIOError):
                near.send(frame)
            assert near.recv() is None
            assert poller.poll(0) == []
            assert far.recv() == frame
            assert near.recv() is None
            assert poller.poll(0) == [(near.fileno(), select.EPOLLIN)]
            near.send(frame)
            assert near.recv() is None
            assert poller.poll(0) == []


CHILD = """
import hashlib, sys, uuid
from tests.unit.skywalk.test_channel_port import WAIT, patient
import nic
from bsdcore.stack import Stack
from skywalk import channel_port, open_channel
channel = open_channel(sys.argv[1], uuid.UUID(sys.argv[2]), 0)
pool = nic.Pool()
with Stack("child") as stack:
    raw, pool = channel_port(channel, pool).release()
    stack.attach(raw, "en0")
    stack.set_flags("en0", 1)
    stack.add_address("en0", "10.0.0.2/24")
    stack.start()
    with stack.socket(2, 1) as near:
        patient(lambda: near.connect("10.0.0.1", 80, timeout=WAIT))
        digest, count = hashlib.sha256(), 0
        while data := patient(lambda: near.recv(65536, timeout=WAIT)):
            digest.update(data)
            count += len(data)
        patient(lambda: near.send(digest.digest(), timeout=WAIT))
        print(count, flush=True)
"""


def test_two_stacks_in_two_processes(tmp_path: Path) -> None:
    size = 20 * MIB
    block = hashlib.shake_128(b"two").digest(MIB)
    with Controller(tmp_path / "nexus") as controller, nic.Pool() as pool:
        provider = controller.register(NexusType.USER_PIPE, "pipe", PARAMS, anonymous=True)
        nexus = controller.create(provider)
        command = [sys.executable, "-c", CHILD, os.fspath(controller.path or ""), str(nexus.uuid)]
        with Stack("parent") as stack:
            raw, held = channel_port(nexus.open(1), pool).release()
            stack.attach(raw, "en0")
            stack.set_flags("en0", 1)
            stack.add_address("en0", "10.0.0.1/24")
            stack.start()
            with (
                stack.socket(2, 1) as listener,
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child,
            ):
                listener.bind("10.0.0.1", 80)
                listener.listen(1)
                assert controller.serve(20)
                far = patient(lambda: listener.accept(timeout=WAIT))[0]
                with far:
                    for _ in range(size // MIB):
                        left = block
                        while left:
                            left = left[patient(partial(far.send, left, timeout=WAIT)) :]
                    far.shutdown(1)
                    got = patient(lambda: far.recv(64, timeout=WAIT))
                output, _ = child.communicate(timeout=20)
                assert int(output) == size
                assert got == hashlib.sha256(block * (size // MIB)).digest()
        held.drop()
