"""anyio on the named back end: an echo server and its clients; print how many are right."""

import sys

import anyio
from anyio.abc import SocketAttribute, SocketStream

CLIENTS = 100


async def echo(stream: SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send(data)


async def main() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    right = 0

    async def talk(number: int) -> None:
        nonlocal right
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"hello %d" % number)
            if await stream.receive() == b"hello %d" % number:
                right += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        async with anyio.create_task_group() as clients:
            for i in range(CLIENTS):
                clients.start_soon(talk, i)
        tasks.cancel_scope.cancel()
    print(right)


anyio.run(main, backend=sys.argv[1])
