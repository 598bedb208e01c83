"""The contract of a byte stream held against every stream there is."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial
from typing import Any

import anyio
import anyio.abc
import pytest
import trustme
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.stapled import StapledObjectStream
from anyio.streams.tls import TLSStream

from tests.contract.check_stream import CHECKS, Pair, PairFactory, checks_for
from tests.contract.shims import FromAsyncio, FromHttpcore, FromTrio
from xsock.nw._endpoint import Endpoint
from xsock.nw._framer import Framer
from xsock.nw._options import TLS
from xsock.nw._parameters import Parameters
from xsock.nw._pipe import FramedStream, Pipe
from xsock.nw._stack import Stack
from xsock.nw._tls import TLSConnection

Lower = Callable[[], AbstractAsyncContextManager[Pair]]


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's, for "localhost"."""
    authority = trustme.CA()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


# ---- the streams below ----


@asynccontextmanager
async def memory() -> AsyncIterator[Pair]:
    """anyio's memory streams: nothing of a network, a buffer of four items."""
    to_far, at_far = anyio.create_memory_object_stream[bytes](4)
    to_near, at_near = anyio.create_memory_object_stream[bytes](4)
    near = BufferedByteStream(StapledObjectStream(to_far, at_near))
    far = BufferedByteStream(StapledObjectStream(to_near, at_far))
    async with near, far:
        yield Pair(near, far)


@asynccontextmanager
async def kernel() -> AsyncIterator[Pair]:
    """TCP of the host, by anyio."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    accepted: list[ByteStream] = []
    done = anyio.Event()

    async def accept(stream: ByteStream) -> None:
        accepted.append(stream)
        done.set()

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, accept, group)
        near = await anyio.connect_tcp("127.0.0.1", port)
        await done.wait()
        # anyio reads all that comes to an accepted stream until its first receive() is over.
        await near.send(b"!")
        await accepted[0].receive()
        try:
            yield Pair(near, accepted[0])
        finally:
            await anyio.aclose_forcefully(near)
            await anyio.aclose_forcefully(accepted[0])
            group.cancel_scope.cancel()


@asynccontextmanager
async def loopback() -> AsyncIterator[Pair]:
    """TCP of the loop's own stack, over its loopback."""
    async with Stack.loopback() as stack, stack.listen(local=("127.0.0.1", 0)) as listener:
        near = await stack.connect(("127.0.0.1", listener.port))
        far = await listener.accept()
        try:
            yield Pair(near, far)
        finally:
            near.abort()
            far.abort()


@asynccontextmanager
async def secure() -> AsyncIterator[Pair]:
    """The same with TLS, as programs ask for it."""
    client, server = contexts()
    parameters = Parameters(close_timeout=1.0)
    async with (
        Stack.loopback() as stack,
        stack.listen(
            TLS(context=server), local=("127.0.0.1", 0), parameters=parameters
        ) as listener,
    ):
        to = Endpoint.host("127.0.0.1", listener.port)
        proto = TLS(context=client, server_hostname="localhost")
        near = stack.connection(to, proto, parameters)
        near.start()
        far = await listener.accept()
        await near.ready()
        await far.ready()
        try:
            yield Pair(near, far)
        finally:
            near.abort()
            far.abort()


# ---- what stands on them ----


@asynccontextmanager
async def both(
    lower: Lower, client: Callable[[ByteStream], Any], server: Callable[[ByteStream], Any]
) -> AsyncIterator[Pair]:
    """Wrap both ends at once: they shake hands."""
    made: dict[str, ByteStream] = {}

    async def wrap(name: str, how: Callable[[ByteStream], Any], stream: ByteStream) -> None:
        made[name] = await how(stream)

    async with lower() as pair:
        async with anyio.create_task_group() as group:
            group.start_soon(wrap, "near", client, pair.near)
            group.start_soon(wrap, "far", server, pair.far)
        try:
            yield Pair(made["near"], made["far"])
        finally:
            for stream in made.values():
                await anyio.aclose_forcefully(stream)


