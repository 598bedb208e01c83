"""Which local port a socket gets when it asks for any."""

from typing import Any

from xsock._wiring import Stack


def test_a_port_in_time_wait_is_not_given_to_bind(stack: Stack, pair: tuple[Any, Any]) -> None:
    client, server = pair
    taken = client.getsockname()[1]
    client.close()
    assert server.recv(1) == b""
    server.close()
    first, last = sorted((taken, taken + 1 if taken < 65535 else taken - 1))
    stack.core.sysctl["net.inet.ip.portrange.first"] = first
    stack.core.sysctl["net.inet.ip.portrange.last"] = last
    for _ in range(16):  # ports are chosen at random
        with stack.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            assert sock.getsockname()[1] != taken
