"""Stand-in descriptors: what pollers, forked children and C code see."""

from __future__ import annotations

import os
import select
import socket as std
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.xsock.conftest import SECONDS
from xsock import _fork, _heirloom, _socket
from xsock._wiring import Stack

Pair = tuple[Any, Any]


def polled(sock: Any, events: int = select.POLLIN | select.POLLOUT, wait: float = 0) -> int:
    poller = select.poll()
    poller.register(sock, events)
    return sum(found for _, found in poller.poll(wait * 1000))


def test_a_stream_polls_as_it_is(pair: Pair) -> None:
    client, server = pair
    assert polled(client) == select.POLLOUT
    server.sendall(b"x")
    assert polled(client, select.POLLIN, SECONDS) == select.POLLIN
    assert client.recv(10) == b"x"
    assert polled(client) == select.POLLOUT
    server.close()
    assert polled(client, select.POLLIN, SECONDS) & select.POLLIN
    assert client.recv(1) == b""


def test_raw_reads_and_writes_are_the_connections(pair: Pair) -> None:
    client, server = pair
    fd = client.fileno()
    os.write(fd, b"raw")
    assert server.recv(10) == b"raw"
    server.sendall(b"back")
    client.settimeout(None)
    assert os.read(fd, 10) == b"back"
    assert client.fileno() == fd


def test_order_is_kept_across_the_switch(pair: Pair) -> None:
    client, server = pair
    server.sendall(b"before ")
    client.sendall(b"1")
    client.fileno()
    server.sendall(b"after")
    client.sendall(b"2")
    got = b""
    while len(got) < 12:
        got += client.recv(100)
    assert got == b"before after"
    assert server.recv(2, std.MSG_WAITALL) == b"12"


@pytest.mark.parametrize("moment", range(8))
def test_a_reader_that_waits_is_not_left_behind(pair: Pair, moment: int) -> None:
    client, server = pair
    got = bytearray()

    def read() -> None:
        while len(got) < 24:
            got.extend(client.recv(100))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(8):
        if i == moment:
            client.fileno()
        server.sendall(b"%03d" % i)
    reader.join(SECONDS)
    assert bytes(got) == b"".join(b"%03d" % i for i in range(8))


def test_a_reset_is_told_with_its_errno(pair: Pair) -> None:
    client, server = pair
    client.fileno()
    server.setsockopt(std.SOL_SOCKET, std.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.close()
    assert polled(client, select.POLLIN, SECONDS)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_refused_connection_polls_and_says_why(stack: Stack) -> None:
    with stack.socket() as sock:
        sock.setblocking(False)
        sock.fileno()
        code = sock.connect_ex(("127.0.0.1", 1))
        if code == 115:
            assert polled(sock, select.POLLOUT, SECONDS)
            code = sock.getsockopt(std.SOL_SOCKET, std.SO_ERROR)
        assert code == 111


def test_a_listener_is_readable_while_connections_wait(stack: Stack) -> None:
    with stack.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.fileno()  # before listen(): the number stays
        listener.listen()
        listener.setblocking(False)
        assert not polled(listener, select.POLLIN)
        clients = [stack.socket() for _ in range(3)]
        for client in clients:
            client.connect(listener.getsockname())
        for _ in clients:
            assert polled(listener, select.POLLIN, SECONDS)
            listener.accept()[0].close()
        assert not polled(listener, select.POLLIN)
        with pytest.raises(BlockingIOError):
            listener.accept()
        for client in clients:
            client.close()


def test_datagrams_are_readable_one_by_one(udp: Callable[[], Any]) -> None:
    a, b = udp(), udp()
    assert polled(b) == select.POLLOUT
    for i in range(3):
        a.sendto(b"%d" % i, b.getsockname())
    for i in range(3):
        assert polled(b, select.POLLIN, SECONDS)
        assert b.recvfrom(10) == (b"%d" % i, a.getsockname())
    assert not polled(b, select.POLLIN)
    b.setblocking(False)
    with pytest.raises(BlockingIOError):
        b.recv(1)


def test_dup_is_the_same_socket(pair: Pair) -> None:
    client, server = pair
    with client.dup() as twin:
        assert twin.getpeername() == server.getsockname()
        assert twin.gettimeout() == client.gettimeout()
        client.close()
        twin.sendall(b"twin")
        assert server.recv(10) == b"twin"
        assert polled(server, select.POLLIN) == 0
    assert server.recv(1) == b""


def test_detach_and_back(pair: Pair) -> None:
    client, server = pair
    name = client.getsockname()
    fd = client.detach()
    assert client.fileno() == -1
    with _socket.socket(fileno=fd) as again:
        assert (again.family, again.getsockname()) == (std.AF_INET, name)
        again.sendall(b"back")
        assert server.recv(10) == b"back"


def test_closing_sends_what_is_in_the_pair_first(pair: Pair) -> None:
    client, server = pair
    client.fileno()
    data = os.urandom(100_000)
    client.sendall(data)
    client.close()
    assert server.recv(len(data), std.MSG_WAITALL) == data
    assert server.recv(1) == b""


def test_blocking_mode_is_the_descriptors_too(pair: Pair) -> None:
    client, _ = pair
    client.settimeout(None)
    assert os.get_blocking(client.fileno())
    client.settimeout(1)
    assert not os.get_blocking(client.fileno())


def test_a_forked_child_goes_on_with_the_connection(pair: Pair, stack: Stack) -> None:
    client, server = pair
    near, far = client.getsockname(), client.getpeername()
    for sock in _fork._sockets(stack):
        _heirloom.bequeath(sock)
    stack.core.fork_prepare()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            stack.core.fork_child()
            _heirloom.inherit(client)
            client.sendall(repr((client.getsockname(), client.getpeername())).encode())
            client.setsockopt(std.IPPROTO_TCP, std.TCP_NODELAY, 1)
            status = 0
        finally:
            os._exit(status)
    stack.core.fork_parent()
    assert os.waitpid(pid, 0)[1] == 0
    assert server.recv(200) == repr((near, far)).encode()
    client.sendall(b"parent")
    assert server.recv(10) == b"parent"
