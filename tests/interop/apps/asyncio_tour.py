"""asyncio: TLS both ways at once, sendfile, datagrams, the loop's own socket calls."""

import asyncio
import json
import os
import socket
import ssl
import sys
import tempfile
from typing import cast

CLIENTS, SIZE, DATAGRAMS = 50, 200_000, 200
chain, authority = sys.argv[1:]


async def tls() -> int:
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(chain)
    theirs = ssl.create_default_context(cafile=authority)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def talk(port: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=theirs)
        message = os.urandom(SIZE)
        writer.write(message)
        sending = asyncio.create_task(writer.drain())
        got = await reader.readexactly(SIZE)
        await sending
        writer.close()
        return got == message

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=ours) as server:
        port = server.sockets[0].getsockname()[1]
        return sum(await asyncio.gather(*(talk(port) for _ in range(CLIENTS))))


async def sendfile() -> bool:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[bytes] = loop.create_future()

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await reader.read())
        writer.close()

    data = os.urandom(SIZE)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        async with await asyncio.start_server(sink, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            await loop.sendfile(writer.transport, file)
            writer.close()
            return await arrived == data


class Echo(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


class Inbox(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.queue.put_nowait(data)


async def datagrams() -> int:
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    where = server.get_extra_info("sockname")
    client, inbox = await loop.create_datagram_endpoint(Inbox, remote_addr=where)
    right = 0
    for i in range(DATAGRAMS):
        client.sendto(b"%d" % i)
        right += await asyncio.wait_for(inbox.queue.get(), 10) == b"%d" % i
    client.close()
    server.close()
    return right


async def calls() -> str:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = asyncio.create_task(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        accepted, _ = await accepting
        with accepted:
            accepted.setblocking(False)
            await loop.sock_sendall(client, b"through the loop")
            return (await loop.sock_recv(accepted, 100)).decode()


async def main() -> None:
    out = {"tls": await tls(), "sendfile": await sendfile()}
    print(json.dumps(out | {"datagrams": await datagrams(), "calls": await calls()}))


asyncio.run(main())