def tls(lower: Lower) -> AbstractAsyncContextManager[Pair]:
    client, server = contexts()
    return both(
        lower,
        lambda s: TLSConnection.wrap(s, TLS(context=client), hostname="localhost"),
        lambda s: TLSConnection.wrap(s, TLS(context=server), server_side=True),
    )


def anyio_tls(lower: Lower) -> AbstractAsyncContextManager[Pair]:
    client, server = contexts()
    return both(
        lower,
        lambda s: TLSStream.wrap(s, hostname="localhost", ssl_context=client),
        lambda s: TLSStream.wrap(s, server_side=True, ssl_context=server),
    )


def mixed_tls(lower: Lower) -> AbstractAsyncContextManager[Pair]:
    """Ours against anyio's."""
    client, server = contexts()
    return both(
        lower,
        lambda s: TLSConnection.wrap(s, TLS(context=client), hostname="localhost"),
        lambda s: TLSStream.wrap(s, server_side=True, ssl_context=server),
    )


def framed(lower: Lower) -> AbstractAsyncContextManager[Pair]:
    """A framer that passes everything through, on each side."""

    async def wrap(stream: ByteStream) -> ByteStream:
        pipe = Pipe(stream, Framer())
        await pipe.ready()
        return FramedStream(pipe)

    return both(lower, wrap, wrap)


@asynccontextmanager
async def shimmed(lower: Lower, shim: Callable[[ByteStream], ByteStream]) -> AsyncIterator[Pair]:
    """An adapter on each side."""
    async with lower() as pair:
        near, far = shim(pair.near), shim(pair.far)
        try:
            yield Pair(near, far)
        finally:
            await anyio.aclose_forcefully(near)
            await anyio.aclose_forcefully(far)


def factory(
    make: Callable[[], AbstractAsyncContextManager[Pair]], name: str, lacks: str = "",
    on_uvloop: str = "", **where: Any,
) -> PairFactory:  # fmt: skip
    return PairFactory(
        name, make, lacks=frozenset(lacks.split()), lacks_on_uvloop=frozenset(on_uvloop.split()),
        **where,
    )  # fmt: skip


# uvloop takes what is written and tells of a full buffer in the next turn only.
UVLOOP = "back_pressure counts_bytes"
FACTORIES = (
    factory(memory, "memory", "guards counts_bytes wakes_receiver refuses_zero"),
    factory(kernel, "kernel", "", UVLOOP),
    factory(loopback, "loopback"),
    factory(secure, "secure"),
    factory(
        partial(anyio_tls, kernel), "anyio-tls-kernel",
        "half_close ends_cleanly wakes_receiver knows_closed", UVLOOP,
    ),
    factory(partial(tls, memory), "tls-memory", "wakes_receiver"),
    factory(partial(tls, kernel), "tls-kernel", "", UVLOOP),
    factory(partial(tls, loopback), "tls-loopback"),
    factory(partial(mixed_tls, kernel), "tls-anyio-tls-kernel", "half_close", UVLOOP),
    factory(partial(framed, kernel), "framed-kernel", "", UVLOOP),
    factory(partial(framed, loopback), "framed-loopback"),
    factory(
        partial(shimmed, loopback, FromAsyncio), "asyncio-loopback",
        "guards counts_bytes refuses_zero wakes_receiver knows_closed",
        loops=("asyncio", "uvloop"),
    ),
    factory(partial(shimmed, loopback, FromTrio), "trio-loopback", loops=("trio",)),
    factory(
        partial(shimmed, loopback, FromHttpcore), "httpcore-loopback",
        "half_close guards wakes_receiver knows_closed",
    ),
)  # fmt: skip
CASES = [
    pytest.param(factory, loop, name, id=f"{factory}-{loop}-{name}")
    for factory in FACTORIES
    for loop in factory.loops
    for name in checks_for(factory, loop)
]


@pytest.mark.parametrize(("factory", "loop", "name"), CASES)
def test_stream(factory: PairFactory, loop: str, name: str) -> None:
    async def run() -> None:
        with anyio.fail_after(30):
            async with factory.make() as pair:
                await CHECKS[name][1](pair)

    if loop == "trio":
        anyio.run(run, backend="trio")
    else:
        anyio.run(run, backend_options={"use_uvloop": loop == "uvloop"})
