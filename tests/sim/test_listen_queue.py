"""More connections at once than a listener's queue holds."""

from __future__ import annotations

import contextlib
from socket import AF_INET, SOCK_STREAM

from tests.helpers.sim import Simulation

CLIENTS = 20


def test_a_full_queue_delays_but_loses_nothing() -> None:
    """Handshakes that found it full complete as the application accepts, not seconds later."""
    with Simulation(seed=1) as sim, contextlib.ExitStack() as sockets:
        client, server = sim.host("client"), sim.host("server")
        sim.link(client, "10.0.1.2/24", server, "10.0.1.1/24")
        listener = sockets.enter_context(server.socket(AF_INET, SOCK_STREAM))
        for sock in sim.connect(client, server, "10.0.1.1"):
            sock.close()  # now they know each other's hardware address
        listener.bind("10.0.1.1", 8080)
        listener.listen(1)
        near = [sockets.enter_context(client.socket(AF_INET, SOCK_STREAM)) for _ in range(CLIENTS)]
        for sock in near:
            with contextlib.suppress(BlockingIOError):
                sock.connect("10.0.1.1", 8080, timeout=0)
        sim.run_for(0.1)
        for sock in near:
            assert sock.send(b"early", timeout=0) == 5
        sim.run_for(0.01)
        far = [sockets.enter_context(listener.accept(timeout=0)[0]) for _ in range(CLIENTS)]
        sim.run_for(3)
        assert [sock.recv(10, timeout=0) for sock in far] == [b"early"] * CLIENTS
        for sock in far:
            sock.send(b"answer", timeout=0)
        sim.run_for(0.1)
        assert [sock.recv(10, timeout=0) for sock in near] == [b"answer"] * CLIENTS
