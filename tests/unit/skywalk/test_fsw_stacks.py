"""Three stacks in virtual time: a host and its client behind one flowswitch, and a far one.

The client has no ARP and no routes but the interface's; the host's answer for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

import nic
from bsdcore import netstat
from bsdcore.sockets import Socket
from bsdcore.stack import IFF_UP, NEVER, Stack
from nic import Caps, FaultSpec
from xsock._switch import Switch

POLLIN, POLLOUT, POLLERR = 1, 4, 8
NEAR, FAR = "10.0.0.1", "10.0.0.2"
ROUNDS = 200_000


class Net:
    """*host* and *client* at NEAR, *far* at FAR; ``until`` is what moves time."""

    def __init__(self, *, caps: Caps | None = None, loss: float = 0.0) -> None:
        near, wire = nic.open_pair("ethernet", caps=caps, queue=256)
        if loss:
            near = nic.wrap_fault(near, FaultSpec(seed=1, loss=loss, delay=1_000_000))
        self.stacks = [
            Stack(name, seed=bytes([seed]) * 32, virtual_time=True, start_time=1_000_000_000)
            for seed, name in enumerate(("host", "client", "far"))
        ]
        self.host, self.client, self.far = self.stacks
        self.switch = Switch(self.host)
        self.switch.lay("en0", near)
        raw, self.pool = wire.release()
        self.far.attach(raw, "en0")
        self.side = self.switch.client(self.client, -1)
        for name, port in self.side.ports.items():
            self.client.attach(port, name)
        for stack, address in zip(self.stacks, (NEAR, NEAR, FAR), strict=True):
            stack.add_address("en0", f"{address}/24")
            stack.set_flags("en0", IFF_UP)
        self.switch.set_addresses("en0", (f"{NEAR}/24",))
        self.now = 1_000_000_000

    def step(self) -> None:
        while sum(stack.run(self.now) for stack in self.stacks):
            pass
        at = min(stack.poll_at() for stack in self.stacks)
        assert at != NEVER, "nobody has anything to do any more"
        self.now = max(self.now + 1000, at)

    def until(self, done: Callable[[], object]) -> None:
        for _ in range(ROUNDS):
            if done():
                return
            self.step()
        raise AssertionError("it never came to be")

    def connect(self, stack: Stack, listener: Socket) -> tuple[Socket, Socket]:
        """A connection from *stack* to *listener*, and its other end."""
        host, port = listener.getsockname()[:2]
        sock = stack.socket(2, 1)
        with pytest.raises(BlockingIOError):
            sock.connect(host, port, 0)
        self.until(lambda: sock.poll() & (POLLOUT | POLLERR))
        assert not sock.poll() & POLLERR
        self.until(lambda: listener.poll() & POLLIN)
        return sock, listener.accept(0)[0]

    def listen(self, stack: Stack, address: str, port: int) -> Socket:
        sock = stack.socket(2, 1)
        sock.bind(address, port)
        sock.listen(8)
        return sock

    def transfer(self, *ways: tuple[Socket, Socket], size: int = 400_000) -> None:
        """*size* bytes each way at once, from the first socket of a way to the second."""
        data = [random.Random(i).randbytes(size) for i in range(len(ways))]
        left, got = list(data), [bytearray() for _ in ways]

        def move() -> bool:
            for i, (source, sink) in enumerate(ways):
                if left[i] and source.poll() & POLLOUT:
                    left[i] = left[i][source.send(left[i][:65536], 0, 0) :]
                if sink.poll() & POLLIN:
                    got[i] += sink.recv(1 << 20, 0, 0)
            return all(len(piece) == size for piece in got)

        self.until(move)
        assert [bytes(piece) for piece in got] == data

    def close(self) -> None:
        self.client.close()
        self.switch.leave(self.side)
        self.switch.unlink()
        self.host.close()
        self.far.close()
        self.switch.close()
        self.pool.drop()


@pytest.fixture(params=[None, Caps(0), Caps.SG | Caps.TXCSUM | Caps.RXCSUM])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    net = Net(caps=request.param)
    yield net
    net.close()


def counters(net: Net) -> dict[str, int]:
    return net.switch.switches["en0"].statistics()


def test_a_client_and_its_host_talk_to_one_far_stack(net: Net) -> None:
    listener = net.listen(net.far, FAR, 80)
    ours, theirs = net.connect(net.client, listener)
    host_ours, host_theirs = net.connect(net.host, listener)
    assert ours.getsockname()[1] != host_ours.getsockname()[1]
    net.transfer((ours, theirs), (theirs, ours), (host_ours, host_theirs), (host_theirs, host_ours))
    seen = counters(net)
    assert seen["rx_client"] > 0
    assert seen["tx_wire"] > 0
    assert seen["rx_dst_ring_full"] == seen["tx_flow_bad_id"] == seen["tx_not_owned"] == 0
    for stack in net.stacks:
        assert netstat.counters(stack)["tcp.drop.badsum"] == 0


def test_a_client_listens(net: Net) -> None:
    listener = net.listen(net.client, "0.0.0.0", 80)
    with pytest.raises(OSError, match="in use"):
        net.listen(net.host, NEAR, 80)
    probe = net.far.socket(2, 1)
    with pytest.raises(BlockingIOError):
        probe.connect(NEAR, 80, 0)
    net.until(lambda: listener.poll() & POLLIN)
    accepted = listener.accept(0)[0]
    net.transfer((probe, accepted), (accepted, probe))
    # What is nobody's is the host's to refuse.
    refused = net.far.socket(2, 1)
    with pytest.raises(BlockingIOError):
        refused.connect(NEAR, 81, 0)
    net.until(lambda: refused.poll() & POLLERR)


def test_a_client_and_its_host_over_loopback(net: Net) -> None:
    listener = net.listen(net.host, "127.0.0.1", 90)
    ours, theirs = net.connect(net.client, listener)
    net.transfer((ours, theirs), (theirs, ours))
    listener = net.listen(net.client, "127.0.0.1", 91)
    ours, theirs = net.connect(net.host, listener)
    net.transfer((ours, theirs), (theirs, ours))


def test_an_own_address_over_the_interface(net: Net) -> None:
    listener = net.listen(net.host, NEAR, 90)
    ours, theirs = net.connect(net.client, listener)
    net.transfer((ours, theirs), (theirs, ours), size=50_000)


def test_segments_are_joined_for_a_client_when_dev_does_not() -> None:
    net = Net(caps=Caps(0))
    listener = net.listen(net.far, FAR, 80)
    ours, theirs = net.connect(net.client, listener)
    net.transfer((theirs, ours))
    seen = counters(net)
    assert seen["rx_aggregated"] > seen["rx_client"] / 2
    net.close()


def test_loss_and_delay() -> None:
    net = Net(loss=0.02)
    listener = net.listen(net.far, FAR, 80)
    ours, theirs = net.connect(net.client, listener)
    net.transfer((ours, theirs), (theirs, ours), size=100_000)
    net.close()


def test_the_peer_of_a_client_that_dies_is_reset() -> None:
    net = Net()
    listener = net.listen(net.far, FAR, 80)
    ours, theirs = net.connect(net.client, listener)
    net.transfer((ours, theirs), size=1000)
    net.side.owner.abort()  # as if its process had gone
    net.until(lambda: theirs.poll() & POLLERR)
    with pytest.raises(ConnectionResetError):
        theirs.recv(10, 0, 0)
    assert counters(net)["tx_rst"] >= 1
    net.close()
