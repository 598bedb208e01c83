"""Talk to an echo server, fork, and go on in the child and then in the parent.

With "fileno" the connection has a descriptor when the process forks and the
child uses it; without, the child must be told so by an OSError at once.
"""

import os
import socket
import sys

host, port, way = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def echo(sock: socket.socket, message: bytes) -> None:
    sock.sendall(message)
    got = b""
    while len(got) < len(message):
        piece = sock.recv(100)
        if not piece:
            raise EOFError
        got += piece
    assert got == message, got


with socket.create_connection((host, port)) as sock:
    echo(sock, b"before")
    if way == "fileno":
        sock.fileno()
    pid = os.fork()
    if pid == 0:
        try:
            echo(sock, b"from the child")
            sys.stdout.write("child: echoed\n")
        except OSError as error:
            sys.stdout.write(f"child: {type(error).__name__}\n")
        with socket.create_connection((host, port)) as own:
            echo(own, b"a connection of the child's own")
            sys.stdout.write("child: connected\n")
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    echo(sock, b"after")
    print("parent: echoed")
