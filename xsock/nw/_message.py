"""Messages over a byte stream: whole or in parts, by priority, each of them or nothing.

Sends of several tasks take turns, the higher priority first and in the order they came
among equals; a message sent in parts keeps its turn to its end. Until a message has its
turn, and over TCP until there is room for some of it, a cancelled or expired send has done
nothing. From then on it is committed: if its sender is cancelled then, Cancelled is raised
and yet all of it is sent. Over TCP the stack takes the rest at once, beyond the high-water
mark; over TLS it goes out with the next operation or aclose(); over a stream that does not
say what it took the connection breaks, since nobody knows what went out.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import anyio
import anyio.abc
import anyio.lowlevel

from xsock.nw._bytes import Chunk
from xsock.nw._content import Message
from xsock.nw._context import DEFAULT_MESSAGE, ContentContext
from xsock.nw._errors import AntecedentFailed, ConnectionBroken, MessageExpired
from xsock.nw._framer import Framer
from xsock.nw._framers import framer_of
from xsock.nw._intake import Assembler
from xsock.nw._options import ProtocolOptions
from xsock.nw._outbox import Buffer
from xsock.nw._pipe import READ, Pipe

__all__ = ["MessageConnection", "frame"]

OUTCOMES_MAX: Final = 1024  # contexts whose end is remembered for those that name them
BATCH: Final = 64 * 1024  # bytes framed before they are sent


class _Turns:
    """Who sends next. Entered before a message, left after it."""

    __slots__ = ("_serial", "_waiting", "is_taken")

    def __init__(self) -> None:
        self.is_taken = False
        self._serial = itertools.count()
        self._waiting: list[tuple[float, int, anyio.Event]] = []

    async def enter(self, priority: float) -> None:
        if not self.is_taken:
            self.is_taken = True
            return
        event = anyio.Event()
        entry = (-priority, next(self._serial), event)
        heapq.heappush(self._waiting, entry)
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.leave()
            else:
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            raise

    def leave(self) -> None:
        if self._waiting:
            heapq.heappop(self._waiting)[2].set()
        else:
            self.is_taken = False


class _Outcomes:
    """How the last messages ended, by the identity of their contexts."""

    __slots__ = ("_ended", "_waiting")

    def __init__(self) -> None:
        self._ended: OrderedDict[int, tuple[ContentContext, bool]] = OrderedDict()
        self._waiting: dict[int, list[anyio.Event]] = {}

    def record(self, context: ContentContext, is_sent: bool) -> None:
        key = id(context)
        self._ended[key] = (context, is_sent)
        self._ended.move_to_end(key)
        if len(self._ended) > OUTCOMES_MAX:
            self._ended.popitem(last=False)
        for event in self._waiting.pop(key, ()):
            event.set()

    def end(self) -> None:
        """No message will be sent any more."""
        for events in self._waiting.values():
            for event in events:
                event.set()
        self._waiting.clear()

    async def wait(self, context: ContentContext) -> None:
        """Until the message of *context* was sent; AntecedentFailed if it was not."""
        key = id(context)
        if key not in self._ended:
            event = anyio.Event()
            waiting = self._waiting.setdefault(key, [])
            waiting.append(event)
            try:
                await event.wait()
            finally:
                if event in waiting:
                    waiting.remove(event)
                if not waiting:
                    self._waiting.pop(key, None)
        if not self._ended.get(key, (None, False))[1]:
            raise AntecedentFailed(message=f"{context.identifier!r} was not sent", domain="nw")


class MessageConnection(anyio.abc.ObjectStream[Message]):
    """Messages that *framer* makes of the bytes of *stream*, which belongs to it from now on."""

    def __init__(self, stream: anyio.abc.ByteStream, framer: Framer, **known: Any) -> None:
        self._pipe = Pipe(stream, framer, **known)
        self._inbox = Assembler(framer.max_size)
        self._reading = anyio.ResourceGuard("receiving from")
        self._turns = _Turns()
        self._outcomes = _Outcomes()
        self._open: ContentContext | None = None  # of the message that is being sent in parts
        self._is_ready = False
        self._is_closed = False
        self._is_final = False
        self._readying: anyio.Lock | None = None
        self._stored: Exception | None = None
        self._encode: Any = None  # the shortcuts for a whole message, if there are any
        self._decode: Any = None
        self._submit: Any = None

    @property
    def framer(self) -> Framer:
        """The top protocol."""
        return self._pipe.ctl.framer

    @property
    def stream(self) -> anyio.abc.ByteStream:
        """What is below."""
        return self._pipe.stream

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._pipe.stream.extra_attributes

    # ---- life ----

    async def ready(self) -> None:
        """Until the framer's handshake is over; HandshakeError if that fails."""
        if self._is_closed:
            raise anyio.ClosedResourceError
        if self._readying is None:
            self._readying = anyio.Lock()
        async with self._readying:
            if not self._is_ready:
                await self._pipe.ready()
                await self._put_above()
                self._is_ready = True
                if self.framer.is_pure:
                    self._decode = self.framer.decode_whole
                    self._submit = getattr(self.stream, "submit_whole", None)
                    self._encode = self.framer.encode_whole if self._submit else None

    async def _put_above(self) -> None:
        """Protocols that the framer asked for come between it and the messages."""
        if not self._pipe.ctl.prepended:
            return
        from xsock.nw._stacking import put_above

        stream = await put_above(self._pipe)
        self._pipe = Pipe(stream, Framer())
        await self._pipe.ready()

    async def aclose(self) -> None:
        """Send what is committed and the framer's last words, and close; cancelled: abort."""
        if self._is_closed:
            return
        self._is_closed = True
        self._outcomes.end()
        await self._pipe.aclose()

    def _check(self) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        self._pipe.ctl.check()

    # ---- in ----

    async def receive(self) -> Message:
        """The next message, or what receive_partial() left of it."""
        if self._decode is not None and (message := await self._receive_whole()) is not None:
            return message
        await self._gather(math.inf)
        return self._inbox.take()

    async def receive_partial(self, at_least: int = 1, at_most: int = 65536) -> Chunk:
        """From *at_least* to *at_most* bytes of one message; fewer at its end."""
        if not 0 < at_least <= at_most:
            raise ValueError(f"0 < at_least <= at_most, not {at_least} and {at_most}")
        await self._gather(at_least)
        context = self._inbox.message.context
        data, is_complete = self._inbox.take_some(at_most)
        return Chunk(data, context, is_complete)

    async def _receive_whole(self) -> Message | None:
        """A message that comes in one read and alone; None: _gather() goes on, or raises."""
        inbox, pipe = self._inbox, self._pipe
        if self._is_closed or inbox.is_complete or inbox.size or not pipe.ctl.is_between:
            return None
        with self._reading:
            try:
                data = await pipe.stream.receive(READ)
            except anyio.EndOfStream:
                pipe.ctl.feed_eof()
                return None
            message: Message | None = self._decode(data)
            if message is None:
                pipe.ctl.feed_input(data)
            return message

    async def _gather(self, size: float) -> None:
        """Until so many bytes of a message are here, or its last."""
        with self._reading:
            if not self._is_ready:
                await self.ready()
            inbox, waited = self._inbox, False
            bounded = size == math.inf
            while True:
                inbox.absorb(self._pipe.ctl.delivered, bounded=bounded)
                if inbox.is_complete or inbox.size >= size:
                    break
                self._check()
                if self._pipe.ctl.at_eof:
                    if not inbox.size:
                        raise anyio.EndOfStream
                    inbox.is_complete = True  # what was passed through is one message
                    break
                waited = True
                await self._pipe.fill()
            if not waited:
                await anyio.lowlevel.checkpoint_if_cancelled()

    # ---- out ----

    async def send(self, item: Message | Buffer, context: ContentContext | None = None) -> None:
        """Send a message; returns when the stream below has taken it."""
        message = item if isinstance(item, Message) else Message(item)
        if context is not None:
            message = Message(message.content, context, message.type)
        if self._encode is not None and await self._send_whole(message):
            return
        await self.send_partial(
            message.content, message.context, end_of_message=True, type=message.type
        )

    async def _send_whole(self, message: Message) -> bool:
        """Send what needs no waiting and has no terms; False: nothing has happened."""
        turns, pipe = self._turns, self._pipe
        if (
            message.context is not DEFAULT_MESSAGE or turns.is_taken or self._is_final
            or self._is_closed or pipe.ctl.error is not None or pipe.has_output
        ):  # fmt: skip
            return False
        pipe.ctl.framer.check_output(message)
        data = self._encode(message)
        if data is None:
            return False
        turns.is_taken = True
        try:
            done: bool = await self._submit(data)
        finally:
            turns.leave()
        return done

    async def send_partial(
        self, data: Buffer, context: ContentContext = DEFAULT_MESSAGE, *,
        end_of_message: bool = False, type: int | None = None,
    ) -> None:  # fmt: skip
        """Send bytes of the message of *context*; the same object marks the same message."""
        message = Message(data, context, type)
        await self._take_turn(message)
        is_taken = False
        try:
            self._commit(message, end_of_message)
            is_taken = True
            await self._pipe.push()
            if end_of_message and context.is_final:
                await self._pipe.stream.send_eof()
        finally:
            if end_of_message if is_taken else self._open is None:
                self._end_turn(context, is_taken and not self._pipe.is_broken)

    def _commit(self, message: Message, is_complete: bool) -> None:
        """Frame it. What raises here has changed nothing."""
        self._check()
        if self._is_final:
            raise anyio.ClosedResourceError
        if is_complete and self._open is None:
            self._pipe.ctl.framer.check_output(message)
        self._pipe.commit(message, message.content, is_complete)
        self._pipe.ctl.check()
        if is_complete:
            self._is_final = message.context.is_final
        else:
            self._open = message.context

    async def _take_turn(self, message: Message) -> None:
        """Until *message* may be sent. Cancelled or expired, nothing has happened."""
        context = message.context
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._open is not None and self._open is context:
            return
        if not self._is_ready:
            await self.ready()
        self._check()
        if context.expiration is None:
            await self._wait_turn(context)
            return
        with anyio.move_on_after(context.expiration) as scope:
            await self._wait_turn(context)
        if scope.cancelled_caught:
            self._outcomes.record(context, False)
            raise MessageExpired(message=f"{context.identifier!r} waited too long", domain="nw")

    async def _wait_turn(self, context: ContentContext) -> None:
        if context.antecedent is not None:
            try:
                await self._outcomes.wait(context.antecedent)
            except AntecedentFailed:
                self._outcomes.record(context, False)
                raise
        await self._turns.enter(context.priority)
        try:
            await self._pipe.push()
            await self._pipe.wait_room()
        except BaseException:
            self._turns.leave()
            raise

    def _end_turn(self, context: ContentContext, is_sent: bool) -> None:
        self._open = None
        if context is not DEFAULT_MESSAGE:
            self._outcomes.record(context, is_sent)
        self._turns.leave()

    async def send_many(self, messages: Iterable[Message | Buffer]) -> int:
        """Send messages in one go; how many were sent.

        An error after the first is raised by the next call.
        """
        if self._stored is not None:
            error, self._stored = self._stored, None
            raise error
        sent = 0
        waiting = 0
        try:
            for item in messages:
                message = item if isinstance(item, Message) else Message(item)
                await self._take_turn(message)
                try:
                    self._commit(message, True)
                    waiting += len(message.content)
                    if waiting >= BATCH or message.context.is_final:
                        waiting = 0
                        await self._pipe.push()
                    if message.context.is_final:
                        await self._pipe.stream.send_eof()
                except BaseException:
                    self._end_turn(message.context, False)
                    raise
                self._end_turn(message.context, True)
                sent += 1
            await self._pipe.push()
        except (OSError, ValueError, anyio.ClosedResourceError, ConnectionBroken) as error:
            if not sent:
                raise
            self._stored = error
        return sent

    async def send_eof(self) -> None:
        """No more messages will come from here; sending one raises ClosedResourceError."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not self._is_ready:
            await self.ready()
        if self._is_final:
            return
        await self._turns.enter(0.0)
        try:
            self._check()
            self._is_final = True
            await self._pipe.push()
            await self._pipe.stream.send_eof()
        finally:
            self._turns.leave()


def frame(
    stream: anyio.abc.ByteStream, framer: Framer | type[Framer] | ProtocolOptions, **options: Any
) -> MessageConnection:
    """Messages over any byte stream: ``nw.frame(stream, MyFramer)`` or ``..., TLV()``.

    *options* are the framer's; the layers below that of ProtocolOptions do not count.
    """
    if isinstance(framer, Framer):
        made: Framer | None = framer
    elif isinstance(framer, ProtocolOptions):
        made = framer_of(framer)
    else:
        made = framer(**options)
    if made is None:
        raise TypeError(f"frame: a framer is wanted, not {framer!r}")
    return MessageConnection(stream, made)
