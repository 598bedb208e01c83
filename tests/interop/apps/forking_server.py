"""A socketserver that forks for every connection, and threads that talk to it."""

import socket
import socketserver
import threading

CLIENTS, TURNS = 20, 3


class Shout(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = CLIENTS


def talk(address: tuple[str, int], number: int, done: list[int]) -> None:
    with socket.create_connection(address) as sock, sock.makefile("rwb") as file:
        for turn in range(TURNS):
            file.write(b"hello %d %d\n" % (number, turn))
            file.flush()
            assert file.readline() == b"HELLO %d %d\n" % (number, turn)
        sock.shutdown(socket.SHUT_WR)
        assert file.readline() == b""
        done.append(number)


with Server(("127.0.0.1", 0), Shout) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done: list[int] = []
    host, port = server.server_address[:2]
    clients = [
        threading.Thread(target=talk, args=((str(host), port), i, done)) for i in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(30)
    print(len(done))
    server.shutdown()
