"""The memory of a framer: bytes that are not used up, and messages that are put together."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from xsock.nw._content import Message
from xsock.nw._errors import MessageTooLarge
from xsock.nw._outbox import Buffer

__all__ = ["ANY", "Assembler", "Delivery", "Intake"]

COMPACT_MIN: Final = 64 * 1024  # bytes used up before the rest is moved to the front
ANY: Final = Message()


class Delivery(NamedTuple):
    """Bytes for the program, of the message that *message* describes."""

    data: Buffer
    message: Message
    is_complete: bool


class Assembler:
    """Puts deliveries together to messages of at most *max_size* bytes."""

    __slots__ = ("_max", "_parts", "is_complete", "message", "size")

    def __init__(self, max_size: int) -> None:
        self._max = max_size
        self._parts: deque[Buffer] = deque()
        self.message = ANY
        self.size = 0
        self.is_complete = False  # the rest of the current message is here

    def absorb(self, delivered: deque[Delivery], *, bounded: bool = True) -> None:
        """Take deliveries up to the end of the current message; *bounded* by the size allowed."""
        while delivered and not self.is_complete:
            data, self.message, self.is_complete = delivered.popleft()
            self.size += len(data)
            self._parts.append(data)
            if bounded and self.size > self._max:
                raise MessageTooLarge(message=f"a message came with more than {self._max} bytes")

    def take(self) -> Message:
        """The message, or what is left of it, which is complete."""
        parts, message = self._parts, self.message
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self.size, self.is_complete = 0, False
        content = data if isinstance(data, bytes) else bytes(data)
        return Message(content, message.context, message.type)

    def take_some(self, at_most: int) -> tuple[bytes, bool]:
        """The next bytes of the current message, and whether they are its last."""
        parts, chosen, size = self._parts, [], 0
        while parts and size < at_most:
            part = parts.popleft()
            if size + len(part) > at_most:
                view = memoryview(part)
                part, rest = view[: at_most - size], view[at_most - size :]
                parts.appendleft(rest)
            chosen.append(part)
            size += len(part)
        self.size -= size
        ends = self.is_complete and not self.size
        if ends:
            parts.clear()
            self.is_complete = False
        return b"".join(chosen), ends


class Intake:
    """Bytes that are looked at in place: those of one read as they came, or several joined."""

    __slots__ = ("_head", "_store", "size")

    def __init__(self) -> None:
        self._store: Buffer = b""
        self._head = 0
        self.size = 0

    def append(self, data: Buffer) -> None:
        if not self.size:
            self._store, self._head, self.size = data, 0, len(data)
            return
        store = self._store
        if type(store) is not bytearray:
            store = self._joined()
        elif self._head >= COMPACT_MIN and self._head * 2 >= len(store):
            try:
                del store[: self._head]
                self._head = 0
            except BufferError:  # somebody kept a view; it keeps the old bytes, too
                store = self._joined()
        try:
            store += data
        except BufferError:
            store = self._joined()
            store += data
        self.size += len(data)

    def _joined(self) -> bytearray:
        with memoryview(self._store) as view:
            store = bytearray(view[self._head :])
        self._store, self._head = store, 0
        return store

    def peek(self, size: int) -> memoryview:
        """The first *size* bytes."""
        view = memoryview(self._store)
        return view[self._head : self._head + size].toreadonly()

    def take(self, size: int) -> Buffer:
        """The same, used up; they outlive what comes later."""
        if isinstance(self._store, bytearray):
            data: Buffer = bytes(self.peek(size))
        elif size == len(self._store):
            data = self._store
        else:
            data = self.peek(size)
        self.drop(size)
        return data

    def own(self) -> None:
        """Somebody else's memory is copied: it may change."""
        if self.size and isinstance(self._store, memoryview):
            self._joined()

    def drop(self, size: int) -> None:
        self._head += size
        self.size -= size
        if not self.size:
            self._store, self._head = b"", 0
