"""The driver: one small stack per event loop, run by that loop and by nobody else.

Everything on the loop shares one TCP/IP stack (bsdcore, without a thread) and one
descriptor, watched with one reader. A turn submits what was sent, takes packets in,
runs the stack's timers, and wakes the tasks whose sockets have something; it is one call
of C, and happens when the descriptor is readable, when the stack's next timer is due,
and once per iteration of the event loop after something was sent. There is no lock and no
other thread, and a connection on which nothing happens costs nothing.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from bsdcore._ffi import check, ffi, lib
from bsdcore.loop import LoopStack
from bsdcore.sockets import adopt, new_handle
from bsdcore.stack import NEVER
from bsdcore.stack import Stack as Core
from xsock.nw._wait import Task, Waits, here

if TYPE_CHECKING:
    from xsock._host import Host
    from xsock.nw._connection import Connection
    from xsock.nw._datagram import DatagramSocket
    from xsock.nw._listener import Listener

__all__ = ["ENDED", "READ", "WRITE", "Driver", "Watcher"]

READ: Final = select.POLLIN
WRITE: Final = select.POLLOUT
ENDED: Final = select.POLLERR | select.POLLHUP | select.POLLRDHUP
BUFFER: Final = 65536  # receive() copies through one buffer of this size
DRAIN_POLL: Final = 0.005  # s between looks at what is still unsent
SECOND: Final = 1_000_000_000


class Watcher(Protocol):
    """What the events of a socket go to."""

    def on_event(self, events: int, data: bytes, left: int, error: int) -> None:
        """Poll bits that hold, what was received of what was wished for, bytes left, errno."""


class Driver:
    """Runs *core* on the running event loop until close().

    *fd* is its doorbell where it has one, and *refresh* is called when that rang. *host* is
    the process's, if the stack stands beside one.
    """

    def __init__(
        self, core: Core, fd: int | None = None, refresh: Callable[[], None] | None = None,
        host: Host | None = None,
    ) -> None:  # fmt: skip
        self.core = core
        self._host = host
        self.waits: Waits = here()
        self.turn = 0
        self.is_closed = False
        self.is_due = False
        self.connections: set[Connection] = set()
        self.listeners: set[Listener[Any]] = set()
        self.datagram_sockets: set[DatagramSocket] = set()
        self.buffer = ffi.new("char[]", BUFFER)
        self._stack = core.cdata
        self.loop = LoopStack(core)
        self._watchers: list[Watcher | None] = []
        self._call_soon = self.waits.call_soon
        self._doorbell = fd
        self._refresh = refresh
        self.waits.attach(fd, self.pump if fd is None else self._rung)

    def remember(self, connection: Connection) -> None:
        """Keep a started connection until its end, whoever else forgets it."""
        self.connections.add(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is over."""
        self.connections.discard(connection)

    async def drain(self) -> None:
        """Run until all that was sent is acknowledged."""
        self.pump()
        while lib.bsd_drain(self._stack, 0) > 0:
            await anyio.sleep(DRAIN_POLL)

    def core_memory(self) -> dict[str, int]:
        """What the stack's sockets and packets hold: counts, and bytes."""
        out = ffi.new("struct bsd_memstat *")
        lib.bsd_memstat(self._stack, out)
        return {name: int(getattr(out, name)) for name, _ in ffi.typeof(out[0]).fields}

    def close(self) -> None:
        """Stop running the stack."""
        if not self.is_closed:
            self.is_closed = True
            self.waits.detach()
            self._watchers.clear()
            self.loop.close()

    # ---- turns ----

    def soon(self) -> None:
        """Make a turn in the next iteration of the event loop."""
        if not self.is_due:
            self.is_due = True
            self._call_soon(self.pump)

    def _rung(self) -> None:
        """The doorbell, or the time for a timer."""
        assert self._doorbell is not None
        with suppress(BlockingIOError):
            os.eventfd_read(self._doorbell)
        if self._refresh is not None and not self.is_closed:
            self._refresh()
        self.pump()

    def pump(self) -> None:
        """One turn: what was sent, packets, timers, events."""
        self.is_due = False
        if self.is_closed:
            return
        self.turn += 1
        watchers, loop = self._watchers, self.loop
        buffer = loop.buffer
        for slot, events, start, length, left, error in loop.turn():
            watcher = watchers[slot]
            if watcher is not None:
                data = buffer[start : start + length] if length else b""
                watcher.on_event(events, data, left, error)
        at = loop.poll_at()
        if at != NEVER:
            now = loop.now()
            if at <= now:
                self.soon()
            else:
                self.waits.wake_at(self.waits.time() + (at - now) / SECOND)

    def spawn(self, fn: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        """Run *fn*, which does not raise, in a task of the driver."""
        return self.waits.spawn(fn, name)

    # ---- sockets ----

    def watch(self, handle: Any, watcher: Watcher) -> int:
        """Tell *watcher* what happens to a socket; answers its slot."""
        slot = self.loop.add(handle)
        while slot >= len(self._watchers):
            self._watchers.append(None)
        self._watchers[slot] = watcher
        return slot

    def unwatch(self, slot: int) -> None:
        """No more events for *slot*."""
        if not self.is_closed and self._watchers[slot] is not None:
            self._watchers[slot] = None
            self.loop.remove(slot)

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
        check(result)
        return adopt(out[0]), peer

    # ---- the loopback rule of the process, where there is one (see Host) ----

    def redirect(self, kind: int, addr: Any) -> Any:
        """Where a socket of *kind* has to go for a ``struct bsd_addr``."""
        return addr if self._host is None else self._host.redirect(kind, addr)

    def claim(self, kind: int, handle: Any) -> tuple[int, int] | None:
        """A bound socket serves its port; give the answer to unclaim()."""
        return None if self._host is None else self._host.claim(kind, handle)

    def unclaim(self, claim: tuple[int, int] | None) -> None:
        """The socket is gone."""
        if self._host is not None and claim is not None:
            self._host.release(claim)
