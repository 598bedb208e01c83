"""A legacy socket in a thread and a client stack in this one, over one NIC at the same time.

    beside.py NIC ADDRESS PEER PORT

PEER echoes. Prints what was seen as JSON.
"""

import json
import os
import sys
import threading

from tests.helpers.clientloop import POLLIN, POLLOUT, ClientLoop
from xsock._wiring import Stack

SIZE = 4_000_000
ROUNDS = 20
SMALL = 20_000


def legacy(host: Stack, peer: tuple[str, int], seen: dict[str, object]) -> None:
    ports = []
    for i in range(ROUNDS):
        sent = os.urandom(SIZE if i == 0 else SMALL)
        with host.socket() as sock:
            sock.settimeout(20)
            sock.connect(peer)
            ports.append(sock.getsockname()[1])
            feeder = threading.Thread(target=sock.sendall, args=(sent,))
            feeder.start()
            got = bytearray()
            while len(got) < len(sent) and (data := sock.recv(65536)):
                got += data
            feeder.join()
        assert got == sent, "the legacy socket got something else"
    seen["legacy"] = ports


def client(loop: ClientLoop, peer: tuple[str, int], seen: dict[str, object]) -> None:
    ports = []
    for i in range(ROUNDS):
        sent = os.urandom(SIZE if i == 0 else SMALL)
        sock = loop.connect(*peer)
        ports.append(sock.getsockname()[1])
        got, at = bytearray(), 0
        while len(got) < len(sent):
            loop.wait(sock, POLLIN | (POLLOUT if at < len(sent) else 0))
            ready = sock.poll()
            if ready & POLLIN:
                got += sock.recv(65536, 0, 0)
            if ready & POLLOUT and at < len(sent):
                at += sock.send(sent[at : at + 65536], 0, 0)
        assert got == sent, "the client got something else"
        sock.close()
    seen["client"] = ports


def main() -> None:
    nic, address, peer, port = sys.argv[1:]
    seen: dict[str, object] = {}
    with Stack(nic=nic, addr=address) as host, ClientLoop(host) as loop:
        host.core.sysctl["net.inet.ip.portrange.last"] = 40100
        loop.stack.sysctl["net.inet.ip.portrange.last"] = 40100
        for stack in (host.core, loop.stack):
            stack.sysctl["net.inet.ip.portrange.first"] = 40000
        thread = threading.Thread(target=legacy, args=(host, (peer, int(port)), seen))
        thread.start()
        client(loop, (peer, int(port)), seen)
        # the peer's connection to a listener of the client
        listener = loop.listen("0.0.0.0", 7000)
        print("listening", flush=True)
        sock = loop.accept(listener)
        loop.send(sock, loop.receive(sock, 100_000))
        seen["served"] = True
        loop.until(lambda: sock.poll() & POLLIN)  # its FIN
        sock.close()
        loop.until(lambda: not thread.is_alive())
        thread.join()
        loop.stack.drain(5)
        host.drain(5)
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
