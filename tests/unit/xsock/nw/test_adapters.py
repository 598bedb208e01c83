"""Other libraries' networking over connections of nw."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore
import httpx
import pytest
import trio
import trio.testing
import trustme
from anyio.abc import ByteStream, SocketAttribute

from xsock import nw
from xsock.nw._content import Message
from xsock.nw.adapters import asyncio as nw_asyncio
from xsock.nw.adapters.anyio import as_anyio_connectable
from xsock.nw.adapters.httpcore import Backend, Stream
from xsock.nw.adapters.httpx import Transport
from xsock.nw.adapters.trio import stream as trio_stream

pytestmark = pytest.mark.anyio
ASYNCIO = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})]
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def serving(
    net: Any, handler: Callable[[Any], Awaitable[None]], proto: Any = None
) -> AsyncIterator[Any]:
    """A listener whose connections *handler* gets; ended with the block."""
    async with (
        net.stack.listen(proto or nw.TCP(), local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.run, handler)
        yield listener
        group.cancel_scope.cancel()


async def echo(conn: ByteStream) -> None:
    async for data in conn:
        await conn.send(data)
    await conn.send_eof()


# ---- anyio ----


async def test_an_anyio_connectable_connects(net: Any) -> None:
    async with serving(net, echo) as listener:
        connectable = as_anyio_connectable(net.stack, listener.local)
        async with await connectable.connect() as conn:
            await conn.send(b"hello")
            assert await conn.receive() == b"hello"
        with_current = as_anyio_connectable(None, listener.local, nw.TLV())
        async with await with_current.connect() as messages:
            await messages.send(Message(b"hello", type=3))
            assert (await messages.receive()).type == 3


async def test_a_connectable_that_fails_raises_what_anyio_expects(net: Any) -> None:
    with pytest.raises(anyio.ConnectionFailed) as caught:
        await as_anyio_connectable(net.stack, ("127.0.0.1", 1)).connect()
    assert isinstance(caught.value, ConnectionRefusedError)


# ---- trio ----


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_s_own_checks_of_a_half_closeable_stream(net: Any) -> None:
    async def make() -> tuple[Any, Any]:
        near, far = await net.pair()
        return trio_stream(near), trio_stream(far)

    async def make_clogged() -> tuple[Any, Any]:
        near, far = await make()
        for clogged in (near, far):
            while clogged.below.try_send(bytes(65536)):
                net.stack.driver.pump()
        return near, far

    await trio.testing.check_half_closeable_stream(make, make_clogged)


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_s_tls_runs_over_it(
    net: Any, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    near, far = await net.pair()
    client = trio.SSLStream(
        trio_stream(near), client_context, server_hostname="localhost", https_compatible=True
    )
    server = trio.SSLStream(
        trio_stream(far), server_context, server_side=True, https_compatible=True
    )
    async with anyio.create_task_group() as group:
        group.start_soon(server.send_all, b"x" * 100_000)
        got = b""
        while len(got) < 100_000:
            got += await client.receive_some()
    assert got == b"x" * 100_000


# ---- asyncio ----


@ASYNCIO
async def test_asyncio_streams_talk_to_a_server(net: Any) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await nw_asyncio.start_server(upper, ("127.0.0.1", 0), limit=2**20) as server:
        assert server.is_serving()
        reader, writer = await nw_asyncio.open_connection(("127.0.0.1", server.port))
        assert writer.get_extra_info("peername") == ("127.0.0.1", server.port)
        writer.writelines([b"one\n", b"two\n"])
        assert await reader.readexactly(8) == b"ONE\nTWO\n"
        writer.write(b"x" * 300_000 + b"\n")
        await writer.drain()
        assert await reader.readexactly(300_001) == b"X" * 300_000 + b"\n"
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert not server.is_serving()


class Recorder(asyncio.Protocol):
    """What a transport says, in order."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.said.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.said.append(data)

    def eof_received(self) -> bool:
        self.said.append("eof")
        return False

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(error)


