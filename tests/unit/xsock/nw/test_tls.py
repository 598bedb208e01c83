"""TLS over byte streams: handshakes that fail, ends that are cut, records however they come."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.stapled import StapledObjectStream
from anyio.streams.tls import TLSAttribute
from hypothesis import given
from hypothesis import strategies as st

from xsock.nw._errors import Category, ConnectionBroken, HandshakeError
from xsock.nw._options import TLS, PeerInfo
from xsock.nw._tls import TLSConnection

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Wire(ByteStream):
    """One end of a pipe in memory; counts what is sent, and can cut what comes to pieces."""

    def __init__(self, below: ByteStream) -> None:
        self.below = below
        self.sends: list[int] = []
        self.most = 65536
        self.held: list[bytes] | None = None  # sends that release() makes one of

    async def release(self) -> None:
        held, self.held = self.held or [], None
        await self.below.send(b"".join(held))

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self.below.receive(min(max_bytes, self.most))

    async def send(self, item: bytes) -> None:
        assert type(item) is bytes
        self.sends.append(len(item))
        if self.held is not None:
            self.held.append(item)
        else:
            await self.below.send(item)

    async def send_eof(self) -> None:
        await self.below.send_eof()

    async def aclose(self) -> None:
        await self.below.aclose()


def wires(room: float = 64) -> tuple[Wire, Wire]:
    to_far, at_far = anyio.create_memory_object_stream[bytes](room)
    to_near, at_near = anyio.create_memory_object_stream[bytes](room)
    return (
        Wire(BufferedByteStream(StapledObjectStream(to_far, at_near))),
        Wire(BufferedByteStream(StapledObjectStream(to_near, at_far))),
    )


async def shaken(
    near: ByteStream, far: ByteStream, client: TLS, server: TLS
) -> tuple[TLSConnection, TLSConnection]:
    """Both ends, after their handshake."""
    made: list[TLSConnection] = []

    async def serve() -> None:
        made.append(await TLSConnection.wrap(far, server, server_side=True))

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        conn = await TLSConnection.wrap(near, client, hostname="localhost")
    return conn, made[0]


@pytest.fixture
async def pair(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext, anyio_backend: Any
) -> AsyncIterator[tuple[TLSConnection, TLSConnection]]:
    near, far = await shaken(*wires(), TLS(context=client_context), TLS(context=server_context))
    yield near, far
    await anyio.aclose_forcefully(near)
    await anyio.aclose_forcefully(far)


# ---- the handshake ----


async def test_attributes_tell_what_was_agreed(authority: trustme.CA) -> None:
    client = ssl.create_default_context()
    authority.configure_trust(client)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    seen: list[str | None] = []
    server.sni_callback = lambda sock, name, context: seen.append(name)
    near, far = await shaken(
        *wires(), TLS(context=client, alpn=("h2", "demo")), TLS(context=server, alpn=("demo",))
    )
    assert seen == ["localhost"]
    for stream, server_side in ((near, False), (far, True)):
        assert stream.extra(TLSAttribute.alpn_protocol) == "demo"
        assert stream.extra(TLSAttribute.tls_version) == "TLSv1.3"
        assert stream.extra(TLSAttribute.server_side) is server_side
        assert stream.extra(TLSAttribute.standard_compatible)
    assert near.extra(TLSAttribute.peer_certificate_binary)
    assert far.extra(TLSAttribute.peer_certificate_binary) is None
    await anyio.aclose_forcefully(near)
    await anyio.aclose_forcefully(far)


async def failing(client: TLS, server: TLS) -> HandshakeError:
    """What the client says of a handshake that fails on at least its side."""
    near, far = wires()

    async def serve() -> None:
        with contextlib.suppress(HandshakeError):  # the client's alert
            await anyio.aclose_forcefully(await TLSConnection.wrap(far, server, server_side=True))

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        with pytest.raises(HandshakeError) as caught:
            await TLSConnection.wrap(near, client, hostname="localhost")
    with pytest.raises(anyio.ClosedResourceError):
        await near.below.send(b"the stream below is closed")
    return caught.value


async def test_a_certificate_that_nobody_knows_is_refused(server_context: ssl.SSLContext) -> None:
    error = await failing(TLS(), TLS(context=server_context))
    assert error.domain == "tls"
    assert error.category is Category.SECURITY
    assert error.code == 20  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
    assert isinstance(error, anyio.ConnectionFailed)


async def test_another_name_is_refused(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    error = await failing(
        TLS(context=client_context, server_hostname="elsewhere"), TLS(context=server_context)
    )
    assert "elsewhere" in str(error)


async def test_verify_may_refuse_whom_the_context_took(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    asked: list[PeerInfo] = []

    async def verify(peer: PeerInfo) -> bool:
        await anyio.lowlevel.checkpoint()
        asked.append(peer)
        return len(asked) > 1

    client = TLS(context=client_context, verify=verify)
    error = await failing(client, TLS(context=server_context))
    assert "verify" in str(error)
    near, far = await shaken(*wires(), client, TLS(context=server_context))
    assert [peer.server_hostname for peer in asked] == ["localhost"] * 2
    assert asked[0].certificate == near.extra(TLSAttribute.peer_certificate_binary)
    await anyio.aclose_forcefully(near)
    await anyio.aclose_forcefully(far)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_peer_that_does_not_speak_tls(answer: bytes) -> None:
    near, far = wires()
    if answer:
        await far.send(answer)
    else:
        await far.aclose()
    with pytest.raises(HandshakeError):
        await TLSConnection.wrap(near, hostname="localhost")
    await far.aclose()


async def test_a_cancelled_handshake_closes_the_stream() -> None:
    near, far = wires()
    with anyio.move_on_after(0) as scope:
        await TLSConnection.wrap(near, hostname="localhost")
    assert scope.cancelled_caught
    with pytest.raises(anyio.ClosedResourceError):
        await near.below.send(b"x")
    await far.aclose()


async def test_a_server_needs_a_certificate() -> None:
    near, far = wires()
    with pytest.raises(ValueError, match="certificate"):
        await TLSConnection.wrap(near, server_side=True)
    await far.aclose()


# ---- data ----


async def test_small_and_large_sends_are_few_sends_below(pair: Any) -> None:
    near, far = pair
    wire = near.stream
    wire.sends.clear()
    await near.send(b"x" * 1000)
    assert len(wire.sends) == 1
    data = bytes(range(256)) * 4096
    wire.sends.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(near.send, bytearray(data))
        got = b""
        while len(got) < 1000 + len(data):
            got += await far.receive()
    assert got == b"x" * 1000 + data
    assert len(wire.sends) == len(data) // 262_144
    # 16 KiB of plain text in each record: a record costs 22 bytes more.
    assert sum(wire.sends) == len(data) + 64 * 22


async def test_records_that_came_together_are_received_together(pair: Any) -> None:
    near, far = pair
    near.stream.held = []
    for size in (3, 4000, 5000, 16384, 100):
        await near.send(bytes(size))
    await near.stream.release()
    got = [len(await far.receive()) for _ in range(2)]
    assert got == [3 + 4000 + 5000 + 16384, 100]
    await near.send(bytes(40_000))
    assert [len(await far.receive(7_000)) for _ in range(5)] == [7_000] * 5


@given(
    sizes=st.lists(st.integers(0, 40_000), max_size=8),
    cut=st.integers(1, 3000),
    asked=st.lists(st.integers(1, 70_000), min_size=1, max_size=8),
)
def test_bytes_arrive_however_records_are_cut(
    sizes: list[int], cut: int, asked: list[int],
    client_context: ssl.SSLContext, server_context: ssl.SSLContext,
) -> None:  # fmt: skip
    async def run() -> None:
        near, far = await shaken(
            *wires(1000), TLS(context=client_context), TLS(context=server_context)
        )
        far.stream.most = cut  # type: ignore[attr-defined]
        data = b"".join(bytes([at % 256]) * size for at, size in enumerate(sizes))
        at = 0
        for size in sizes:
            await near.send(data[at : at + size])
            at += size
        await near.send_eof()
        got = [b""]
        with pytest.raises(anyio.EndOfStream):
            await take(far, asked, got)
        assert b"".join(got) == data
        await anyio.aclose_forcefully(near)
        await anyio.aclose_forcefully(far)

    anyio.run(run)


async def take(stream: ByteStream, asked: list[int], got: list[bytes]) -> None:
    while True:
        most = asked[len(got) % len(asked)]
        got.append(await stream.receive(most))
        assert 0 < len(got[-1]) <= most


# ---- ends ----


async def test_an_end_without_goodbye_is_an_error(pair: Any) -> None:
    near, far = pair
    await near.send(b"half of")
    await near.stream.aclose()
    assert await far.receive() == b"half of"
    for _ in range(2):
        with pytest.raises(ConnectionBroken, match="close_notify"):
            await far.receive()


async def test_unless_the_other_side_is_known_to_leave_so(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    near, far = await shaken(
        *wires(),
        TLS(context=client_context, standard_compatible=False),
        TLS(context=server_context, standard_compatible=False),
    )
    wire = near.stream
    wire.sends.clear()  # type: ignore[attr-defined]
    await near.aclose()
    assert wire.sends == []  # type: ignore[attr-defined]
    with pytest.raises(anyio.EndOfStream):
        await far.receive()
    await far.aclose()


async def test_closing_waits_for_the_goodbye_but_not_for_long(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext
) -> None:
    near, far = wires()
    made: list[TLSConnection] = []

    async def serve() -> None:
        made.append(await TLSConnection.wrap(far, TLS(context=server_context), server_side=True))

    async with anyio.create_task_group() as group:
        group.start_soon(serve)
        conn = await TLSConnection.wrap(
            near, TLS(context=client_context), hostname="localhost", close_timeout=0.05
        )
    await conn.aclose()  # the peer does not read
    with pytest.raises(anyio.ClosedResourceError):
        await conn.send(b"x")
    with pytest.raises(anyio.EndOfStream):
        await made[0].receive()
    await anyio.aclose_forcefully(made[0])


async def test_both_close_at_once(pair: Any) -> None:
    async with anyio.create_task_group() as group:
        with anyio.fail_after(3):
            group.start_soon(pair[0].aclose)
            group.start_soon(pair[1].aclose)


async def test_goodbye_is_said_with_data_unread(pair: Any) -> None:
    near, far = pair
    await far.send(b"y" * 50_000)
    assert await near.receive(10) == b"y" * 10
    await near.send_eof()
    with pytest.raises(anyio.EndOfStream):
        await far.receive()
    await far.send(b"z")
    await far.send_eof()
    got = b""
    async for part in near:
        got += part
    assert got == b"y" * 49_990 + b"z"
    with pytest.raises(anyio.ClosedResourceError):
        await near.send(b"x")


async def test_a_flipped_bit_ends_it(pair: Any) -> None:
    near, far = pair
    await near.send(b"first")
    assert await far.receive() == b"first"
    await near.stream.below.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ConnectionBroken) as caught:
        await far.receive()
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    with pytest.raises(ConnectionBroken):
        await far.send(b"x")
    with pytest.raises(ConnectionBroken, match=r"(?i)bad record mac"):
        await near.receive()


async def test_tls_1_2_works_too(authority: trustme.CA, server_context: ssl.SSLContext) -> None:
    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    near, far = await shaken(*wires(), TLS(context=client), TLS(context=server_context))
    assert near.extra(TLSAttribute.tls_version) == "TLSv1.2"
    await near.send(bytes(100_000))
    got = 0
    while got < 100_000:
        got += len(await far.receive())
    await far.send_eof()
    with pytest.raises(anyio.EndOfStream):
        await near.receive()
    await anyio.aclose_forcefully(near)
    await anyio.aclose_forcefully(far)
