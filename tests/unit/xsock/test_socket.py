"""The socket class on its own stack: what the standard one would do."""

from __future__ import annotations

import gc
import os
import signal
import socket as std
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import xsock
from xsock._slots import SLOT_SIZE
from xsock._wiring import Stack

Pair = tuple[Any, Any]


def test_is_the_standard_class_with_no_descriptor(stack: Stack) -> None:
    with stack.socket() as sock:
        assert isinstance(sock, std.socket)
        assert (sock.family, sock.type, sock.proto) == (std.AF_INET, std.SOCK_STREAM, 0)
        assert "fd=-1" in repr(sock)
    assert sock.fileno() == -1
    assert sock.family == std.AF_INET


def test_echo_and_end(pair: Pair) -> None:
    client, server = pair
    client.sendall(b"hello")
    assert server.recv(3) == b"hel"
    assert server.recv(100) == b"lo"
    server.shutdown(std.SHUT_WR)
    assert client.recv(1) == b""
    assert server.getpeername() == client.getsockname()


@pytest.mark.parametrize("size", [1, SLOT_SIZE, SLOT_SIZE + 1, 1 << 20])
def test_any_size_arrives_whole(pair: Pair, size: int) -> None:
    client, server = pair
    data = os.urandom(size)
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    got = b""
    while len(got) < size:
        got += server.recv(size)
    sender.join()
    assert got == data


def test_buffers_of_every_kind(pair: Pair) -> None:
    client, server = pair
    for data in (b"bytes", bytearray(b"bytes"), memoryview(b"bytes")):
        assert client.send(data) == 5
    buffer = bytearray(15)
    assert server.recv_into(buffer) == 15
    assert buffer == b"bytes" * 3
    buffer.append(0)  # nothing holds it any more
    assert client.sendmsg([b"a", bytearray(b"b"), memoryview(b"c")]) == 3
    assert server.recvmsg(10) == (b"abc", [], 0, None)


def test_arguments_are_refused_as_the_standard_says(pair: Pair) -> None:
    client, _ = pair
    with pytest.raises(TypeError, match="a bytes-like object is required, not 'str'"):
        client.send("text")
    with pytest.raises(ValueError, match="negative buffersize in recv"):
        client.recv(-1)
    with pytest.raises(ValueError, match="nbytes is greater"):
        client.recv_into(bytearray(1), 2)
    with pytest.raises(ValueError, match="Timeout value out of range"):
        client.settimeout(-1)
    with pytest.raises(TypeError, match=r"\(1 given\)"):
        client.sendto(b"")
    assert client.recv(0) == b""


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("127.0.0.1", TypeError, "AF_INET address must be tuple, not str"),
        (("127.0.0.1",), TypeError, "must be a pair"),
        (("127.0.0.1", 65536), OverflowError, r"connect\(\): port must be 0-65535."),
        ((1, 2), TypeError, "str, bytes or bytearray expected, not int"),
        (("a\0b", 2), TypeError, "null character"),
        (("127.0.0.1", "80"), TypeError, "cannot be interpreted as an integer"),
    ],
)
def test_bad_addresses(stack: Stack, address: object, error: type[Exception], message: str) -> None:
    with stack.socket() as sock, pytest.raises(error, match=message):
        sock.connect(address)


def test_timeouts_and_non_blocking(stack: Stack, pair: Pair) -> None:
    client, _ = pair
    client.settimeout(0.01)
    with pytest.raises(TimeoutError, match=r"^timed out$"):
        client.recv(1)
    client.setblocking(False)
    assert (client.gettimeout(), client.getblocking()) == (0.0, False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    with stack.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.01)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_connect_ex_answers_the_errno(stack: Stack) -> None:
    with stack.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", 1)) == 111
    with stack.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("127.0.0.1", 1))


def test_use_after_close(pair: Pair) -> None:
    client, _ = pair
    client.close()
    client.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.send(b"x")


def test_a_traceback_does_not_keep_the_connection_open(pair: Pair) -> None:
    client, server = pair
    client.setblocking(False)
    with pytest.raises(BlockingIOError) as kept:
        client.recv(1)
    client.close()
    assert server.recv(1) == b""
    assert kept.value.errno == 11


def test_close_does_not_disturb_a_call_that_runs(pair: Pair) -> None:
    client, server = pair
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(client.recv(10)))
    reader.start()
    client.close()
    server.sendall(b"still")
    reader.join()
    assert got in ([b"still"], [])


def test_datagrams_know_their_sender(udp: Callable[[], Any]) -> None:
    a, b = udp(), udp()
    a.sendto(b"one", b.getsockname())
    assert b.recvfrom(100) == (b"one", a.getsockname())
    a.sendto(b"longer", 0, b.getsockname())
    assert b.recvfrom(2) == (b"lo", a.getsockname())
    a.connect(b.getsockname())
    a.send(b"")
    assert b.recvmsg(10) == (b"", [], 0, a.getsockname())
    b.sendmsg([b"x", b"y"], [], 0, a.getsockname())
    buffer = bytearray(4)
    assert a.recvfrom_into(buffer) == (2, b.getsockname())


