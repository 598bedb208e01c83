"""A Stack of its own for each test, on loopback; and pairs of sockets on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import xsock
from xsock._wiring import Stack

SECONDS = 10.0


@pytest.fixture
def stack() -> Iterator[Stack]:
    with xsock.Stack(nic="lo") as made:
        yield made


@pytest.fixture
def pair(stack: Stack) -> Iterator[tuple[Any, Any]]:
    """A connected client and server; both have a timeout, so that nothing hangs."""
    with stack.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = stack.socket()
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    client.settimeout(SECONDS)
    server.settimeout(SECONDS)
    with client, server:
        yield client, server


@pytest.fixture
def udp(stack: Stack) -> Iterator[Callable[[], Any]]:
    """Makes datagram sockets bound on loopback."""
    made = []

    def make() -> Any:
        sock = stack.socket(type=2)
        made.append(sock)
        sock.settimeout(SECONDS)
        sock.bind(("127.0.0.1", 0))
        return sock

    yield make
    for sock in made:
        sock.close()
