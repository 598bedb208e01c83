"""A client stack sends through a router to a network of a smaller MTU, and is refused by it.

    narrow.py NIC ADDRESS GATEWAY PEER PORT

PEER echoes. Prints what was seen as JSON.
"""

import json
import os
import sys

from bsdcore import netstat
from tests.helpers.clientloop import POLLERR, POLLIN, POLLOUT, ClientLoop
from xsock._wiring import Stack

SIZE = 500_000


def main() -> None:
    nic, address, gateway, peer, port = sys.argv[1:]
    with Stack(nic=nic, addr=address, gateway=gateway) as host, ClientLoop(host) as loop:
        sock = loop.connect(peer, int(port))
        sent = os.urandom(SIZE)
        got, at = bytearray(), 0
        while len(got) < SIZE:
            loop.wait(sock, POLLIN | (POLLOUT if at < SIZE else 0))
            ready = sock.poll()
            if ready & POLLIN:
                got += sock.recv(65536, 0, 0)
            if ready & POLLOUT and at < SIZE:
                at += sock.send(sent[at : at + 65536], 0, 0)
        learned = [
            route.mtu for route in netstat.routes(loop.stack) if route.destination == f"{peer}/32"
        ]
        datagrams = loop.stack.socket(2, 2)
        datagrams.connect(peer, 9)
        datagrams.send(b"x", 0, 0)
        loop.wait(datagrams, POLLERR)
        try:
            datagrams.recv(1, 0, 0)
            refused = False
        except ConnectionRefusedError:
            refused = True
    print(json.dumps({"same": got == sent, "mtu": learned[0], "refused": refused}))


if __name__ == "__main__":
    main()
