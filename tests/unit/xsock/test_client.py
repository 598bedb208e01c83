"""A stack of an event loop beside the process's: the same addresses, one space of ports."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from bsdcore import netstat
from bsdcore.stack import IFF_UP
from bsdcore.stack import Stack as Core
from tests.helpers.clientloop import POLLERR, POLLIN, ClientLoop, family
from xsock._client import UNSHARED
from xsock._wiring import Stack

LO = "127.0.0.1"
IN_USE = "Address already in use"


@pytest.fixture
def host() -> Iterator[Stack]:
    with Stack(nic="lo") as stack:
        yield stack


@pytest.fixture
def loop(host: Stack) -> Iterator[ClientLoop]:
    with ClientLoop(host) as loop:
        yield loop


def in_thread(work: object, *args: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
    thread.start()
    return thread


def echo(listener: object) -> None:
    sock, _ = listener.accept()  # type: ignore[attr-defined]
    with sock:
        while data := sock.recv(65536):
            sock.sendall(data)


@pytest.mark.parametrize("address", [LO, "::1"])
def test_a_client_reaches_a_server_of_the_process(
    host: Stack, loop: ClientLoop, address: str
) -> None:
    with host.socket(family(address)) as listener:
        listener.bind((address, 8080))
        listener.listen()
        thread = in_thread(echo, listener)
        sock = loop.connect(address, 8080)
        for size in (1, 1000, 60000):
            sent = os.urandom(size)
            loop.send(sock, sent)
            assert loop.receive(sock, size) == sent
        sock.close()
        loop.until(lambda: not thread.is_alive())
        thread.join()
    assert netstat.counters(host.core)["tcp.drop.badsum"] == 0


def test_the_process_reaches_a_server_of_a_client(host: Stack, loop: ClientLoop) -> None:
    listener = loop.listen("0.0.0.0", 8081)
    got: list[bytes] = []

    def talk() -> None:
        with host.socket() as sock:
            sock.connect((LO, 8081))
            sock.sendall(b"question")
            got.append(sock.recv(100))

    thread = in_thread(talk)
    sock = loop.accept(listener)
    loop.send(sock, loop.receive(sock, 8).upper())
    loop.until(lambda: got)
    thread.join()
    assert got == [b"QUESTION"]


def test_two_clients(host: Stack, loop: ClientLoop) -> None:
    with ClientLoop(host) as other:
        listener = other.listen(LO, 8082)
        sock = loop.stack.socket(2, 1)
        with pytest.raises(BlockingIOError):
            sock.connect(LO, 8082, 0)
        while not listener.poll() & POLLIN:
            loop.stack.run(0)
            other.stack.run(0)
        accepted = listener.accept(0)[0]
        accepted.send(b"hello", 0, 0)
        other.stack.run(0)
        assert loop.receive(sock, 5) == b"hello"


def test_what_stays_in_one_stack_does_not_leave_it(loop: ClientLoop) -> None:
    listener = loop.listen(LO, 8083)
    sock = loop.connect(LO, 8083)
    accepted = loop.accept(listener)
    loop.send(accepted, b"inside")
    assert loop.receive(sock, 6) == b"inside"
    assert netstat.counters(loop.stack)["if.lomissed"] == 0


@pytest.mark.parametrize("address", [LO, "::1"])
def test_nobody_listens(host: Stack, loop: ClientLoop, address: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        loop.connect(address, 9)
    with host.socket(family(address)) as sock, pytest.raises(ConnectionRefusedError):
        sock.connect((address, 9))


@pytest.mark.parametrize("address", [LO, "::1"])
def test_datagrams(host: Stack, loop: ClientLoop, address: str) -> None:
    with host.socket(family(address), 2) as ours:
        ours.bind((address, 5300))
        ours.settimeout(10)
        sock = loop.stack.socket(family(address), 2)
        sock.connect(address, 5300)
        sock.send(b"ping", 0, 0)
        loop.stack.run(0)
        data, peer = ours.recvfrom(100)
        ours.sendto(data.upper(), peer)
        assert loop.receive(sock, 4) == b"PING"
    sock.send(b"ping", 0, 0)
    loop.until(lambda: sock.poll() & POLLERR)
    with pytest.raises(ConnectionRefusedError):
        sock.recv(100, 0, 0)


def test_ports_are_taken_once(host: Stack, loop: ClientLoop) -> None:
    with host.socket() as ours:
        ours.bind(("0.0.0.0", 8084))
        with pytest.raises(OSError, match=IN_USE):
            loop.stack.socket(2, 1).bind(LO, 8084)
    theirs = loop.stack.socket(2, 1)
    theirs.bind(LO, 8084)
    with host.socket() as ours, pytest.raises(OSError, match=IN_USE):
        ours.bind(("0.0.0.0", 8084))
    theirs.close()
    with host.socket() as ours:
        ours.bind(("0.0.0.0", 8084))


def test_ephemeral_ports_never_meet(host: Stack, loop: ClientLoop) -> None:
    """A range of forty ports, taken by turns until there is none."""
    for stack in (host.core, loop.stack):
        stack.sysctl["net.inet.ip.portrange.first"] = 40000
        stack.sysctl["net.inet.ip.portrange.last"] = 40039
    kept = []
    ports = []
    for i in range(40):
        sock = (host.core if i % 2 else loop.stack).socket(2, 2)
        sock.bind(LO, 0)
        kept.append(sock)
        ports.append(sock.getsockname()[1])
    assert sorted(ports) == list(range(40000, 40040))
    for stack in (host.core, loop.stack):
        with pytest.raises(OSError, match=IN_USE):
            stack.socket(2, 2).bind(LO, 0)


def is_idle(stack: Core) -> bool:
    return not netstat.sockets(stack)


def test_a_port_changes_hands(host: Stack, loop: ClientLoop) -> None:
    """The server remembers it in TIME_WAIT: who has it next must seem the same host, later on."""
    with host.socket() as listener, ClientLoop(host) as other:
        listener.bind((LO, 8088))
        listener.listen()
        for each in (loop, other, loop):
            each.stack.sysctl["net.inet.ip.portrange.first"] = 41000
            each.stack.sysctl["net.inet.ip.portrange.last"] = 41000
            sock = each.connect(LO, 8088)
            accepted, peer = listener.accept()
            assert peer == (LO, 41000)
            accepted.close()
            assert each.receive(sock, 1) == b""
            sock.close()
            each.until(partial(is_idle, each.stack))
            assert netstat.counters(each.stack)["tcp.rexmttimeo"] == 0
    assert netstat.counters(host.core)["tcp.tw_recycled"] == 2


def test_closing_ends_what_is_open(host: Stack) -> None:
    """The peer of a client that goes away is told; its ports are free again."""
    with host.socket() as listener:
        listener.bind((LO, 8085))
        listener.listen()
        with ClientLoop(host) as loop:
            kept = loop.connect(LO, 8085)
            sock, _ = listener.accept()
        with sock, pytest.raises(ConnectionResetError):
            sock.recv(1)
        kept.close()


def test_a_stack_closes_its_clients(host: Stack) -> None:
    loop = ClientLoop(host)
    host.close()
    loop.close()


def test_in_a_forked_child_a_client_is_dead(host: Stack, loop: ClientLoop) -> None:
    """Its end there does not end the parent's connections."""
    from xsock import _fork, _wiring

    _fork.guard()
    with host.socket() as listener:
        listener.bind((LO, 8086))
        listener.listen()
        sock = loop.connect(LO, 8086)
        accepted, _ = listener.accept()
        before = _wiring.current()
        _wiring.run_with(host)
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    loop.parts.close()
                    host.close()
                    os._exit(0)
                finally:
                    os._exit(1)
        finally:
            _wiring.run_with(before)
        assert os.waitpid(pid, 0)[1] == 0
        with accepted:
            accepted.sendall(b"alive")
            assert loop.receive(sock, 5) == b"alive"


