"""A trio stream over any byte stream: ``trio.SSLStream(stream(conn), context)`` and the like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import trio
from anyio.abc import ByteStream

__all__ = ["NWStream", "stream"]

RECEIVE: Final = 65536  # bytes at most, where the caller leaves it open


@contextmanager
def _as_trio() -> Iterator[None]:
    """anyio's exceptions become trio's, with the OSError, if there was one, as the cause."""
    try:
        yield
    except anyio.ClosedResourceError as error:
        raise trio.ClosedResourceError(*error.args) from error
    except anyio.BusyResourceError as error:
        raise trio.BusyResourceError(*error.args) from error
    except anyio.BrokenResourceError as error:
        raise trio.BrokenResourceError(str(error)) from error


class NWStream(trio.abc.HalfCloseableStream):
    """*below* as trio wants a stream; it belongs to this from now on."""

    def __init__(self, below: ByteStream) -> None:
        self.below = below
        self._is_sending = False
        self._has_sent_eof = False
        self._is_closed = False

    def _begin_send(self) -> None:
        if self._is_closed or self._has_sent_eof:
            raise trio.ClosedResourceError("this stream sends no more")
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of *data*. Cancelled, some of it may have gone, and the stream is of no use."""
        self._begin_send()
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            with _as_trio():
                self._check()
                if len(data):
                    await self.below.send(data)  # type: ignore[arg-type] # takes any buffer
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        """Until a send has a chance to be taken at once."""
        self._begin_send()
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            wait: Any = getattr(self.below, "wait_send_capacity", None)
            with _as_trio():
                self._check()
                if wait is not None:
                    await wait(1)
                    self._check()
        finally:
            self._is_sending = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Some bytes; b"" at the end."""
        if max_bytes is not None:
            if not isinstance(max_bytes, int):
                raise TypeError(f"max_bytes: an integer is wanted, not {max_bytes!r}")
            if max_bytes < 1:
                raise ValueError("max_bytes must be at least 1")
        await trio.lowlevel.checkpoint()
        with _as_trio():
            self._check()
            try:
                return await self.below.receive(RECEIVE if max_bytes is None else max_bytes)
            except anyio.EndOfStream:
                return b""

    def _check(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this stream is closed")

    async def send_eof(self) -> None:
        """Send no more; receiving goes on."""
        if self._is_closed:
            raise trio.ClosedResourceError("this stream is closed")
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        if self._has_sent_eof:
            await trio.lowlevel.checkpoint()
            return
        self._has_sent_eof = True
        await trio.lowlevel.checkpoint()
        with _as_trio():
            await self.below.send_eof()

    async def aclose(self) -> None:
        """Close; cancelled, at once."""
        self._is_closed = True
        with _as_trio():
            await self.below.aclose()
        await trio.lowlevel.checkpoint()


def stream(conn: ByteStream) -> NWStream:
    """*conn* as a trio stream."""
    return NWStream(conn)
