"""Connections with protocols above the transport: the same life, and the calls handed on.

The transport is a TCPConnection of its own that nobody else sees; TLS and framers stand on
it (_stacking.py). READY means that all of them have shaken hands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteStream, ObjectStream

from xsock.nw import _stacking
from xsock.nw._bytes import ByteConnection, Chunk, TCPConnection
from xsock.nw._connection import TERMINAL, Connection, State
from xsock.nw._content import Message
from xsock.nw._context import DEFAULT_MESSAGE, ContentContext
from xsock.nw._endpoint import EndpointKind
from xsock.nw._errors import ConnectionBroken, NetworkError
from xsock.nw._options import candidates_of
from xsock.nw._packet import Packet
from xsock.nw._report import DataTransferReport, TCPInfo
from xsock.nw._voucher import ServiceClass

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

    from xsock.nw._build import Build
    from xsock.nw._endpoint import Endpoint
    from xsock.nw._loop import Driver
    from xsock.nw._message import MessageConnection as Messages

__all__ = ["LayeredBytes", "MessageConnection"]


class _Layered(Connection):
    """The part that LayeredBytes and MessageConnection have in common."""

    _transport: TCPConnection | None = None
    _is_server = False
    _top: Any = None

    async def _establish(self) -> None:
        transport = self._transport
        options = candidates_of(self.options)[0]
        if transport is None:
            handle, options = await self._build.dial(self)
            self._transport = transport = self._carry(handle)
        try:
            self._top = await _stacking.establish(
                transport, options, server_side=self._is_server,
                hostname=None if self.endpoint.kind is EndpointKind.ADDRESS and self._is_server
                else self.endpoint.name, close_timeout=self.parameters.close_timeout,
                parameters=self.parameters, options=options,
            )  # fmt: skip
        except BaseException:
            transport.abort()
            self._transport = None
            raise

    def _accept(self, handle: Any) -> None:
        """Take an accepted socket and shake hands over it, from start() on."""
        self._transport, self._is_server = self._carry(handle), True
        self.start()

    def _carry(self, handle: Any) -> TCPConnection:
        """The transport over a connected socket; both are one to whoever pays."""
        transport = TCPConnection(self._driver, self.endpoint, self._build)
        transport._tag = self._tag
        transport._adopt(handle, is_inner=True)
        return transport

    def _release(self, error: NetworkError | None = None) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    async def _close(self) -> None:
        top, transport, task = self._top, self._transport, self._task
        self._enter(State.CANCELLED)
        self._task = None
        if task is not None:
            task.cancel()
        try:
            if top is not None:
                await top.aclose()
        finally:
            if transport is not None:
                transport.abort()

    async def _call(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Hand a call on, once READY; a broken protocol ends the connection."""
        try:
            return await call(*args, **options)
        except anyio.ClosedResourceError:
            self._check_alive()
            raise
        except ConnectionBroken as error:
            if self._state is State.CANCELLED:
                raise anyio.ClosedResourceError from error
            self._fail(error)
            raise

    # ---- attributes and reports ----

    @property
    def local(self) -> Endpoint | None:
        """The near address; None without a connection."""
        return None if self._transport is None else self._transport.local

    @property
    def remote(self) -> Endpoint | None:
        """The far address; None without a connection."""
        return None if self._transport is None else self._transport.remote

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        if self._top is None or self._state in TERMINAL:
            return {}
        known: Mapping[Any, Callable[[], Any]] = self._top.extra_attributes
        return known

    def tcp_info(self) -> TCPInfo:
        if self._transport is None:
            return super().tcp_info()
        return self._transport.tcp_info()

    def data_transfer_report(self) -> DataTransferReport:
        if self._transport is None:
            return super().data_transfer_report()
        return self._transport.data_transfer_report()

    def set_service_class(self, service_class: ServiceClass | None) -> None:
        if self._transport is None:
            super().set_service_class(service_class)
        else:
            self._transport.set_service_class(service_class)


