"""xsock.nw against asyncio on uvloop over the kernel, each in a process of its own.

``python -m tests.bench.nw WORK AMOUNT`` runs one side and prints its number.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.bench.case import ROOT, Bar, Case, work
from tests.helpers.netns import Namespace, ip, namespace, veth

CONNECTIONS: Final = 64
MESSAGE: Final = 64  # bytes
WARM_UP: Final = 20  # requests of each connection before the clock starts
# Windows of wake-ups, the quietest of which counts: each is shorter than a time slice.
IDLE_WINDOWS: Final = 400
IDLE_WAKES: Final = 250
CHUNK: Final = 256 * 1024
BATCH: Final = 64  # datagrams
HOST: Final = "10.99.1.1"  # beyond the veth
PORT: Final = 5002


async def nw_rr(count: int) -> float:
    """Requests a second: *count* on each of 64 connections of one loop, over lo."""
    from xsock import nw

    data = bytes(MESSAGE)
    async with nw.Stack.loopback() as stack:

        async def echo(conn: nw.ByteConnection) -> None:
            for _ in range(count + WARM_UP):
                await conn.send(await conn.receive())

        async def ask(conn: nw.ByteConnection, times: int) -> None:
            for _ in range(times):
                await conn.send(data)
                await conn.receive()

        async with stack.listen(local=("127.0.0.1", 0)) as listener:
            server = asyncio.create_task(listener.run(echo, credit=CONNECTIONS))
            await asyncio.sleep(0)
            where = ("127.0.0.1", listener.port)
            conns = [await stack.connect(where) for _ in range(CONNECTIONS)]
            await asyncio.gather(*(ask(c, WARM_UP) for c in conns))
            start = time.perf_counter()
            await asyncio.gather(*(ask(c, count) for c in conns))
            elapsed = time.perf_counter() - start
            await server
            for conn in conns:
                await conn.aclose()
    return count * CONNECTIONS / elapsed


async def streams_rr(count: int) -> float:
    """The same with asyncio's streams over the kernel."""
    data = bytes(MESSAGE)
    tasks = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        for _ in range(count + WARM_UP):
            writer.write(await reader.read(65536))
            await writer.drain()
        writer.close()

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, times: int) -> None:
        for _ in range(times):
            writer.write(data)
            await writer.drain()
            await reader.read(65536)

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    conns = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS)]
    await asyncio.gather(*(ask(*c, WARM_UP) for c in conns))
    start = time.perf_counter()
    await asyncio.gather(*(ask(*c, count) for c in conns))
    elapsed = time.perf_counter() - start
    for _, writer in conns:
        writer.close()
    server.close()
    return count * CONNECTIONS / elapsed


