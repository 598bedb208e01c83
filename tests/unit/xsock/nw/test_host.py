"""A Stack beside the process's: sockets of one reach the other, and ports are shared."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from bsdcore import netstat
from xsock import _wiring, nw

pytestmark = pytest.mark.anyio


@pytest.fixture
def process() -> Iterator[_wiring.Stack]:
    with _wiring.Stack(nic="lo") as stack:
        yield stack


@pytest.fixture
def echo(process: _wiring.Stack) -> Iterator[int]:
    """The port of a server with a socket of the process's Stack, in a thread."""
    server = process.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()

    def serve() -> None:
        conn, _ = server.accept()
        with conn:
            while data := conn.recv(65536):
                conn.sendall(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    thread.join()
    server.close()


async def test_a_socket_answers(anyio_backend: Any, process: Any, echo: int) -> None:
    async with nw.Stack.host(process) as stack, stack.connection(("127.0.0.1", echo)) as conn:
        await conn.send(bytes(100_000))
        assert await conn.receive_exactly(100_000) == bytes(100_000)


async def test_a_port_is_taken_once(anyio_backend: Any, process: Any) -> None:
    async with nw.Stack.host(process) as stack, stack.listen(local=("127.0.0.1", 0)) as listener:
        with process.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", listener.port))


async def test_the_default_stack(
    anyio_backend: Any, process: Any, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wiring, "_default", process)
    conn = await nw.connect("127.0.0.1", echo)
    assert await nw.default_stack() is await nw.default_stack()
    await conn.send(b"hello")
    assert await conn.receive() == b"hello"
    await conn.aclose()
    (await nw.default_stack()).abort()


async def test_a_stack_is_over_the_process_s(
    anyio_backend: Any, process: Any, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wiring, "_default", process)
    async with nw.Stack() as stack, stack.connection(("127.0.0.1", echo)) as conn:
        assert stack.originators is nw.Stack.host().originators
        await conn.send(b"hello")
        assert await conn.receive() == b"hello"
    async with nw.Stack.loopback() as alone:
        with pytest.raises(ConnectionRefusedError):
            await alone.connect(("127.0.0.1", echo))


async def test_a_change_of_the_process_s_network_arrives(anyio_backend: Any) -> None:
    with _wiring.Stack(nic="usernet") as process:
        async with nw.Stack.host(process) as stack:
            process.core.set_mtu("en0", 1400)
            process.core.add_address("en0", "198.51.100.9/24")
            with anyio.fail_after(10):
                while netstat.interfaces(stack.driver.core)[1].mtu != 1400:
                    await anyio.lowlevel.checkpoint()
            async with stack.listen(local=("198.51.100.9", 0)) as listener:
                assert listener.local.name == "198.51.100.9"


@pytest.fixture
def embedded() -> Iterator[_wiring.Stack]:
    """A Stack behind the gateway: 127.0.0.1 is the program's own ports first, then the host's."""
    with _wiring.Stack(nic="usernet", loopback="both") as stack:
        yield stack


async def test_loopback_is_the_programs_own_first(anyio_backend: Any, embedded: Any) -> None:
    async with (
        nw.Stack.host(embedded) as stack,
        stack.listen(local="127.0.0.1:0") as listener,
        stack.datagram_socket(("127.0.0.1", 0)) as plug,
    ):
        there = ("127.0.0.1", listener.port)
        with embedded.socket() as legacy:
            await anyio.to_thread.run_sync(legacy.connect, there)
            (await listener.accept()).abort()
        async with stack.connection(there):
            (await listener.accept()).abort()
        with embedded.socket(type=socket.SOCK_DGRAM) as legacy:
            legacy.sendto(b"hello", ("127.0.0.1", plug.port))
            data, _sender = await plug.receive()
            assert data == b"hello"


async def test_loopback_is_the_hosts_then(anyio_backend: Any, embedded: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with (
            nw.Stack.host(embedded) as stack,
            stack.connection(server.getsockname()) as conn,
        ):
            accepted, _peer = await anyio.to_thread.run_sync(server.accept)
            with accepted:
                await conn.send(b"hello")
                assert await anyio.to_thread.run_sync(accepted.recv, 16) == b"hello"
