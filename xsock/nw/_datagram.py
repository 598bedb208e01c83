"""Datagrams: connections to one peer, and sockets with many.

A batch is received in one call into one slab of memory and lent; receive() hands out copies
one by one. What cannot be queued is dropped and counted, unless the parameters say
``overflow="block"``.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from anyio.abc import AsyncResource, UnreliableObjectStream

from bsdcore._ffi import lib
from xsock.nw._connection import Connection, State
from xsock.nw._content import Message
from xsock.nw._endpoint import AF_INET6, Endpoint
from xsock.nw._errors import MessageTooLarge, NetworkError, failed
from xsock.nw._loop import ENDED, READ
from xsock.nw._packet import DatagramBatch
from xsock.nw._sockets import (
    SO_REUSEADDR,
    SOL_SOCKET,
    address_of,
    close,
    configure,
    name_of,
    set_int,
    socket_attributes,
)
from xsock.nw._tag import Tag
from xsock.nw._voucher import ServiceClass, Voucher, current_adopted
from xsock.nw._wait import TURN_OPS

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

    from xsock.nw._build import Build
    from xsock.nw._context import ContentContext
    from xsock.nw._loop import Driver
    from xsock.nw._parameters import Parameters
    from xsock.nw._wait import Waiter

__all__ = ["DatagramConnection", "DatagramSocket"]

SOCK_DGRAM: Final = 2
MAX_UDP: Final = 65507  # bytes of a datagram over IPv4, RFC 768
ROOM_POLL: Final = 0.001  # s before a blocked datagram is tried again
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
_ADDR: Final = struct.Struct("=HHII16s")  # struct bsd_addr


@lru_cache(maxsize=1024)
def _sender(packed: bytes) -> Endpoint:
    import socket

    family, port, _flow, _scope, raw = _ADDR.unpack(packed)
    host = socket.inet_ntop(family, raw if family == AF_INET6 else raw[:4])
    return Endpoint.address(host, port)


class _Plug:
    """A datagram socket on the driver: waiting, receiving in batches, sending in batches.

    *tag* was begun with the socket. A datagram's packet is made in the call that sends it,
    so a change of the tag has nothing to flush.
    """

    def __init__(self, driver: Driver, handle: Any, overflow: str, tag: Tag) -> None:
        self.driver = driver
        self.handle = handle
        self.tag = tag
        self.overflow = overflow
        self.dropped = 0
        self.slot = driver.watch(handle, self)
        self.pending: deque[tuple[bytes, Endpoint]] = deque()
        self._waiter: Waiter | None = None
        self._may_receive = True
        self._ops = 0

    def on_event(self, events: int, data: bytes, left: int, error: int) -> None:
        """From the driver."""
        if events & (READ | ENDED):
            self._may_receive = True
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def close(self) -> None:
        """Let the socket go, and wake who waits for it."""
        handle, self.handle = self.handle, None
        if handle is None:
            return
        self.driver.unwatch(self.slot)
        close(handle)
        self.pending.clear()
        self.driver.soon()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- in ----

    def receive_now(self) -> DatagramBatch | None:
        """What is there, or None."""
        if self.handle is None:
            raise anyio.ClosedResourceError
        try:
            return DatagramBatch(self.driver.loop.receive_batch(self.handle), _sender)
        except BlockingIOError:
            self._may_receive = False
            return None
        except OSError as why:
            raise failed(why.errno or 0) from why

    async def receive(self) -> DatagramBatch:
        """At least one datagram."""
        if self._waiter is not None:
            raise anyio.BusyResourceError("receiving from")
        if self._may_receive:
            self._ops += 1
            if not self._ops % TURN_OPS or self.driver.waits.is_cancelled():
                await self.driver.waits.checkpoint()
            if (batch := self.receive_now()) is not None:
                return batch
        while True:
            self._waiter = waiter = self.driver.waits.future()
            try:
                await waiter
            finally:
                self._waiter = None
            if (batch := self.receive_now()) is not None:
                return batch

    async def receive_one(self) -> tuple[bytes, Endpoint]:
        """One datagram, copied, and who sent it."""
        pending = self.pending
        if pending:
            self._ops += 1
            if not self._ops % TURN_OPS or self.driver.waits.is_cancelled():
                await self.driver.waits.checkpoint()
        while not pending:
            with await self.receive() as batch:
                pending.extend(zip(batch.copies(), batch.remotes, strict=True))
        return pending.popleft()

    # ---- out ----

    def send_now(
        self,
        parts: Sequence[Any],
        to: Any,
        held: Voucher | None,
        context: ContentContext | None = None,
    ) -> int:
        """Queue datagrams under the voucher *held*; how many were taken."""
        if self.handle is None:
            raise anyio.ClosedResourceError
        tag = self.tag
        if held is not tag.voucher or context is not tag.context:
            tag.change(self.handle, held, context)
        try:
            sent = self.driver.loop.send_batch(self.handle, parts, to)
        except OSError as why:
            if why.errno in _FULL:
                return 0
            if why.errno == errno.EMSGSIZE:
                raise MessageTooLarge from why
            raise failed(why.errno or 0) from why
        self.driver.soon()
        return sent

    async def send(
        self, parts: Sequence[Any], to: Any, context: ContentContext | None = None
    ) -> int:
        """Queue datagrams; those without room wait, or are dropped and counted.

        All go under the voucher that is adopted here and now.
        """
        held = current_adopted()
        self._ops += 1
        if not self._ops % TURN_OPS or self.driver.waits.is_cancelled():
            await self.driver.waits.checkpoint()
        sent = self.send_now(parts, to, held, context)
        while sent < len(parts):
            if self.overflow != "block":
                self.dropped += len(parts) - sent
                break
            await anyio.sleep(ROOM_POLL)
            sent += self.send_now(parts[sent:], to, held, context)
        return sent


class DatagramConnection(Connection, UnreliableObjectStream[Message]):
    """Datagrams to and from one peer."""

    _plug: _Plug | None = None

    async def _establish(self) -> None:
        handle, _options = await self._build.dial(self)
        self._plug = _Plug(self._driver, handle, self.parameters.overflow, self._tag)

    def _release(self, error: NetworkError | None = None) -> None:
        if self._plug is not None:
            self._plug.close()

    async def _close(self) -> None:
        self.abort()

    async def _ready_plug(self) -> _Plug:
        if not self._is_ready:
            await self.ready()
        assert self._plug is not None
        return self._plug

    maximum_datagram_size: int | None = MAX_UDP

    @property
    def dropped(self) -> int:
        """Datagrams that were not sent because there was no room."""
        return 0 if self._plug is None else self._plug.dropped

    async def receive(self) -> Message:
        """The next datagram."""
        data, _sender = await (await self._ready_plug()).receive_one()
        return Message(data)

    async def receive_batch(self, max_count: int = 64) -> DatagramBatch:
        """The datagrams that are there, at least one, in place: use the answer in ``with``.

        How many come at once is up to the stack; *max_count* is a hint.
        """
        plug = self._plug
        if plug is None or not self._is_ready:
            plug = await self._ready_plug()
        return await plug.receive()

    def try_receive_batch(self, max_count: int = 64) -> DatagramBatch | None:
        """As receive_batch(), or None if nothing is there."""
        return None if self._plug is None else self._plug.receive_now()

    async def send(self, item: Message | Buffer) -> None:
        """Send one datagram; MessageTooLarge if it does not fit."""
        plug = await self._ready_plug()
        if isinstance(item, Message):
            await plug.send((item.content,), None, item.context)
        else:
            await plug.send((item,), None)

    async def send_many(self, items: Sequence[Buffer]) -> int:
        """Send datagrams in one call; how many were taken."""
        plug = self._plug
        if plug is None or not self._is_ready:
            plug = await self._ready_plug()
        return await plug.send(items, None)

    def _forward_datagrams(self, views: Sequence[memoryview]) -> int:
        if self._plug is None:
            self._check_alive()
            return 0
        return self._plug.send_now(views, None, current_adopted())

    def set_service_class(self, service_class: ServiceClass | None) -> None:
        self._tag.choose(None if self._plug is None else self._plug.handle, service_class)

    @property
    def local(self) -> Endpoint | None:
        """The near address; None without a connection."""
        return None if self._plug is None else name_of(self._plug.handle, lib.bsd_getsockname)

    @property
    def remote(self) -> Endpoint | None:
        """The far address; None without a connection."""
        return None if self._plug is None else name_of(self._plug.handle, lib.bsd_getpeername)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return socket_attributes(self.local, self.remote)


class DatagramSocket(AsyncResource):
    """Datagrams to and from anybody. Bound once ``async with`` was entered.

    Receiving and sending are for one task each.
    """

    def __init__(self, driver: Driver, local: Endpoint, build: Build) -> None:
        self.state = State.SETUP
        self.local = local
        self._driver = driver
        self._build = build
        self._plug: _Plug | None = None
        self._addresses: dict[Endpoint, Any] = {}
        self._claim: Any = None

    @property
    def parameters(self) -> Parameters:
        """What it was made with."""
        return self._build.parameters

    def start(self) -> None:
        """Bind; OSError as bind(2) has it."""
        if self.state is not State.SETUP:
            return
        where = address_of(self.local)
        handle = self._driver.socket(where.family, SOCK_DGRAM)
        configure(handle, where.family, self._build.options, self.parameters)
        if self.parameters.reuse_local:
            set_int(handle, SOL_SOCKET, SO_REUSEADDR, 1)
        if (result := lib.bsd_bind(handle, where)) < 0:
            self.state = State.FAILED
            raise NetworkError(-result, endpoint=self.local)
        self.local = name_of(handle, lib.bsd_getsockname) or self.local
        tag = Tag(self._build.stack.originators, self.parameters.service_class)
        tag.begin(handle)
        self._plug = _Plug(self._driver, handle, self.parameters.overflow, tag)
        self._driver.datagram_sockets.add(self)
        self._claim = self._driver.claim(SOCK_DGRAM, handle)
        self.state = State.READY

    async def __aenter__(self) -> Self:
        self.start()
        await self._driver.waits.checkpoint()
        return self

    def abort(self) -> None:
        """Close at once."""
        self.state = State.CANCELLED
        self._driver.datagram_sockets.discard(self)
        claim, self._claim = self._claim, None
        self._driver.unclaim(claim)
        if self._plug is not None:
            self._plug.close()

    async def aclose(self) -> None:
        """Close."""
        self.abort()
        await self._driver.waits.checkpoint()

    def _open(self) -> _Plug:
        if self.state is State.SETUP:
            self.start()
        if self._plug is None or self.state is not State.READY:
            raise anyio.ClosedResourceError
        return self._plug

    @property
    def port(self) -> int:
        """The port number; 0 before it is bound."""
        return self.local.port

    @property
    def dropped(self) -> int:
        """Datagrams that were not sent because there was no room."""
        return 0 if self._plug is None else self._plug.dropped

    async def receive(self) -> tuple[bytes, Endpoint]:
        """The next datagram and who sent it."""
        return await self._open().receive_one()

    async def receive_batch(self, max_count: int = 64) -> DatagramBatch:
        """The datagrams that are there, at least one, in place: use the answer in ``with``."""
        return await self._open().receive()

    def try_receive_batch(self, max_count: int = 64) -> DatagramBatch | None:
        """As receive_batch(), or None if nothing is there."""
        return self._open().receive_now()

    async def send(self, data: Buffer, to: Endpoint) -> None:
        """Send one datagram."""
        await self._open().send((data,), self._address(to))

    async def send_many(self, items: Iterable[tuple[Buffer, Endpoint]]) -> int:
        """Send datagrams, those in a row to one peer in one call; how many were taken."""
        plug, taken = self._open(), 0
        run: list[Any] = []
        last: Endpoint | None = None
        for data, to in items:
            if last is not None and to is not last and to != last:
                taken += await plug.send(run, self._address(last))
                run = []
            run.append(data)
            last = to
        if last is not None:
            taken += await plug.send(run, self._address(last))
        return taken

    def _address(self, to: Endpoint) -> Any:
        known = self._addresses.get(to)
        if known is None:
            if len(self._addresses) >= 1024:
                self._addresses.clear()
            known = self._addresses[to] = self._driver.redirect(SOCK_DGRAM, address_of(to))
        return known

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return socket_attributes(self.local, None)
