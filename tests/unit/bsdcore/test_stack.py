"""bsdcore from Python: two hosts on a wire, driven by hand in virtual time, and what they count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

import nic
from bsdcore import Stack, netstat
from bsdcore.stack import IFF_UP, NEVER

MS = 10**6
TCP, UDP = 1, 2


class Wire:
    """Two stacks and the pair of ports between them; time is ours."""

    def __init__(self) -> None:
        self.now = 10**9
        self.stacks = [
            Stack(name, seed=name.encode(), virtual_time=True, start_time=self.now)
            for name in ("one", "two")
        ]
        self.pools: list[Any] = []
        for number, port in enumerate(nic.open_pair("ethernet")):
            raw, pool = port.release()
            self.pools.append(pool)
            self.stacks[number].attach(raw, "en0")
            self.stacks[number].add_address("en0", f"192.0.2.{number + 1}/24")
            self.stacks[number].set_flags("en0", IFF_UP)

    def run(self, milliseconds: int = 1000) -> None:
        """Let time pass until nothing is planned before its end."""
        end = self.now + milliseconds * MS
        while True:
            more = [stack.run(self.now) for stack in self.stacks]
            if any(more):
                continue
            after = min(stack.poll_at() for stack in self.stacks)
            if after > end:
                break
            self.now = max(after, self.now + 1)
        self.now = end

    def close(self) -> None:
        for stack in self.stacks:
            stack.close()
        for pool in self.pools:
            pool.drop()


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def test_a_connection_in_virtual_time(wire: Wire) -> None:
    one, two = wire.stacks
    with two.socket(2, TCP) as listener, one.socket(2, TCP) as client:
        listener.bind("192.0.2.2", 80)
        listener.listen()
        with pytest.raises(BlockingIOError):
            client.connect("192.0.2.2", 80, 0)
        wire.run()
        server, peer = listener.accept(0)
        with server:
            assert peer == client.getsockname()
            assert client.getpeername() == ("192.0.2.2", 80)
            assert client.send(b"hello", timeout=0) == 5
            wire.run()
            assert server.recv(100, timeout=0) == b"hello"
            with pytest.raises(BlockingIOError):
                server.recv(1, timeout=0)
            [row] = [r for r in netstat.sockets(two) if r.state == "ESTABLISHED"]
            assert (row.protocol, row.local, row.remote) == ("tcp4", ("192.0.2.2", 80), peer)
            with pytest.raises(FrozenInstanceError):
                row.state = "CLOSED"  # type: ignore[misc]
        wire.run()
        assert client.recv(1, timeout=0) == b""


def test_a_reset_is_an_oserror(wire: Wire) -> None:
    one, two = wire.stacks
    with two.socket(2, TCP) as listener, one.socket(2, TCP) as client:
        listener.bind("192.0.2.2", 80)
        listener.listen()
        with pytest.raises(BlockingIOError):
            client.connect("192.0.2.2", 80, 0)
        wire.run()
        listener.accept(0)[0].abort()
        wire.run()
        with pytest.raises(ConnectionResetError):
            client.recv(1, timeout=0)


def test_datagrams_and_neighbours(wire: Wire) -> None:
    one, two = wire.stacks
    with two.socket(2, UDP) as server, one.socket(2, UDP) as client:
        server.bind("0.0.0.0", 53)
        client.sendto(b"question", "192.0.2.2", 53, 0)
        wire.run()
        data, peer = server.recvfrom(100, 0)
        assert (data, peer[0]) == (b"question", "192.0.2.1")
    [entry] = netstat.arp(one)
    assert (entry.host, entry.state, entry.interface) == ("192.0.2.2", "reachable", "en0")


def test_routes(wire: Wire) -> None:
    one = wire.stacks[0]
    one.add_route("198.51.100.0/24", "192.0.2.2", "en0")
    found = {row.destination: row for row in netstat.routes(one)}
    assert found["198.51.100.0/24"].gateway == "192.0.2.2"
    assert found["192.0.2.0/24"].interface == "en0"
    one.delete_route("198.51.100.0/24")
    assert "198.51.100.0/24" not in {row.destination for row in netstat.routes(one)}


def test_interfaces_and_memory(wire: Wire) -> None:
    one = wire.stacks[0]
    lo, en = netstat.interfaces(one)
    assert (lo.name, en.name, en.mtu) == ("lo0", "en0", 1500)
    assert en.addresses == ("192.0.2.1/24",)
    one.set_mtu("en0", 1400)
    assert netstat.interfaces(one)[1].mtu == 1400
    assert netstat.memory(one).limit > 0
    with pytest.raises(OSError, match="No such device or address"):
        one.index("absent0")


def test_counters_have_names(wire: Wire) -> None:
    one = wire.stacks[0]
    with one.socket(2, UDP) as sock:
        sock.sendto(b"x", "192.0.2.2", 9, 0)
    assert any(value for name, value in netstat.counters(one).items() if "udp" in name)


def test_tunables(wire: Wire) -> None:
    sysctl = wire.stacks[0].sysctl
    rows = list(sysctl.tunables())
    assert len(rows) == len({row.name for row in rows})
    assert all(row.minimum <= row.value <= row.maximum and row.doc for row in rows)
    row = next(r for r in rows if r.name.startswith("net.inet.tcp.") and r.maximum > r.minimum)
    sysctl[row.name] = row.maximum
    assert sysctl[row.name] == row.maximum
    assert wire.stacks[1].sysctl[row.name] == row.value
    with pytest.raises(KeyError):
        sysctl["no.such.thing"]
    with pytest.raises(KeyError):
        sysctl["no.such.thing"] = 1
    with pytest.raises(ValueError, match=f"{row.name}: .* is not in {row.minimum}"):
        sysctl[row.name] = row.maximum + 1


@pytest.mark.parametrize("prefix", ["192.0.2.1/33", "192.0.2.1/x", "::1/129"])
def test_malformed_prefixes(wire: Wire, prefix: str) -> None:
    with pytest.raises(ValueError, match="malformed prefix length"):
        wire.stacks[0].add_address("en0", prefix)


def test_an_idle_stack_plans_little_and_answers_after_close() -> None:
    stack = Stack(virtual_time=True)
    sock = stack.socket(2, UDP)
    assert stack.poll_at() <= NEVER
    stack.close()
    stack.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sock.getsockname()
    sock.close()
