"""Protocols above TCP, end to end: TLS and framers, by name and by address."""

import ssl
from typing import Any

import anyio
import pytest
import trustme
from anyio.streams.tls import TLSAttribute

from xsock import nw
from xsock.nw import State

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> nw.TLS:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return nw.TLS(context=context)


@pytest.fixture(scope="module")
def client_tls(authority: trustme.CA) -> nw.TLS:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return nw.TLS(context=context)


async def test_tls_by_name(net: Any, client_tls: nw.TLS, server_tls: nw.TLS) -> None:
    async def serve(conn: nw.ByteConnection) -> None:
        async for data in conn:
            await conn.send(data.upper())

    async with (
        net.stack.listen(server_tls, local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.run, serve)
        where = nw.Endpoint.host("localhost", listener.port)
        async with net.stack.connection(where, client_tls) as conn:
            await conn.send(b"hello")
            assert await conn.receive_exactly(5) == b"HELLO"
            big = bytes(range(97, 107)) * 50_000

            async def send() -> None:
                await conn.send(big, end_of_stream=True)

            group.start_soon(send)
            got = bytearray()
            async for data in conn:
                got += data
            assert got == big.upper()
            assert conn.extra(TLSAttribute.tls_version).startswith("TLSv1")
            report = await conn.establishment_report()
            assert report.resolutions[0].source in ("local", "hosts")
            assert report.attempts[-1].error is None
        assert conn.state is State.CANCELLED
        group.cancel_scope.cancel()


async def test_a_peer_that_nobody_vouches_for_is_refused(net: Any, server_tls: nw.TLS) -> None:
    async with (
        net.stack.listen(server_tls, local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as group,
    ):

        async def serve(conn: nw.ByteConnection) -> None:
            await conn.receive()

        group.start_soon(listener.run, serve)
        conn = net.stack.connection(listener.local, nw.TLS())
        with pytest.raises(nw.HandshakeError) as caught:
            await conn.ready()
        assert caught.value.category is nw.Category.SECURITY
        assert isinstance(caught.value, anyio.ConnectionFailed)
        assert conn.state is State.FAILED
        group.cancel_scope.cancel()


@pytest.mark.parametrize("secure", [False, True])
async def test_messages(net: Any, client_tls: nw.TLS, server_tls: nw.TLS, secure: bool) -> None:
    below = (client_tls, server_tls) if secure else (nw.TCP(), nw.TCP())

    async def serve(conn: nw.MessageConnection) -> None:
        async for message in conn:
            await conn.send(nw.Message(bytes(message.content)[::-1], type=message.type))

    async with (
        net.stack.listen(nw.TLV(below[1]), local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.run, serve)
        async with net.stack.connection(listener.local, nw.TLV(below[0])) as conn:
            for kind, text in enumerate((b"abc", b"", b"x" * 100_000)):
                await conn.send(nw.Message(text, type=kind))
                answer = await conn.receive()
                assert (answer.type, bytes(answer.content)) == (kind, text[::-1])
            await conn.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await conn.receive()
        group.cancel_scope.cancel()


async def test_an_unknown_name(net: Any) -> None:
    with pytest.raises(nw.NameResolutionError):
        await net.stack.connect(("nowhere.invalid", 1))


async def test_a_prohibited_path(net: Any) -> None:
    parameters = nw.Parameters(prohibited_interface_types=(nw.InterfaceType.LOOPBACK,))
    with pytest.raises(nw.NoPath) as caught:
        await net.stack.connect(("127.0.0.1", 1), nw.TCP(), parameters)
    assert isinstance(caught.value.reason, nw.PathReason)


async def test_paths(net: Any) -> None:
    near, _far = await net.pair()
    assert near.path.is_satisfied
    paths = near.paths()
    assert (await anext(paths)).is_satisfied
    async with net.stack.path_monitor(to=near.endpoint) as monitor:
        assert monitor.current.status is nw.PathStatus.SATISFIED
