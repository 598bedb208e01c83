"""Listeners: connections that come in, as an iterator or each with a task of its own."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, TypeVar

import anyio
from anyio import TypedAttributeProvider
from anyio.abc import AsyncResource, TaskGroup, TaskStatus

from bsdcore._ffi import ffi, lib
from xsock.nw._connection import Connection, State
from xsock.nw._errors import NetworkError
from xsock.nw._sockets import address_of, endpoint_of, socket_attributes
from xsock.nw._voucher import adoption

if TYPE_CHECKING:
    from xsock.nw._endpoint import Endpoint
    from xsock.nw._loop import Driver
    from xsock.nw._wait import Waiter

__all__ = ["Listener"]

C = TypeVar("C", bound=Connection)
SOCK_STREAM: Final = 1
_log: Final = logging.getLogger("xsock.nw")


class Listener(AsyncResource, TypedAttributeProvider, Generic[C]):
    """Takes connections in. Bound, and its port known, once ``async with`` was entered.

    *prepare* sets a socket of a family up before it listens; what it sets is inherited by
    the connections. *make* turns an accepted socket and its peer's address into one.
    """

    def __init__(
        self, driver: Driver, local: Endpoint, backlog: int,
        prepare: Callable[[Any, int], None], make: Callable[[Any, Endpoint], C],
    ) -> None:  # fmt: skip
        self.state = State.SETUP
        self._driver = driver
        self._wanted = local
        self._backlog = backlog
        self._prepare = prepare
        self._make = make
        self._so: Any = None
        self._slot = -1
        self._claim: Any = None
        self._waiter: Waiter | None = None
        self._vacancy: Waiter | None = None
        self.local = local

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.value} on {self.local}>"

    def start(self) -> None:
        """Bind and listen; OSError as bind(2) has it."""
        if self.state is not State.SETUP:
            return
        where = address_of(self._wanted)
        handle = self._driver.socket(where.family, SOCK_STREAM)
        self._prepare(handle, where.family)
        for result in (
            lib.bsd_bind(handle, where),
            lib.bsd_listen(handle, self._backlog),
            lib.bsd_getsockname(handle, where),
        ):
            if result < 0:
                self.state = State.FAILED
                raise NetworkError(-result, endpoint=self._wanted)
        self._so, self.local = handle, endpoint_of(where)
        self._slot = self._driver.watch(handle, self)
        self._driver.listeners.add(self)
        self._claim = self._driver.claim(SOCK_STREAM, handle)
        self.state = State.READY

    async def __aenter__(self) -> Self:
        self.start()
        await self._driver.waits.checkpoint()
        return self

    def abort(self) -> None:
        """Stop listening at once; connections that nobody took are reset."""
        if self.state is not State.READY:
            self.state = State.CANCELLED
            return
        self.state = State.CANCELLED
        handle, self._so = self._so, None
        self._driver.unclaim(self._claim)
        self._driver.unwatch(self._slot)
        self._driver.listeners.discard(self)
        ffi.gc(handle, None)
        lib.bsd_close(handle)
        self._driver.soon()
        self._wake()

    async def aclose(self) -> None:
        """Stop listening."""
        self.abort()
        await self._driver.waits.checkpoint()

    # ---- what it is bound to ----

    @property
    def port(self) -> int:
        """The port number; 0 before the listener is bound."""
        return self.local.port

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The addresses it is bound to."""
        return (self.local,)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return socket_attributes(self.local, None)

    # ---- accepting ----

    def on_event(self, events: int, data: bytes, left: int, error: int) -> None:
        """From the driver: a connection waits."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def accept(self) -> C:
        """The next connection; ClosedResourceError once the listener is closed."""
        if self._waiter is not None:
            raise anyio.BusyResourceError("accepting from")
        if self.state is State.SETUP:
            self.start()
        await self._driver.waits.checkpoint()
        while True:
            if self._so is None:
                raise anyio.ClosedResourceError
            try:
                taken = self._driver.accept(self._so)
            except OSError as why:
                if why.errno == errno.ECONNABORTED:
                    continue
                raise NetworkError(why.errno or 0) from why
            if taken is not None:
                handle, peer = taken
                return self._make(handle, endpoint_of(peer))
            self._waiter = waiter = self._driver.waits.future()
            try:
                await waiter
            finally:
                self._waiter = None

    def __aiter__(self) -> AsyncIterator[C]:
        return self

    async def __anext__(self) -> C:
        try:
            return await self.accept()
        except anyio.ClosedResourceError:
            raise StopAsyncIteration from None

    # ---- serving ----

    async def run(
        self,
        handler: Callable[[C], Coroutine[Any, Any, Any]],
        *,
        concurrency: int | None = None,
        per_peer: int | None = None,
        credit: int | None = None,
        adopt: Literal["connection"] | None = "connection",
        on_error: Literal["log", "raise"] = "log",
        task_group: TaskGroup | None = None,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run *handler* in a task for every connection, and close it when the handler returns.

        *concurrency*: so many handlers at a time; accepting pauses meanwhile. *per_peer*:
        so many at a time of one address; more are reset. *credit*: take so many in all, then
        return once they are served. A handler that raises aborts its connection; the exception is
        logged, or with ``on_error="raise"`` ends the run. *adopt*: a handler runs under the voucher
        that came with its connection's handshake: background stays background, the
        originator is charged if it is in this process, and no class is raised, whatever the
        packets say. None: under the one that run() does. Returns when the listener is closed.
        """
        if adopt not in ("connection", None):
            raise ValueError(
                f"adopt: 'connection' or None is allowed, not {adopt!r}; what single packets "
                "came under is not kept"
            )
        self.start()
        task_status.started()
        peers: Counter[str] = Counter()
        running = 0

        async def serve(conn: C, peer: str) -> None:
            nonlocal running
            if adopt is not None:
                # Of this task alone, so nobody has to leave it.
                adoption.set(None)
                if conn._came_under is not None:
                    conn._came_under.adopt().__enter__()
            try:
                async with conn:
                    await handler(conn)
            except Exception as why:
                if on_error == "raise":
                    raise
                _log.error("a handler of %r failed", self, exc_info=why)
            finally:
                running -= 1
                peers[peer] -= 1
                if not peers[peer]:
                    del peers[peer]
                if self._vacancy is not None and not self._vacancy.done():
                    self._vacancy.set_result(None)

        async def loop(group: TaskGroup) -> None:
            nonlocal running, credit
            while credit is None or credit > 0:
                while concurrency is not None and running >= concurrency:
                    await self._wait_vacancy()
                try:
                    conn = await self.accept()
                except anyio.ClosedResourceError:
                    return
                peer = conn.endpoint.name
                if per_peer is not None and peers[peer] >= per_peer:
                    conn.abort()
                    continue
                if credit is not None:
                    credit -= 1
                running += 1
                peers[peer] += 1
                group.start_soon(serve, conn, peer)

        if task_group is not None:
            await loop(task_group)
        else:
            async with anyio.create_task_group() as group:
                await loop(group)

    async def _wait_vacancy(self) -> None:
        self._vacancy = self._driver.waits.future()
        try:
            await self._vacancy
        finally:
            self._vacancy = None

    async def serve(
        self, handler: Callable[[C], Coroutine[Any, Any, Any]], task_group: TaskGroup | None = None
    ) -> None:
        """anyio's Listener.serve: as run(), but the handler closes the connection.

        An exception of a handler goes to the task group.
        """
        self.start()
        if task_group is None:
            async with anyio.create_task_group() as group:
                await self.serve(handler, group)
        else:
            while True:
                task_group.start_soon(handler, await self.accept())
