"""Bytes on their way to a lower stream: in order and whole, whatever is cancelled.

What is put here has been committed: a protocol above has numbered, encrypted or framed it,
and half of it on the wire would spoil all that follows. Over TCP a cancelled flush() leaves
the rest to the stack, beyond the high-water mark. Over another stream with ``try_send``
and ``wait_send_capacity`` (a ByteConnection) it keeps the rest for the next one. Any other
ByteStream does not say how much of a cancelled send it took, so there the
outbox breaks, and every later flush() says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.abc

from xsock.nw._errors import ConnectionBroken

__all__ = ["Buffer", "Outbox"]

Buffer = bytes | bytearray | memoryview

ENOUGH: Final = 32 * 1024  # bytes of room worth waking up for
JOIN_MAX: Final = 64 * 1024  # bytes; one copy of so much costs less than a second trip down


class Outbox:
    """The sending half of *stream*, of which this is the only user."""

    __slots__ = (
        "_flushed",
        "_parts",
        "_send",
        "_submit_rest",
        "_try_send",
        "_wait",
        "error",
        "is_flushing",
        "size",
    )

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._send = stream.send
        self._try_send: Callable[[Any], int] | None = getattr(stream, "try_send", None)
        self._submit_rest: Any = getattr(stream, "submit_rest", None)
        self._wait: Any = getattr(stream, "wait_send_capacity", None)
        self._parts: deque[Buffer] = deque()
        self.is_flushing = False
        self._flushed: anyio.Event | None = None
        self.error: BaseException | None = None
        self.size = 0  # bytes not yet handed down

    def put(self, data: Buffer) -> None:
        """Commit *data*; a bytearray or view must not change until flush() has returned."""
        if len(data):
            self._parts.append(data)
            self.size += len(data)

    def forget(self) -> None:
        """Drop what is left."""
        self._parts.clear()
        self.size = 0

    @property
    def can_try(self) -> bool:
        """A cancelled flush() keeps the rest, and flush_nowait() may do something."""
        return self._try_send is not None

    def flush_nowait(self) -> bool:
        """Hand down what the stream takes without waiting; True if that was all."""
        if self._try_send is None or self.is_flushing or self.error is not None:
            return not self.size and not self.is_flushing
        while self.size:
            data = self._take()
            try:
                sent = self._try_send(data)
            except BaseException as error:
                self.error = error
                self.forget()
                return False
            if sent < len(data):
                rest = bytes(memoryview(data)[sent:])
                self._parts.appendleft(rest)
                self.size += len(rest)
                return False
        return True

    async def flush(self) -> None:
        """Hand everything down; returns when the lower stream has taken it."""
        while self.size:
            if self.is_flushing:
                await self._wait_flushed()
                continue
            if self.error is not None:
                raise ConnectionBroken(message="an earlier send was cut short") from self.error
            self.is_flushing = True
            try:
                if self._try_send is not None:
                    await self._flush_by_parts()
                else:
                    await self._flush_whole()
            finally:
                self.is_flushing = False
                if self._flushed is not None:
                    self._flushed.set()
                    self._flushed = None

    async def _wait_flushed(self) -> None:
        if self._flushed is None:
            self._flushed = anyio.Event()
        await self._flushed.wait()

    def _take(self) -> Buffer:
        parts = self._parts
        if len(parts) == 1 or self.size > JOIN_MAX:
            data = parts.popleft()
        else:
            data = b"".join(parts)
            parts.clear()
        self.size -= len(data)
        return data

    async def _flush_whole(self) -> None:
        data = self._take()
        try:
            # A stream may keep what it is given: only bytes are sure to stay as they are.
            await self._send(data if isinstance(data, bytes) else bytes(data))
        except BaseException as error:
            self.error = error
            self.forget()
            raise

    async def _flush_by_parts(self) -> None:
        assert self._try_send is not None
        data = self._take()
        try:
            while True:
                sent = self._try_send(data)
                if sent == len(data):
                    return
                data = memoryview(data)[sent:]
                await self._wait(min(len(data), ENOUGH))
        except OSError as error:
            self.error = error
            self.forget()
            raise
        except BaseException:
            # Cancelled: the rest, own copies of it, goes out nevertheless.
            rest = b"".join([data, *self._parts])
            self._parts.clear()
            if self._submit_rest is not None:
                self.size = 0
                self._submit_rest(rest)
                raise
            self._parts.append(rest)
            self.size = len(rest)
            raise