async def nw_bulk(mib: int) -> float:
    """One connection over lo, sent in 256 KiB calls and received in place: MiB/s."""
    from xsock import nw

    data, total = bytes(CHUNK), mib << 20
    async with nw.Stack.loopback() as stack:
        async with stack.listen(local=("127.0.0.1", 0)) as listener:
            near = await stack.connect(listener.local)
            far = await listener.accept()

        async def send() -> None:
            for _ in range(total // CHUNK):
                await near.send(data)

        start = time.perf_counter()
        sender = asyncio.create_task(send())
        left = total
        while left:
            with await far.receive_packet() as packet:
                left -= len(packet)
        elapsed = time.perf_counter() - start
        await sender
        await near.aclose()
        await far.aclose()
    return mib / elapsed


async def streams_bulk(mib: int) -> float:
    """The same with asyncio's streams over the kernel."""
    data, total = bytes(CHUNK), mib << 20
    done = asyncio.Event()

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = total
        while left:
            left -= len(await reader.read(CHUNK))
        done.set()
        writer.close()

    server = await asyncio.start_server(sink, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    start = time.perf_counter()
    for _ in range(total // CHUNK):
        writer.write(data)
        await writer.drain()
    await done.wait()
    elapsed = time.perf_counter() - start
    writer.close()
    server.close()
    return mib / elapsed


async def nw_udp_batch(batches: int) -> float:
    """Batches of 64 datagrams of 64 bytes over lo, received as views: datagrams a second."""
    from xsock import nw

    parts = [bytes([n]) * MESSAGE for n in range(BATCH)]
    async with (
        nw.Stack.loopback() as stack,
        stack.datagram_socket(("127.0.0.1", 0)) as far,
        stack.connection(far.local, nw.UDP()) as near,
    ):
        start = time.perf_counter()
        for _ in range(batches):
            await near.send_many(parts)
            got = 0
            while got < BATCH:
                with await far.receive_batch() as batch:
                    got += len(batch.views())
        elapsed = time.perf_counter() - start
    return batches * BATCH / elapsed


async def kernel_udp(batches: int) -> float:
    """The same, one by one, with sockets of the kernel."""
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.bind(("127.0.0.1", 0))
    near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    near.connect(far.getsockname())
    parts = [bytes([n]) * MESSAGE for n in range(BATCH)]
    room = bytearray(MESSAGE)
    start = time.perf_counter()
    for _ in range(batches):
        for part in parts:
            near.send(part)
        for _ in range(BATCH):
            far.recvfrom_into(room)
    elapsed = time.perf_counter() - start
    near.close()
    far.close()
    return batches * BATCH / elapsed


async def nw_idle(connections: int) -> float:
    """What it costs to wake one connection among so many idle ones: microseconds a message."""
    from xsock import nw

    quiet = nw.Parameters(send_high_water=16384, receive_window=16384)
    gc.disable()  # it would look at all of them again and again while they are made
    async with nw.Stack.loopback() as stack:
        idle = []
        async with stack.listen(local=("127.0.0.1", 0), parameters=quiet, backlog=1024) as listener:
            # Chosen here: a stack hands every ephemeral port out once, whatever the address.
            for number in range(connections):
                local = nw.Endpoint.address(
                    f"127.0.0.{2 + number // 10_000}", 10_000 + number % 10_000
                )
                near = await stack.connect(listener.local, nw.TCP(), quiet.replace(local=local))
                idle += [near, await listener.accept()]
        readers = [asyncio.ensure_future(conn.receive()) for conn in idle[3::2]]
        await asyncio.sleep(0)
        gc.freeze()
        gc.enable()
        near, far = idle[:2]
        times = []
        for _ in range(IDLE_WINDOWS):
            start = time.perf_counter()
            for _ in range(IDLE_WAKES):
                await near.send(b"x")
                await far.receive()
            times.append((time.perf_counter() - start) / IDLE_WAKES)
        for reader in readers:
            reader.cancel()
        for conn in idle:
            conn.abort()
        await asyncio.sleep(0)
    return min(times) * 1e6


async def nw_send_to(mib: int) -> float:
    """One connection to a sink beyond the NIC that the environment names: MiB/s."""
    from xsock import nw

    data = bytes(CHUNK)
    async with nw.Stack.host() as stack, stack.connection((HOST, PORT)) as conn:
        start = time.perf_counter()
        for _ in range((mib << 20) // CHUNK):
            await conn.send(data)
        await conn.send_eof()
        if await conn.receive() != b"k":
            raise EOFError("the sink ended early")
        elapsed = time.perf_counter() - start
    return mib / elapsed


WORKS: Final[dict[str, Callable[[int], Coroutine[Any, Any, float]]]] = {
    f.__name__: f
    for f in (
        nw_rr,
        streams_rr,
        nw_bulk,
        streams_bulk,
        nw_udp_batch,
        kernel_udp,
        nw_idle,
        nw_send_to,
    )
}


# glibc gives large blocks back to the kernel or does not, by how the heap happens to lie: that
# alone makes a factor of four for asyncio's streams. Both sides keep theirs.
MALLOC: Final = {
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}


def _work(name: str, amount: int, prefix: list[str] | None = None, **env: str) -> float:
    done = subprocess.run(
        [*(prefix or []), sys.executable, "-m", "tests.bench.nw", name, str(amount)],
        cwd=ROOT, env=os.environ | MALLOC | env, stdout=subprocess.PIPE, text=True, timeout=300,
        check=True,
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def _lab() -> Iterator[tuple[Namespace, Namespace]]:
    """Our namespace has x0 without an address; beyond it is the kernel's x1."""
    with namespace() as near, namespace() as far:
        veth(near, "x0", far, "x1")
        ip("addr", "add", f"{HOST}/24", "dev", "x1", netns=far.name)
        yield near, far


def _to_sink(lab: tuple[Namespace, Namespace], is_async: bool, amount: int) -> float:
    near, far = lab
    peer = far.start(
        sys.executable, "-m", "tests.bench.work", "sink", HOST, str(PORT), ready="ready", cwd=ROOT
    )
    env = {"XSOCK_NIC": "af_packet:x0", "XSOCK_ADDR": "10.99.1.2/24"}
    try:
        if is_async:
            return _work("nw_send_to", amount, near.prefix, **env)
        return work("send_to", HOST, PORT, amount, stack=True, prefix=near.prefix, **MALLOC, **env)
    finally:
        peer.wait(30)


def _case(name: str, about: str, unit: str, bar: Bar, ours: str, peer: str, amount: int) -> Case:
    return Case(
        name=name,
        about=about,
        unit=unit,
        bar=bar,
        ours=lambda _lab: _work(ours, amount),
        peer=lambda _lab: _work(peer, amount),
    )


CASES = [
    _case("nw-rr", "64 bytes there and back, 64 connections of one loop, against asyncio streams "
          "on uvloop", "1/s", Bar(2.0), "nw_rr", "streams_rr", 1000),
    _case("nw-bulk", "one connection, 256 KiB sends, received in place, against asyncio streams "
          "on uvloop", "MiB/s", Bar(2.0), "nw_bulk", "streams_bulk", 2048),
    _case("nw-udp-batch", "64-byte datagrams in batches of 64 as views, against recvfrom_into",
          "1/s", Bar(10.0), "nw_udp_batch", "kernel_udp", 10000),
    Case(name="nw-veth-bulk", about="one flow sent over af_packet, against the BSD path",
         unit="MiB/s", bar=Bar(1.0), ours=lambda lab: _to_sink(lab, True, 512),
         peer=lambda lab: _to_sink(lab, False, 512), lab=_lab),
    Case(name="nw-idle", about="a wake-up among 50,000 idle connections, to that among 100",
         unit="us", bar=Bar(1.2, at_most=True), ours=lambda _lab: _work("nw_idle", 50_000),
         peer=lambda _lab: _work("nw_idle", 100)),
]  # fmt: skip


def main() -> None:
    import uvloop

    name, amount = sys.argv[1:]
    print(json.dumps(uvloop.run(WORKS[name](int(amount)))))


if __name__ == "__main__":
    main()
