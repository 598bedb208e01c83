"""xsock.nw against asyncio on uvloop over the kernel, each in a process of its own.

``python -m tests.bench.nw WORK AMOUNT`` runs one side and prints its number.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from tests.bench.case import ROOT, Bar, Case

CONNECTIONS: Final = 64
MESSAGE: Final = 64  # bytes
WARM_UP: Final = 20  # requests of each connection before the clock starts
CHUNK: Final = 256 * 1024


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


WORKS: Final[dict[str, Callable[[int], Coroutine[Any, Any, float]]]] = {
    f.__name__: f for f in (nw_rr, streams_rr)
}


def _work(name: str, amount: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.nw", name, str(amount)],
        cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))


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
]  # fmt: skip


def main() -> None:
    import uvloop

    name, amount = sys.argv[1:]
    print(json.dumps(uvloop.run(WORKS[name](int(amount)))))


if __name__ == "__main__":
    main()