def test_truncation_is_told(udp: Callable[[], Any]) -> None:
    a, b = udp(), udp()
    a.sendto(b"truncated", b.getsockname())
    data, _, flags, _ = b.recvmsg(4)
    assert (data, flags & std.MSG_TRUNC) == (b"trun", std.MSG_TRUNC)


def test_options(pair: Pair) -> None:
    client, _ = pair
    client.setsockopt(std.IPPROTO_TCP, std.TCP_NODELAY, 1)
    assert client.getsockopt(std.IPPROTO_TCP, std.TCP_NODELAY) != 0
    client.setsockopt(std.SOL_SOCKET, std.SO_LINGER, b"\1\0\0\0\2\0\0\0")
    assert client.getsockopt(std.SOL_SOCKET, std.SO_LINGER, 8) == b"\1\0\0\0\2\0\0\0"
    assert client.getsockopt(std.SOL_SOCKET, std.SO_TYPE) == std.SOCK_STREAM
    with pytest.raises(OSError, match="Protocol not available"):
        client.getsockopt(std.IPPROTO_TCP, 9999)


def test_an_unclosed_socket_warns(stack: Stack) -> None:
    with pytest.warns(ResourceWarning, match="unclosed <socket.socket fd=-1"):
        stack.socket()


def test_signals_are_handled_within_one_deadline(pair: Pair) -> None:
    client, _ = pair
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        client.settimeout(0.1)
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert 0.09 < time.monotonic() - start < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) >= 2


def test_an_exception_of_a_handler_ends_the_call(pair: Pair) -> None:
    client, _ = pair

    def handler(*_: object) -> None:
        raise InterruptedError("from the handler")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        client.settimeout(None)
        with pytest.raises(InterruptedError, match="from the handler"):
            client.recv(1)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_sendall_goes_on_after_signals(pair: Pair) -> None:
    client, server = pair
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    data = os.urandom(4 << 20)
    got = bytearray()

    def drain() -> None:
        while len(got) < len(data):
            got.extend(server.recv(10000))

    reader = threading.Thread(target=drain)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        reader.start()
        client.sendall(data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    reader.join()
    assert bytes(got) == data


def test_makefile_and_sendfile(pair: Pair, tmp_path: Any) -> None:
    client, server = pair
    (tmp_path / "file").write_bytes(b"line\n" * 1000)
    with open(tmp_path / "file", "rb") as file:
        assert client.sendfile(file, 5) == 4995
    with server.makefile("rb") as lines:
        client.close()
        assert lines.readlines() == [b"line\n"] * 999


def test_what_is_not_ours_is_the_kernels() -> None:
    with xsock.socket.socket(std.AF_UNIX, std.SOCK_STREAM) as sock:
        assert sock.family == std.AF_UNIX
        assert sock.fileno() >= 0
    a, b = xsock.socket.socketpair()
    with a, b:
        a.sendall(b"x")
        assert b.recv(1) == b"x"


def test_a_kernel_descriptor_is_taken_as_it_is() -> None:
    with (
        xsock.original.socket(std.AF_INET, std.SOCK_DGRAM) as sock,
        xsock.socket.socket(fileno=os.dup(sock.fileno())) as ours,
    ):
        assert (ours.family, ours.type) == (std.AF_INET, std.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        assert ours.getsockname() == sock.getsockname()


def test_ipv6_loopback(stack: Stack) -> None:
    with stack.socket(std.AF_INET6) as listener, stack.socket(std.AF_INET6) as client:
        listener.bind(("::1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        server, peer = listener.accept()
        with server:
            assert peer[0] == "::1"
            client.sendall(b"six")
            assert server.recv(10) == b"six"


def test_every_name_of_the_standard_module_is_here() -> None:
    missing = [n for n in dir(std) if n[:2] != "__" and not hasattr(xsock.socket, n)]
    assert missing == []
    assert xsock.socket.SocketType is std.SocketType


@pytest.mark.parametrize("exposed", [False, True])
def test_a_socket_in_a_cycle_is_asked_for_its_name_before_it_is_closed(
    stack: Stack, exposed: bool
) -> None:
    class Holder:
        pass

    def lose() -> None:
        holders: list[object] = []
        for _ in range(20):
            holder: Any = Holder()
            holder.sock = stack.socket()
            holder.sock.bind(("127.0.0.1", 0))
            holder.sock.listen()
            if exposed:
                holder.sock.fileno()
            holder.cycle = holders
            holders.append(holder)

    with pytest.warns(ResourceWarning, match=r"laddr=\('127.0.0.1', ") as caught:  # noqa: PT031
        lose()
        gc.collect()
    assert len(caught) == 20
