"""A stack on a CLIENT port of a flowswitch, through a channel: here, and in another process.

The switch's process reserves the ports that the other may use, and joins the channel's end to
the CLIENT port; the stack over there has the interface's address and nothing else.
"""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

import nic
from bsdcore.sockets import Socket
from bsdcore.stack import IFF_UP, Stack
from skywalk import Controller, NexusType, PortJoin, channel_port, open_pipe
from skywalk.flowswitch import Owner, OwnerKind
from tests.helpers.sim import MIB, Simulation, Transfer
from tests.unit.skywalk.test_channel_port import PARAMS, ROOT, WAIT, attach, patient
from xsock._switch import Switch

NEAR, FAR = "10.0.0.1", "10.0.0.2"
CONNECTS, LISTENS = 5000, 5001
SIZE = 1 << 20

CHILD = """
import sys, uuid
from tests.unit.skywalk.test_channel_port import WAIT, patient
from tests.unit.skywalk.test_join_switch import CONNECTS, FAR, LISTENS, NEAR, both_ways
import nic
from bsdcore.stack import Stack
from skywalk import channel_port, open_channel
raw, pool = channel_port(open_channel(sys.argv[1], uuid.UUID(sys.argv[2]), 0), nic.Pool()).release()
with Stack("child") as stack:
    stack.attach(raw, "en0")
    stack.set_flags("en0", 1)
    stack.add_address("en0", NEAR + "/24")
    stack.start()
    with stack.socket(2, 1) as listener, stack.socket(2, 1) as near:
        listener.bind(NEAR, LISTENS)
        listener.listen(1)
        near.bind(NEAR, CONNECTS)
        patient(lambda: near.connect(FAR, 80, timeout=WAIT))
        both_ways(near, b"child")
        print("listening", flush=True)
        accepted = patient(lambda: listener.accept(timeout=WAIT))[0]
        with accepted:
            both_ways(accepted, b"child")
    print("done", flush=True)
    sys.stdin.read()
"""


def both_ways(sock: Socket, name: bytes) -> None:
    """SIZE bytes from the child, which are compared, then as many to it."""

    def send(data: bytes) -> None:
        while data:
            data = data[patient(partial(sock.send, data[:65536], timeout=WAIT)) :]

    def receive(wanted: bytes) -> None:
        got = bytearray()
        while len(got) < len(wanted):
            data = patient(lambda: sock.recv(65536, timeout=WAIT))
            assert data, "it ended early"
            got += data
        assert got == wanted

    up, down = (hashlib.shake_128(word).digest(SIZE) for word in (b"up", b"down"))
    for is_up in (True, False):
        (send if is_up == (name == b"child") else receive)(up if is_up else down)


@contextmanager
def driven(join: PortJoin) -> Iterator[None]:
    """Run *join* in a thread."""
    over = threading.Event()
    stop = os.eventfd(0, os.EFD_CLOEXEC)

    def drive() -> None:
        poller = select.poll()
        for fd in (join.fileno(), stop):
            poller.register(fd, select.POLLIN)
        while not over.is_set():
            due = join.poll_at()
            left = None if due == nic.NEVER else max(0, due - time.monotonic_ns()) / 1e6
            poller.poll(left)
            join.run(time.monotonic_ns())

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        yield
    finally:
        over.set()
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)


