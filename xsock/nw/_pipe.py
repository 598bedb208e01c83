"""Carries bytes between a stream and a framer: the only part of framing that waits.

Nothing here runs by itself. Input is read when somebody waits for a message, so what is
held is one read and what the framer has of it; output goes down while its sender waits.
A framer's timers and call_soon() functions run while somebody receives, or with the next
operation, except that a function runs at once if nobody is receiving.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import anyio.abc
import sniffio

from xsock.nw._content import Message
from xsock.nw._errors import Category, HandshakeError
from xsock.nw._framer import Framer, FramerControl
from xsock.nw._outbox import Buffer, Outbox

__all__ = ["READ", "FramedStream", "Pipe"]

READ: Final = 64 * 1024


class Pipe:
    """One framer over one byte stream. At most one task in fill(), any number in push()."""

    def __init__(self, stream: anyio.abc.ByteStream, framer: Framer, **known: Any) -> None:
        extra = stream.extra
        for name in ("remote", "local"):
            key = getattr(anyio.abc.SocketAttribute, f"{name}_address")
            known.setdefault(name, extra(key, None))
        self.stream = stream
        self.ctl = FramerControl(framer, **known)
        self._outbox = Outbox(stream)
        self._has_begun = False
        self._deadline = math.inf
        self._scope: anyio.CancelScope | None = None
        self._in_loop: Callable[[Callable[[], None]], object] | None = None

    @property
    def is_broken(self) -> bool:
        """Something committed did not get out, and nothing will."""
        return self._outbox.error is not None or self.ctl.error is not None

    @property
    def has_output(self) -> bool:
        """Something committed is not below yet, or never will be."""
        outbox = self._outbox
        return bool(outbox.size or outbox.is_flushing or self.ctl.written) or self.is_broken

    # ---- life ----

    async def ready(self) -> None:
        """Until the framer's handshake is over."""
        ctl = self.ctl
        if not self._has_begun:
            self._has_begun = True
            if not ctl.framer.is_pure:
                self._listen()
            ctl.begin()
            await self.push()
        while not ctl.is_ready:
            self._check_handshake()
            await self.fill()
        self._check_handshake()

    def _check_handshake(self) -> None:
        ctl = self.ctl
        if ctl.error is not None or (ctl.at_eof and not ctl.is_ready):
            why = ctl.error or "the peer ended"
            raise HandshakeError(
                message=f"{ctl.framer.label}: {why}", domain="nw", category=Category.SPEC_VIOLATION
            ) from ctl.error

    def _listen(self) -> None:
        """Hear of call_soon() from anywhere."""
        if sniffio.current_async_library() == "trio":
            import trio

            self._in_loop = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            self._in_loop = asyncio.get_running_loop().call_soon_threadsafe
        self.ctl.on_call_soon = self._called

    def _called(self) -> None:
        if self._in_loop is not None:
            self._in_loop(self._poke)

    def _poke(self) -> None:
        if self._scope is not None:
            self._scope.cancel()  # fill() goes on, there
        else:
            self.ctl.run_soon()
            self._collect()
            self._outbox.flush_nowait()

    async def aclose(self) -> None:
        """Last words, then the stream below; cancelled, without them."""
        ctl = self.ctl
        try:
            if self._has_begun and self._outbox.error is None:
                is_over = ctl.finish()
                await self.push()
                while not is_over and ctl.error is None and not ctl.at_eof:
                    await self.fill()
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            self._outbox.forget()
        finally:
            ctl.on_call_soon = None
            ctl.close()
            await self.stream.aclose()

    # ---- out ----

    def _collect(self) -> None:
        """What the framer has written, and asked to be woken for."""
        ctl = self.ctl
        if ctl.written:
            for data in ctl.written:
                self._outbox.put(data)
            ctl.written.clear()
        if ctl.wakeup_delay is not None:
            delay, ctl.wakeup_delay = ctl.wakeup_delay, None
            self._deadline = math.inf if delay < 0 else anyio.current_time() + delay
        if ctl.delivered and self._scope is not None:
            self._scope.cancel()

    def commit(self, message: Message, data: Buffer, is_complete: bool) -> None:
        """Frame *data*; it goes out with the next push(). Raises if nothing of it was taken."""
        self.ctl.feed_output(message, data, is_complete)
        self._collect()

    async def push(self) -> None:
        """Until what is committed is below."""
        self._collect()
        if self._outbox.size:
            await self._outbox.flush()

    async def wait_room(self) -> None:
        """Until the stream below would take something, as far as it can tell."""
        while getattr(self.stream, "is_writable", True) is False:
            await self.stream.wait_send_capacity()  # type: ignore[attr-defined]

    # ---- in ----

    async def fill(self) -> None:
        """Until there was input, its end, or something else that the framer had to see."""
        ctl = self.ctl
        try:
            if ctl.framer.is_pure:
                ctl.feed_input(await self.stream.receive(READ))
            else:
                await self._fill_or_wake()
        except anyio.EndOfStream:
            ctl.feed_eof()
        if ctl.written or ctl.wakeup_delay is not None:
            await self.push()

    async def _fill_or_wake(self) -> None:
        ctl = self.ctl
        self._collect()
        data = b""
        with anyio.CancelScope(deadline=self._deadline) as scope:
            self._scope = scope
            try:
                data = await self.stream.receive(READ)
            finally:
                self._scope = None
        ctl.run_soon()
        if data:
            ctl.feed_input(data)
        if anyio.current_time() >= self._deadline:
            self._deadline = math.inf
            ctl.feed_wakeup()


class FramedStream(anyio.abc.ByteStream):
    """What stands on a framer that is not the top: its messages' bytes, without boundaries."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._left: Buffer = b""
        self._reading = anyio.ResourceGuard("reading from")
        self._writing = anyio.ResourceGuard("writing to")

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if max_bytes < 1:
            raise ValueError("max_bytes must be a positive integer")
        with self._reading:
            ctl = self._pipe.ctl
            waited = False
            while not self._left:
                if ctl.delivered:
                    self._left = ctl.delivered.popleft().data
                    continue
                ctl.check()
                if ctl.at_eof:
                    raise anyio.EndOfStream
                waited = True
                await self._pipe.fill()
            if not waited:
                await anyio.lowlevel.checkpoint()
            data = self._left
            if len(data) <= max_bytes:
                self._left = b""
                return bytes(data)
            view = memoryview(data)
            self._left = view[max_bytes:]
            return bytes(view[:max_bytes])

    async def send(self, item: Buffer) -> None:
        with self._writing:
            await anyio.lowlevel.checkpoint_if_cancelled()
            with memoryview(item) as view:
                for at in range(0, len(view), READ):
                    self._pipe.ctl.check()
                    self._pipe.commit(Message(), view[at : at + READ], True)
                    await self._pipe.push()

    async def send_eof(self) -> None:
        with self._writing:
            await self._pipe.push()
            await self._pipe.stream.send_eof()

    async def aclose(self) -> None:
        await self._pipe.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._pipe.stream.extra_attributes