@ASYNCIO
async def test_a_protocol_hears_everything_in_order(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        transport, protocol = await nw_asyncio.create_connection(Recorder, listener.local)
        far = await listener.accept()
        await far.send(b"hello")
        transport.write(b"answer")
        assert await far.receive() == b"answer"
        await far.send_eof()
        assert await protocol.lost is None
        assert protocol.said == ["made", b"hello", "eof"]
        assert transport.is_closing()
        with pytest.raises(anyio.EndOfStream):
            await far.receive()
        await far.aclose()


@ASYNCIO
async def test_a_protocol_is_told_to_pause(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        transport, protocol = await nw_asyncio.create_connection(Recorder, listener.local)
        far = await listener.accept()
        transport.set_write_buffer_limits(100_000, 10_000)
        while "pause" not in protocol.said:
            transport.write(bytes(400_000))
        assert transport.get_write_buffer_size() > 100_000
        received = 0
        while "resume" not in protocol.said:
            received += len(await far.receive())
        transport.abort()
        assert await protocol.lost is None
        await far.aclose()
        assert transport.get_write_buffer_size() == 0


@ASYNCIO
async def test_a_broken_connection_is_an_oserror(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        _, protocol = await nw_asyncio.create_connection(Recorder, listener.local)
        (await listener.accept()).abort()
        assert isinstance(await protocol.lost, ConnectionResetError)


@ASYNCIO
async def test_a_buffered_protocol_gets_bytes_in_its_buffer(net: Any) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(7)
            self.got = b""
            self.ended = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.got += self.buffer[:nbytes]

        def connection_lost(self, error: Exception | None) -> None:
            self.ended.set_result(error)

    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        _, protocol = await nw_asyncio.create_connection(Buffered, listener.local)
        far = await listener.accept()
        await far.send(bytes(range(100)))
        await far.aclose()
        assert await protocol.ended is None
        assert protocol.got == bytes(range(100))


@ASYNCIO
async def test_paused_reading_holds_data_back(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        transport, protocol = await nw_asyncio.create_connection(Recorder, listener.local)
        far = await listener.accept()
        transport.pause_reading()
        assert not transport.is_reading()
        await far.send(b"late")
        await anyio.wait_all_tasks_blocked()
        assert protocol.said == ["made"]
        transport.resume_reading()
        await far.aclose()
        await protocol.lost
        assert protocol.said == ["made", b"late", "eof"]


# ---- httpcore and httpx ----


async def answer(conn: ByteStream) -> None:
    """An HTTP server of few words: the path comes back, as often as asked for."""
    held = b""
    while True:
        while b"\r\n\r\n" not in held:
            try:
                held += await conn.receive()
            except anyio.EndOfStream:
                return
        head, _, held = held.partition(b"\r\n\r\n")
        path = head.split()[1]
        count = int(path.rpartition(b"/")[2] or 1)
        await conn.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * len(path)) + path * count
        )


async def test_httpx_gets_over_it(
    net: Any, client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    secure = nw.TLS(context=server_context, standard_compatible=False)
    async with (
        serving(net, answer) as plain,
        serving(net, answer, secure) as tls,
        httpx.AsyncClient(transport=Transport(net.stack, verify=client_context)) as client,
    ):
        for url in (f"http://127.0.0.1:{plain.port}", f"https://127.0.0.1:{tls.port}"):
            for count in (1, 200_000, 3):
                response = await client.get(f"{url}/x/{count}")
                assert response.text == f"/x/{count}" * count
        async with client.stream("GET", f"http://127.0.0.1:{plain.port}/y/5000") as streamed:
            parts = [part async for part in streamed.aiter_bytes()]
        assert b"".join(parts) == b"/y/5000" * 5000


async def test_httpx_says_what_went_wrong(net: Any, client_context: ssl.SSLContext) -> None:
    async with (
        serving(net, echo) as listener,
        httpx.AsyncClient(transport=Transport(net.stack, verify=client_context)) as client,
    ):
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")
        with pytest.raises(httpx.ConnectError):
            await client.get(f"https://127.0.0.1:{listener.port}/")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"http://127.0.0.1:{listener.port}/")


async def test_a_silent_server_is_a_timeout(net: Any) -> None:
    async def silent(conn: ByteStream) -> None:
        async for _ in conn:
            pass

    async with (
        serving(net, silent) as listener,
        httpx.AsyncClient(transport=Transport(net.stack), timeout=0.05) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"http://127.0.0.1:{listener.port}/")


async def test_an_idle_connection_that_ended_is_not_used_again(net: Any) -> None:
    taken = 0

    async def once(conn: ByteStream) -> None:
        nonlocal taken
        taken += 1
        await conn.receive()
        await conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with (
        serving(net, once) as listener,
        httpx.AsyncClient(transport=Transport(net.stack)) as client,
    ):
        for _ in range(3):
            response = await client.get(f"http://127.0.0.1:{listener.port}/")
            assert response.text == "ok"
            await anyio.wait_all_tasks_blocked()
            net.stack.driver.pump()
    assert taken == 3


async def test_httpcore_s_extra_information(net: Any) -> None:
    async with serving(net, echo) as listener:
        backend = Backend(net.stack)
        stream = await backend.connect_tcp("127.0.0.1", listener.port, socket_options=[(6, 1, 1)])
        assert isinstance(stream, Stream)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", listener.port)
        local = stream.below.extra(SocketAttribute.local_address)
        assert stream.get_extra_info("client_addr") == local
        assert stream.get_extra_info("ssl_object") is None
        assert stream.get_extra_info("no such thing") is None
        await stream.aclose()
        with pytest.raises(httpcore.ConnectError):
            await backend.connect_tcp("127.0.0.1", listener.port, socket_options=[(1, 2, 1)])