def talk(controller: Controller, words: list[str], far: Stack) -> None:
    """The child connects to *far*, which then connects to the child."""
    with (
        far.socket(2, 1) as listener,
        subprocess.Popen(
            [sys.executable, "-c", CHILD, *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child,
    ):
        assert child.stdout is not None
        try:
            listener.bind(FAR, 80)
            listener.listen(1)
            assert controller.serve(20)
            accepted = patient(lambda: listener.accept(timeout=WAIT))[0]
            with accepted:
                assert accepted.getpeername()[:2] == (NEAR, CONNECTS)
                both_ways(accepted, b"switch")
                assert child.stdout.readline() == b"listening\n"
            with far.socket(2, 1) as outward:
                patient(lambda: outward.connect(NEAR, LISTENS, timeout=WAIT))
                both_ways(outward, b"switch")
                assert child.stdout.readline() == b"done\n"
        finally:
            child.kill()


def lay(switch: Switch, port: nic.Port) -> Owner:
    """The switch on *port* as en0; who may use CONNECTS and LISTENS there."""
    switch.lay("en0", port)
    switch.set_addresses("en0", (f"{NEAR}/24",))
    owner = switch.netns.owner(OwnerKind.CLIENT, os.getpid())
    for number in (CONNECTS, LISTENS):
        owner.reserve(6, NEAR, number)
    return owner


@pytest.mark.parametrize("caps", [None, nic.Caps(0)], ids=["offload", "bare"])
def test_in_virtual_time(caps: nic.Caps | None) -> None:
    """Without offloads the switch joins segments to super-segments, which must cross too."""
    with Simulation(seed=6) as sim:
        guest, host, far = sim.host("guest"), sim.host("host"), sim.host("far")
        switch = Switch(host)
        dev, wire = nic.open_pair(caps=caps)
        owner = lay(switch, dev)
        host.set_flags("en0", IFF_UP)
        host.add_address("en0", f"{NEAR}/24")
        attach(sim, far, wire, f"{FAR}/24")
        ends = [channel_port(end, sim._pool) for end in open_pipe(PARAMS)]
        attach(sim, guest, ends[0], f"{NEAR}/24")
        with PortJoin(ends[1], switch.switches["en0"].client(owner, sim._pool)) as join:

            def step() -> bool:
                for _ in range(4):  # guest, join, host, far and the way back
                    join.run(sim.now)
                    for stack in sim.stacks:
                        while stack.run(sim.now):
                            join.run(sim.now)
                due = min(join.poll_at(), *(stack.poll_at() for stack in sim.stacks))
                sim.now = max(sim.now, due) if due != nic.NEVER else sim.now
                return due != nic.NEVER

            sim.step = step  # type: ignore[method-assign]
            with guest.socket(2, 1) as out, far.socket(2, 1) as listener:
                listener.bind(FAR, 80)
                listener.listen(1)
                out.bind(NEAR, CONNECTS)
                with suppress(BlockingIOError):
                    out.connect(FAR, 80, timeout=0)
                accepted: list[Socket] = []

                def came() -> bool:
                    with suppress(BlockingIOError):
                        accepted.append(listener.accept(timeout=0)[0])
                    return bool(accepted)

                sim.run(came)
                with accepted[0] as inward:
                    sim.run(Transfer(out, inward, MIB).pump)
                    sim.run(Transfer(inward, out, MIB).pump, limit=5)
            seen = switch.switches["en0"].statistics()
            assert (seen["rx_aggregated"] > 0) == (caps is not None)
            assert seen["tx_flow_stale"] == seen["tx_not_owned"] == 0
        owner.close()
        switch.unlink()
        host.close()
        sim.stacks.remove(host)
        switch.close()


def test_a_stack_in_another_process_uses_the_switch(tmp_path: Path) -> None:
    near, wire = nic.open_pair("ethernet", threads=True)
    host, far = Stack("host"), Stack("far")
    switch = Switch(host)
    owner = lay(switch, near)
    raw, far_pool = wire.release()
    far.attach(raw, "en0")
    for stack, address in ((host, NEAR), (far, FAR)):
        stack.add_address("en0", f"{address}/24")
        stack.set_flags("en0", IFF_UP)
        stack.start()
    with Controller(tmp_path / "nexus") as controller, nic.Pool() as pool:
        provider = controller.register(NexusType.USER_PIPE, "pipe", PARAMS, anonymous=True)
        nexus = controller.create(provider)
        end = channel_port(nexus.open(1), pool)
        with PortJoin(end, switch.switches["en0"].client(owner, pool)) as join, driven(join):
            talk(controller, [os.fspath(controller.path or ""), str(nexus.uuid)], far)
            seen = switch.switches["en0"].statistics()
            assert seen["rx_client"] > 0
            assert seen["tx_wire"] > 0
            assert seen["tx_not_owned"] == 0
            assert seen["tx_flow_stale"] == 0
    owner.close()
    switch.unlink()
    host.close()
    far.close()
    switch.close()
    far_pool.drop()
