"""An asyncio echo server, clients for one, or both in one process.

``serve HOST PORT`` prints "serving" when it listens; ``clients HOST PORT N`` opens N connections,
all open at once, has each echo ROUNDS messages of its own, and prints how many were right;
``both HOST N`` does that against a server in the same loop.
"""

import asyncio
import resource
import sys

ROUNDS = 3


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def talk(host: str, port: int, number: int, together: "Barrier") -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    await together.wait()
    right = True
    for turn in range(ROUNDS):
        message = f"{number}:{turn}:".encode() * 40
        writer.write(message)
        right = right and await reader.readexactly(len(message)) == message
    writer.write_eof()
    right = right and await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    return right


class Barrier:
    """asyncio.Barrier for every supported Python: opens when *parties* have come."""

    def __init__(self, parties: int) -> None:
        self.missing = parties
        self.complete = asyncio.Event()

    async def wait(self) -> None:
        self.missing -= 1
        if self.missing == 0:
            self.complete.set()
        await self.complete.wait()


async def clients(host: str, port: int, number: int) -> int:
    together = Barrier(number)
    return sum(await asyncio.gather(*(talk(host, port, i, together) for i in range(number))))


async def serve(host: str, port: int) -> None:
    async with await asyncio.start_server(echo, host, port, backlog=1024) as server:
        print("serving", flush=True)
        await server.serve_forever()


async def both(host: str, number: int) -> int:
    async with await asyncio.start_server(echo, host, 0, backlog=1024) as server:
        return await clients(host, server.sockets[0].getsockname()[1], number)


soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
role, host, *rest = sys.argv[1:]
if role == "serve":
    asyncio.run(serve(host, int(rest[0])))
elif role == "clients":
    print(asyncio.run(clients(host, int(rest[0]), int(rest[1]))))
else:
    print(asyncio.run(both(host, int(rest[0]))))
