"""The driver: one small stack per event loop, run by that loop and by nobody else.

Everything on the loop shares one TCP/IP stack (bsdcore, without a thread), one event
queue and one descriptor, watched with one reader. A turn takes packets in, runs
the stack's timers, and wakes the tasks whose sockets have something; it happens when the
descriptor is readable, when the stack's next timer is due, and once per turn of the
event loop after something was sent. There is no lock and no other thread.

Sockets are watched one shot at a time: a task that finds nothing arms its socket and
waits; the event disarms it. So a connection that nobody reads costs nothing.
"""

from __future__ import annotations

import errno
import itertools
import select
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from bsdcore._ffi import ffi, lib
from bsdcore.sockets import adopt, new_handle
from bsdcore.stack import NEVER
from bsdcore.stack import Stack as Core
from xsock.nw._wait import Task, Waits, here

if TYPE_CHECKING:
    from xsock.nw._connection import Connection
    from xsock.nw._listener import Listener

__all__ = ["ERRORS", "READ", "WRITE", "Driver", "Watcher"]

READ: Final = select.POLLIN | select.POLLRDHUP
WRITE: Final = select.POLLOUT
ERRORS: Final = select.POLLERR | select.POLLHUP
EVENTS: Final = 256  # of one call; more stay for the next turn
BUFFER: Final = 65536  # receive() copies through one buffer of this size
DRAIN_POLL: Final = 0.005  # s between looks at what is still unsent
SECOND: Final = 1_000_000_000


class Watcher(Protocol):
    """What an event of a socket goes to."""

    def on_event(self, events: int) -> None:
        """Poll bits that came up; the socket is disarmed."""


class Driver:
    """Runs *core* on the running event loop until close()."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.waits: Waits = here()
        self.turn = 0
        self.is_closed = False
        self.connections: set[Connection] = set()
        self.listeners: set[Listener[Any]] = set()
        self.buffer = ffi.new("char[]", BUFFER)
        self._stack = core.cdata
        out = ffi.new("struct evq **")
        if (error := lib.bsd_evq_new(self._stack, out)) < 0:
            raise OSError(-error, "no event queue")
        self._queue = ffi.gc(out[0], lib.bsd_evq_free)
        self._events = ffi.new("struct bsd_event[]", EVENTS)
        self._watchers: dict[int, Watcher] = {}
        self._ids = itertools.count(1)
        self._is_due = False
        self._call_soon = self.waits.call_soon
        self.waits.attach(lib.bsd_evq_fd(self._queue), self.pump)

    def remember(self, connection: Connection) -> None:
        """Keep a started connection until its end, whoever else forgets it."""
        self.connections.add(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is over."""
        self.connections.discard(connection)

    async def drain(self) -> None:
        """Run until all that was sent is acknowledged."""
        while lib.bsd_drain(self._stack, 0) > 0:
            await anyio.sleep(DRAIN_POLL)

    def close(self) -> None:
        """Stop running the stack."""
        if not self.is_closed:
            self.is_closed = True
            self.waits.detach()
            self._watchers.clear()
            self._queue = None

    # ---- turns ----

    def soon(self) -> None:
        """Make a turn in the next iteration of the event loop."""
        if not self._is_due:
            self._is_due = True
            self._call_soon(self.pump)

    def pump(self) -> None:
        """One turn: packets, timers, events."""
        self._is_due = False
        if self.is_closed:
            return
        self.turn += 1
        stack, events, watchers = self._stack, self._events, self._watchers
        more = lib.bsd_run(stack, 0) > 0
        got = lib.bsd_evq_wait(self._queue, events, EVENTS, 0)
        for i in range(got):
            event = events[i]
            watcher = watchers.get(event.data)
            if watcher is not None:
                watcher.on_event(event.events)
        if more or got == EVENTS:
            self.soon()
        at = lib.bsd_poll_at(stack)
        if at != NEVER:
            self.waits.wake_at(at / SECOND + self._clock_offset())

    def _clock_offset(self) -> float:
        """What to add to the stack's time, in seconds, for the loop's."""
        return self.waits.time() - lib.bsd_now(self._stack) / SECOND

    def spawn(self, fn: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        """Run *fn*, which does not raise, in a task of the driver."""
        return self.waits.spawn(fn, name)

    # ---- sockets ----

    def watch(self, watcher: Watcher) -> int:
        """The number under which the events of a socket reach *watcher*."""
        number = next(self._ids)
        self._watchers[number] = watcher
        return number

    def unwatch(self, number: int) -> None:
        """No more events for *number*."""
        self._watchers.pop(number, None)

    def arm(self, handle: Any, events: int, number: int) -> None:
        """Tell the watcher *number*, once, when any of *events* comes up on *handle*."""
        lib.bsd_evq_ctl(self._queue, handle, events, number)

    def disarm(self, handle: Any) -> None:
        """Tell nothing about *handle*."""
        lib.bsd_evq_ctl(self._queue, handle, 0, 0)

    def socket(self, family: int, kind: int, protocol: int = 0) -> Any:
        """A new socket handle."""
        if self.is_closed:
            raise OSError(errno.ESHUTDOWN, "the stack is closed")
        return new_handle(self._stack, family, kind, protocol)

    def accept(self, handle: Any) -> tuple[Any, Any] | None:
        """A connection that waits at a listener and its ``struct bsd_addr``, or None."""
        out, peer = ffi.new("struct socket **"), ffi.new("struct bsd_addr *")
        result = lib.bsd_accept(handle, 0, out, peer)
        if result == -errno.EAGAIN:
            return None
        if result < 0:
            raise OSError(-result, "accept")
        return adopt(out[0]), peer
