"""echo.py ADDRESS PORT [PEER]: echo whatever comes, by the kernel's TCP. With PEER, a line on stdin
makes it send 100 kB to port 7000 there and check that they come back."""

import asyncio
import contextlib
import os
import sys

SIZE = 100_000


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionResetError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(echo, sys.argv[1], int(sys.argv[2]))
    print("ready", flush=True)
    async with server:
        if len(sys.argv) < 4:
            await server.serve_forever()
        await asyncio.to_thread(sys.stdin.readline)
        reader, writer = await asyncio.open_connection(sys.argv[3], 7000)
        sent = os.urandom(SIZE)
        writer.write(sent)
        got = await reader.readexactly(SIZE)
        writer.close()
        print("same" if got == sent else "different", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


asyncio.run(main())