def test_what_changes_on_the_host_changes_on_its_clients() -> None:
    with Stack(nic="usernet") as host, ClientLoop(host) as loop:
        core, en0 = host.core, netstat.interfaces(loop.stack)[1]
        before = (en0.mtu, en0.addresses, {route.destination for route in routes(loop)})

        def now() -> tuple[object, ...]:
            ((mtu, addresses),) = (
                (each.mtu, each.addresses)
                for each in netstat.interfaces(loop.stack)
                if each.name == en0.name
            )
            return mtu, addresses, {route.destination for route in routes(loop)}

        core.add_address("en0", "198.51.100.9/24")
        core.add_route("192.0.2.0/24", "10.0.2.2", "en0")
        core.set_mtu("en0", 1400)
        assert now() == before
        more = {"198.51.100.0/24", "192.0.2.0/24"}
        after = (1400, (*before[1], "198.51.100.9/24"), before[2] | more)
        loop.until(lambda: now() == after)
        sock = loop.listen("198.51.100.9", 8082)
        assert sock.getsockname()[0] == "198.51.100.9"
        core.delete_route("192.0.2.0/24")
        core.delete_address("en0", "198.51.100.9")
        core.set_mtu("en0", before[0])
        loop.until(lambda: now() == before)
        core.set_flags("en0", 0, IFF_UP)
        loop.until(lambda: (netstat.interfaces(loop.stack)[1].flags & IFF_UP) == 0)


def routes(loop: ClientLoop) -> list[netstat.Route]:
    """Those over en0 that others share."""
    return [
        route
        for route in netstat.routes(loop.stack)
        if route.interface == "en0" and not route.flags & UNSHARED
    ]
