"""The work that benchmarks measure, in a process of its own.

``python -m tests.bench.work NAME ARGS`` runs ``NAME(*ARGS)`` and prints its number.
With BENCH_STACK=1 in the environment the program is patched first, exactly as a
user would; the work itself never knows.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable

if os.environ.get("BENCH_STACK") == "1":
    import xsock

    xsock.patch()

import socket

CHUNK = 256 * 1024


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in (client, server):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, server


def _drain(sock: socket.socket, total: int) -> None:
    buffer = bytearray(CHUNK)
    while total > 0:
        got = sock.recv_into(buffer)
        if got == 0:
            raise EOFError(f"{total} bytes missing")
        total -= got


def bulk(mib: int) -> float:
    """One TCP flow on loopback in 256 KiB calls: MiB/s."""
    client, server = _pair()
    total = mib << 20
    data = bytes(CHUNK)
    reader = threading.Thread(target=_drain, args=(server, total))
    start = time.perf_counter()
    reader.start()
    for _ in range(total // CHUNK):
        client.sendall(data)
    reader.join()
    elapsed = time.perf_counter() - start
    client.close()
    server.close()
    return mib / elapsed


def rr(count: int) -> float:
    """64 bytes there and back between two threads: microseconds a round trip."""
    client, server = _pair()
    data = bytes(64)

    def echo() -> None:
        for _ in range(count + 1000):
            server.sendall(server.recv(64))

    thread = threading.Thread(target=echo)
    thread.start()
    for _ in range(1000):
        client.sendall(data)
        client.recv(64)
    start = time.perf_counter()
    for _ in range(count):
        client.sendall(data)
        client.recv(64)
    elapsed = time.perf_counter() - start
    thread.join()
    client.close()
    server.close()
    return elapsed / count * 1e6


def udp(count: int) -> float:
    """64-byte datagrams sent and received in one thread: datagrams/s."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        address = receiver.getsockname()
        data = bytes(64)
        send, receive = sender.sendto, receiver.recvfrom
        start = time.perf_counter()
        for _ in range(count):
            send(data, address)
            receive(2048)
        return count / (time.perf_counter() - start)


def crr(count: int) -> float:
    """Connect, one byte each way, close, in one thread: connections/s."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        address = listener.getsockname()
        start = time.perf_counter()
        for _ in range(count):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.connect(address)
            server, _ = listener.accept()
            client.sendall(b"x")
            server.sendall(server.recv(1))
            client.recv(1)
            client.close()
            server.close()
        return count / (time.perf_counter() - start)


def sink(host: str, port: int) -> float:
    """Take everything of one connection, say "k", and end: MiB received."""
    total = 0
    with socket.create_server((host, port)) as listener:
        print("ready", flush=True)
        sock, _ = listener.accept()
        with sock:
            buffer = bytearray(CHUNK)
            while got := sock.recv_into(buffer):
                total += got
            sock.sendall(b"k")
    return total / (1 << 20)


def source(host: str, port: int, mib: int) -> float:
    """Send *mib* MiB to one connection: MiB/s as seen here."""
    with socket.create_server((host, port)) as listener:
        print("ready", flush=True)
        sock, _ = listener.accept()
        with sock:
            data = bytes(CHUNK)
            start = time.perf_counter()
            for _ in range((mib << 20) // CHUNK):
                sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
            return mib / (time.perf_counter() - start)


def echo(host: str, port: int) -> float:
    """Send back what one connection says."""
    with socket.create_server((host, port)) as listener:
        print("ready", flush=True)
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            while data := sock.recv(4096):
                sock.sendall(data)
    return 0.0


def send_to(host: str, port: int, mib: int) -> float:
    """Send *mib* MiB to a sink: MiB/s until the sink has them all."""
    with socket.create_connection((host, port), timeout=60) as sock:
        data = bytes(CHUNK)
        start = time.perf_counter()
        for _ in range((mib << 20) // CHUNK):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        if sock.recv(1) != b"k":
            raise EOFError("the sink ended early")
        return mib / (time.perf_counter() - start)


def recv_from(host: str, port: int, mib: int) -> float:
    """Receive *mib* MiB from a source: MiB/s."""
    with socket.create_connection((host, port), timeout=60) as sock:
        start = time.perf_counter()
        _drain(sock, mib << 20)
        elapsed = time.perf_counter() - start
        sock.sendall(b"k")
        return mib / elapsed


def rr_to(host: str, port: int, count: int) -> float:
    """64 bytes to an echo server and back: microseconds a round trip."""
    with socket.create_connection((host, port), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = bytes(64)
        for _ in range(500):
            sock.sendall(data)
            sock.recv(64)
        start = time.perf_counter()
        for _ in range(count):
            sock.sendall(data)
            sock.recv(64)
        return (time.perf_counter() - start) / count * 1e6


WORK: dict[str, Callable[..., float]] = {
    f.__name__: f for f in (bulk, rr, udp, crr, sink, source, echo, send_to, recv_from, rr_to)
}


def main() -> None:
    name, *rest = sys.argv[1:]
    args = [int(a) if a.isdigit() else a for a in rest]
    print(json.dumps(WORK[name](*args)))


if __name__ == "__main__":
    main()
