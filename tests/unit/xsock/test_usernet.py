"""The embedded default: the program's flows, carried on over the host's sockets."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import xsock
from bsdcore import netstat
from xsock import original
from xsock._wiring import Stack

SECONDS = 10.0


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server on the host's loopback that sends everything back."""
    with original.create_server(("127.0.0.1", 0)) as listener:

        def serve(sock: Any) -> None:
            with sock:
                while data := sock.recv(65536):
                    sock.sendall(data)

        def loop() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=loop)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(2)
        thread.join()


@pytest.fixture
def stack() -> Iterator[Stack]:
    with xsock.Stack(nic="usernet") as made:
        yield made


def dial(stack: Stack, host: str, port: int) -> Any:
    sock = stack.socket()
    sock.settimeout(SECONDS)
    try:
        sock.connect((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


@pytest.mark.parametrize("host", ["10.0.2.2", "127.0.0.1"])
def test_the_hosts_loopback_is_reached(stack: Stack, echo: int, host: str) -> None:
    data = os.urandom(2 << 20)
    with dial(stack, host, echo) as sock:
        assert sock.getpeername() == (host, echo)
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        digest = hashlib.sha256()
        left = len(data)
        while left:
            piece = sock.recv(left)
            digest.update(piece)
            left -= len(piece)
        sender.join()
        sock.shutdown(1)
        assert sock.recv(1) == b""
    assert digest.digest() == hashlib.sha256(data).digest()
    stats = netstat.gateway(stack.usernet.stack)
    assert (stats.tcp_flows, stats.bytes_in) == (1, len(data))


def test_refusal_is_refusal(stack: Stack) -> None:
    with pytest.raises(ConnectionRefusedError):
        dial(stack, "10.0.2.2", 1)


def test_loopback_can_be_left_out(echo: int) -> None:
    with xsock.Stack(nic="usernet:loopback=off") as stack:
        for host in ("10.0.2.2", "127.0.0.1"):
            with pytest.raises(ConnectionRefusedError):
                dial(stack, host, echo)


def test_datagrams_go_and_come_back(stack: Stack) -> None:
    with original.socket(2, 2) as server, stack.socket(type=2) as client:
        server.bind(("127.0.0.1", 0))
        server.settimeout(SECONDS)
        client.settimeout(SECONDS)
        client.sendto(b"there", server.getsockname())
        data, back = server.recvfrom(100)
        server.sendto(data + b" and back", back)
        assert client.recvfrom(100) == (b"there and back", server.getsockname())


def test_inbound_ports(stack: Stack) -> None:
    from xsock.usernet import Forward

    with closing(original.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    with stack.socket() as listener:
        listener.bind(("", 8000))
        listener.listen()
        listener.settimeout(SECONDS)
        stack.usernet.forward(Forward("tcp", "127.0.0.1", port, 8000))
        with original.create_connection(("127.0.0.1", port), SECONDS) as outside:
            inside, _ = listener.accept()
            with inside:
                outside.sendall(b"in")
                assert inside.recv(10) == b"in"
                inside.sendall(b"out")
                assert outside.recv(10) == b"out"


def test_a_taken_port_is_one_line(stack: Stack, echo: int) -> None:
    from xsock.usernet import Forward

    with pytest.raises(OSError, match=f"cannot forward tcp 127.0.0.1:{echo}: Address already"):
        stack.usernet.forward(Forward("tcp", "127.0.0.1", echo, 80))


def test_a_capture_is_readable(echo: int, tmp_path: Any) -> None:
    from xsock._pcapng import describe, packets

    path = tmp_path / "c.pcapng"
    with xsock.Stack(nic="usernet", pcap=str(path)) as stack:
        with dial(stack, "10.0.2.2", echo) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        stack.flush_capture()
    lines = [describe(packet) for packet in packets(path)]
    assert "Flags [S]" in lines[0]
    assert f"10.0.2.2.{echo}" in lines[0]
