"""Block in one call until Ctrl-C, then say when the call ended (time.monotonic) and end well."""

import asyncio
import select
import socket
import sys
import time

call, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


def listener() -> socket.socket:
    return socket.create_server((host, port))


def recv() -> None:
    with listener() as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            ready()
            client.recv(1)


def send() -> None:
    with listener() as server, socket.create_connection(server.getsockname()) as client:
        ready()
        while True:
            client.sendall(bytes(1 << 20))


def accept() -> None:
    with listener() as server:
        ready()
        server.accept()


def connect() -> None:
    with socket.socket() as sock:
        ready()
        sock.connect((host, port))


def recvfrom() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        ready()
        sock.recvfrom(100)


def timeout() -> None:
    with listener() as server:
        server.settimeout(40)
        ready()
        server.accept()


def poll() -> None:
    with listener() as server:
        ready()
        select.select([server], [], [])


def loop() -> None:
    async def main() -> None:
        async with await asyncio.start_server(lambda r, w: None, host, port) as server:
            ready()
            await server.serve_forever()

    asyncio.run(main())


def ready() -> None:
    print("ready", flush=True)


try:
    globals()[call]()
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
