"""httpcore's network over nw: ``httpcore.AsyncConnectionPool(network_backend=Backend())``.

adapters.httpx makes an httpx transport of it.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import anyio.abc
import httpcore
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute

from xsock.nw._endpoint import Endpoint
from xsock.nw._options import TCP, TLS, Keepalive
from xsock.nw._parameters import Parameters
from xsock.nw._stack import Stack, current_stack
from xsock.nw._tls import TLSConnection

__all__ = ["Backend", "Stream"]

_PARAMETERS: Final = Parameters()
NODELAY: Final = (6, 1)  # IPPROTO_TCP, TCP_NODELAY
KEEPALIVE: Final = (1, 9)  # SOL_SOCKET, SO_KEEPALIVE


@contextmanager
def _as(timeout: type[Exception], failure: type[Exception]) -> Iterator[None]:
    """What goes wrong, in httpcore's exceptions."""
    try:
        yield
    except TimeoutError as error:
        raise timeout(error) from error
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        raise failure(error) from error


class Stream(httpcore.AsyncNetworkStream):
    """A byte stream as httpcore wants it."""

    def __init__(self, below: ByteStream) -> None:
        self.below = below

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Some bytes; b"" at the end."""
        with _as(httpcore.ReadTimeout, httpcore.ReadError), anyio.fail_after(timeout):
            try:
                return await self.below.receive(max_bytes)
            except anyio.EndOfStream:
                return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of *buffer*."""
        if buffer:
            with _as(httpcore.WriteTimeout, httpcore.WriteError), anyio.fail_after(timeout):
                await self.below.send(buffer)

    async def aclose(self) -> None:
        await self.below.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        """TLS over this; as HTTP does it, without a close_notify at the end."""
        options = TLS(
            context=ssl_context, server_hostname=server_hostname or "", standard_compatible=False
        )
        with _as(httpcore.ConnectTimeout, httpcore.ConnectError), anyio.fail_after(timeout):
            return Stream(await TLSConnection.wrap(self.below, options))

    def get_extra_info(self, info: str) -> Any:
        """ssl_object, client_addr, "server_addr", "socket" (a host's) or "is_readable"."""
        found = _EXTRA.get(info)
        return None if found is None else found(self.below)


def _is_readable(stream: ByteStream) -> bool:
    """Something came, or the end: of an idle connection, that it is of no more use."""
    known = getattr(stream, "is_readable", None)
    if known is not None:
        return bool(known)
    sock = stream.extra(SocketAttribute.raw_socket, None)
    if sock is None or sock.fileno() < 0:
        return sock is not None
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


_EXTRA: Final[dict[str, Callable[[ByteStream], Any]]] = {
    "ssl_object": lambda stream: stream.extra(TLSAttribute.ssl_object, None),
    "client_addr": lambda stream: stream.extra(SocketAttribute.local_address, None),
    "server_addr": lambda stream: stream.extra(SocketAttribute.remote_address, None),
    "socket": lambda stream: stream.extra(SocketAttribute.raw_socket, None),
    "is_readable": _is_readable,
}


class Backend(httpcore.AsyncNetworkBackend):
    """Connects by *stack*, or the one that is current at that time."""

    def __init__(self, stack: Stack | None = None, parameters: Parameters = _PARAMETERS) -> None:
        self.stack = stack
        self.parameters = parameters

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None,
        local_address: str | None = None, socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        """A connection to *host*. Of socket options, TCP_NODELAY and SO_KEEPALIVE are known."""
        stack = current_stack() if self.stack is None else self.stack
        proto = _with_options(TCP(no_delay=True), socket_options or ())
        parameters = self.parameters
        if local_address is not None:
            parameters = parameters.replace(local=Endpoint.address(local_address, 0))
        with _as(httpcore.ConnectTimeout, httpcore.ConnectError), anyio.fail_after(timeout):
            return Stream(await stack.connect(Endpoint.host(host, port), proto, parameters))

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """There are none here."""
        raise httpcore.UnsupportedProtocol("nw has no unix sockets")

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


def _with_options(proto: TCP, options: Iterable[Any]) -> TCP:
    for level, name, *value in options:
        if (level, name) == NODELAY:
            proto = proto.replace(no_delay=bool(value[0]))
        elif (level, name) == KEEPALIVE:
            proto = proto.replace(keepalive=Keepalive() if value[0] else None)
        else:
            raise httpcore.ConnectError(f"nw knows no socket option {level}, {name}")
    return proto
