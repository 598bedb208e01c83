"""Connections given to other processes: as a program's stdin and stdout, and by multiprocessing."""

import multiprocessing
import socket
import subprocess
from multiprocessing.connection import Connection


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        return client, listener.accept()[0]


def receive(sock: socket.socket) -> bytes:
    out = b""
    while piece := sock.recv(65536):
        out += piece
    return out


def worker(channel: Connection) -> None:
    sock = channel.recv()
    sock.sendall(b"from the worker")
    sock.close()


if __name__ == "__main__":
    client, given = pair()
    with subprocess.Popen(["cat"], stdin=given.fileno(), stdout=given.fileno()) as cat:
        given.close()
        client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        print("cat", len(receive(client)), cat.wait(10))
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        client, given = pair()
        ours, theirs = context.Pipe()
        process = context.Process(target=worker, args=(theirs,))  # type: ignore[attr-defined]
        process.start()
        ours.send(given)
        given.close()
        print(method, receive(client).decode())
        process.join(10)
