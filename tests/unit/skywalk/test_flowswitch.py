"""The handles of flowswitch.py: lifetimes, errors, and what tools are shown."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from nic import Pool, Port, open_pair, open_port
from skywalk.flowswitch import FlowState, Flowswitch, Netns, OwnerKind, packed
from tests.contract.frames import ADDRESS, PORTS, build, ethernet, finished

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP


@pytest.fixture
def netns() -> Iterator[Netns]:
    netns = Netns(seed=bytes(16))
    yield netns
    netns.close()


@pytest.fixture
def wire(netns: Netns) -> Iterator[tuple[Flowswitch, Port]]:
    """A flowswitch at one end of a pair, and the other end."""
    near, far = open_pair("ethernet")
    with Flowswitch(netns, near) as switch, far:
        yield switch, far


def test_a_client_gets_what_it_reserved(netns: Netns, wire: tuple[Flowswitch, Port]) -> None:
    switch, far = wire
    owner = netns.owner(OwnerKind.CLIENT, 7)
    owner.reserve(UDP, "::", PORTS[1])
    header = ethernet(switch.host.info.mac, far.info.mac, 4)
    frame = finished(build(header, 4, UDP, b"payload"))
    with Pool() as pool, switch.client(owner, pool) as client:
        far.send(frame)
        assert switch.host.recv() is None
        assert client.recv() == frame[14:]
        assert client.info.link == "rawip"
        owner.unreserve(UDP, "::", PORTS[1])
        far.send(frame)
        assert switch.host.recv() == frame
        assert client.recv() is None
    owner.close()
    counters = switch.statistics()
    assert counters["rx_pkts"] == 2
    assert counters["rx_client"] == counters["rx_host"] == 1


def test_own_addresses(netns: Netns, wire: tuple[Flowswitch, Port]) -> None:
    switch, far = wire
    owner = netns.owner(OwnerKind.CLIENT)
    owner.reserve(UDP, "::", PORTS[1])
    header = ethernet(switch.host.info.mac, far.info.mac, 4)
    frame = finished(build(header, 4, UDP, b"payload"))
    with Pool() as pool, switch.client(owner, pool):
        switch.set_addresses(["192.0.2.1", "fd00::1"])
        far.send(frame)  # for an address that is not one of these
        assert switch.host.recv() == frame
        switch.set_addresses([socket.inet_ntoa(ADDRESS[4][1])])
        far.send(frame)
        assert switch.host.recv() is None
        with pytest.raises(OSError, match="too long"):
            switch.set_addresses(["::1"] * 65)
    owner.close()


def test_ports_of_two_owners(netns: Netns) -> None:
    host, client = netns.owner(OwnerKind.HOST, 1), netns.owner(OwnerKind.CLIENT, 2)
    host.reserve(TCP, "0.0.0.0", 80)
    with pytest.raises(OSError, match="already in use"):
        client.reserve(TCP, "127.0.0.1", 80)
    client.reserve(TCP, "::1", 81)
    ports = {(flow.kind, flow.local, flow.pid, flow.state) for flow in netns.flows()}
    assert ports == {
        (OwnerKind.HOST, ("0.0.0.0", 80), 1, FlowState.RESERVED),
        (OwnerKind.CLIENT, ("::1", 81), 2, FlowState.RESERVED),
    }
    host.close()
    client.reserve(TCP, "127.0.0.1", 80)
    client.close()
    client.close()
    assert netns.flows() == []
    with pytest.raises(ValueError, match="closed"):
        client.reserve(TCP, "::", 80)


def test_one_client_for_each_owner(netns: Netns, wire: tuple[Flowswitch, Port]) -> None:
    switch, _ = wire
    owner, host = netns.owner(OwnerKind.CLIENT), netns.owner(OwnerKind.HOST)
    with Pool() as pool, switch.client(owner, pool):
        assert switch.info.clients == 1
        with pytest.raises(OSError, match="busy"):
            switch.client(owner, pool)
        with pytest.raises(OSError, match="Invalid argument"):
            switch.client(host, pool)
    with Pool() as pool, switch.client(owner, pool):
        assert switch.info.clients == 1
    owner.close()
    host.close()


def test_host_closes_dev_and_clients_know(netns: Netns) -> None:
    near, far = open_pair("ethernet")
    switch = Flowswitch(netns, near)
    owner = netns.owner(OwnerKind.CLIENT)
    with Pool() as pool, switch.client(owner, pool) as client, far:
        assert switch.info.is_alive
        switch.host.close()
        assert not switch.info.is_alive
        with pytest.raises(OSError, match="No such device or address"):
            client.recv()
        switch.close()
        switch.close()
    owner.close()


def test_a_stack_that_has_host_closes_it_first(netns: Netns) -> None:
    switch = Flowswitch(netns, open_port("lo"), loop=True)
    raw, pool = switch.host.release()
    with pytest.raises(RuntimeError, match="HOST"):
        switch.close()
    Port(raw, pool).close()
    pool.drop()
    switch.close()


def test_a_loop_must_not_have_a_link_header(netns: Netns) -> None:
    near, far = open_pair("ethernet")
    with far, pytest.raises(OSError, match="Invalid argument"):
        Flowswitch(netns, near, loop=True)


def test_addresses_in_sixteen_bytes() -> None:
    assert packed("10.0.0.1") == bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert packed("fd00::1") == bytes.fromhex("fd00" + "0" * 27 + "1")