class LayeredBytes(_Layered, ByteConnection):
    """A byte stream over TLS or another protocol that carries one."""

    _top: ByteStream | None

    def __init__(self, driver: Driver, endpoint: Endpoint, build: Build) -> None:
        super().__init__(driver, endpoint, build)

    async def _receive_some(self, max_bytes: int) -> bytes:
        assert self._top is not None
        data: bytes = await self._call(self._top.receive, max_bytes)
        return data

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if max_bytes <= 0:
            raise ValueError("max_bytes must be positive")
        if not self._is_ready:
            await self._receive_ready()
        self._lock_receive()
        try:
            if self._held:
                await self._driver.waits.checkpoint()
                return self._take(max_bytes)
            return await self._receive_some(max_bytes)
        finally:
            self._is_receiving = False

    async def send(
        self, data: Buffer, context: ContentContext | None = None, *, end_of_stream: bool = False
    ) -> None:
        await self._ready_to_send()
        assert self._top is not None
        await self._call(self._top.send, data)
        if end_of_stream or (context is not None and context.is_final):
            await self.send_eof()

    async def _ready_to_send(self) -> None:
        if not self._is_ready:
            await self.ready()

    async def send_many(self, parts: Iterable[Buffer | Packet]) -> int:
        pieces = [part.detach() if isinstance(part, Packet) else part for part in parts]
        await self.send(b"".join(pieces))
        return len(pieces)

    def try_send(self, data: Buffer) -> int:
        if not self._is_ready:
            if self._state in TERMINAL:
                self._check_alive()
            return 0
        try_send = getattr(self._top, "try_send", None)
        return 0 if try_send is None else int(try_send(data))

    async def wait_send_capacity(self, count: int = 1) -> None:
        """Wait until try_send() would take something."""
        await self._ready_to_send()
        wait = getattr(self._top, "wait_send_capacity", None)
        if wait is None:
            await self._driver.waits.checkpoint()
        else:
            await self._call(wait, count)

    async def send_eof(self) -> None:
        await self._ready_to_send()
        assert self._top is not None
        await self._call(self._top.send_eof)

    @property
    def is_readable(self) -> bool:
        """A receive() would not wait, or only for the rest of a record."""
        return bool(self._held) or self._top is None or bool(getattr(self._top, "is_readable", 0))

    @property
    def send_queue(self) -> int:
        """Bytes of the transport that the peer has not acknowledged."""
        return 0 if self._transport is None else self._transport.send_queue


class MessageConnection(_Layered, ObjectStream[Message]):
    """A connection whose top protocol carries messages."""

    _top: Messages | None

    async def _ready_top(self) -> Messages:
        if not self._is_ready:
            await self.ready()
        assert self._top is not None
        return self._top

    async def receive(self) -> Message:
        """The next message."""
        message: Message = await self._call((await self._ready_top()).receive)
        return message

    async def receive_partial(self, at_least: int = 1, at_most: int = 65536) -> Chunk:
        """From *at_least* to *at_most* bytes of one message; fewer at its end."""
        top = await self._ready_top()
        chunk: Chunk = await self._call(top.receive_partial, at_least, at_most)
        return chunk

    async def send(self, item: Message | Buffer, context: ContentContext | None = None) -> None:
        """Send a message: all of it or, cancelled before its turn, nothing."""
        await self._call((await self._ready_top()).send, item, context)

    async def send_partial(
        self, data: Buffer, context: ContentContext = DEFAULT_MESSAGE, *,
        end_of_message: bool = False, type: int | None = None,
    ) -> None:  # fmt: skip
        """Send bytes of the message of *context*; the same object marks the same message."""
        top = await self._ready_top()
        await self._call(top.send_partial, data, context, end_of_message=end_of_message, type=type)

    async def send_many(self, messages: Iterable[Message | Buffer]) -> int:
        """Send messages in one go; how many were sent."""
        count: int = await self._call((await self._ready_top()).send_many, messages)
        return count

    async def send_eof(self) -> None:
        """No more messages will come from here."""
        await self._call((await self._ready_top()).send_eof)

    @property
    def framer(self) -> Any:
        """The top protocol's framer; None before it is READY."""
        return None if self._top is None else self._top.framer
