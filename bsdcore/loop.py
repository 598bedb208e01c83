"""A stack turned by an event loop: the raw operations, at the least cost in Python.

A :class:`LoopStack` runs a hand-run :class:`~bsdcore.stack.Stack` for one event loop,
whose thread makes every call. :meth:`LoopStack.turn` is the one call of a
wake-up. Small messages need no call of their own: what is to be sent is queued in
two lists and goes with the turn, and received bytes that were wished for come
back with the events. See "a stack run by an event loop" in api.h.

    index = loop.add(socket)            # a slot; 4 words of loop.slots are its own
    loop.slots[4 * index + WISH] = 4096 # hand me up to 4096 bytes with the next event
    if loop.slots[4 * index + ROOM] >= len(data):
        loop.slots[4 * index + ROOM] -= len(data)
        loop.keys.append(index | len(data) << 32)
        loop.parts.append(data)         # bytes; sent by the next turn
    for slot, events, offset, length, left, error in loop.turn():
        data = loop.buffer[offset : offset + length]

Longer payload is lent: the views of a :class:`Lent` show packet memory, which is
not used again before the last slice of them is gone, whatever becomes of the
Lent, the socket or the stack meanwhile.
"""

from __future__ import annotations

from array import array
from errno import ENOBUFS
from functools import partial
from struct import Struct

from bsdcore._ffi import check, ffi, lib

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final

    from bsdcore.sockets import Handle
    from bsdcore.stack import Stack

    Event = tuple[int, int, int, int, int, int]  # slot, events, offset, length, left, error

__all__ = ["ROOM", "WANT", "WISH", "Datagrams", "Lent", "LoopStack"]

# Words of a slot.
WISH: Final = 0
ROOM: Final = 1
WANT: Final = 2
TAG: Final = 1 << 31  # a key that is no submission: see tag()
_DONE: Final = Struct("IIIIIi")
_DONE_SIZE: Final = ffi.sizeof("struct bsd_done")
if _DONE.size != _DONE_SIZE or ffi.sizeof("struct bsd_slot") != 16:
    raise ImportError("bsdcore was compiled from different headers: run make build")
_RUN: Final = Struct("=28s5IQ3B5x")
if _RUN.size != ffi.sizeof("struct bsd_dgrams"):
    raise ImportError("bsdcore was compiled from different headers: run make build")
SEGMENTS: Final = 64  # pieces of memory that one lend() answers at most
RETRY_NS: Final = 1_000_000
RUNS: Final = 64  # senders that one receive_batch() answers at most
MAX_RESERVE: Final = 65536


class Lent:
    """One piece of packet memory: ``view`` shows it, ``lend`` and ``start`` say where it is.

    As long as the Lent or any slice of its view lives, the memory is its own.
    """

    __slots__ = ("_owner", "lend", "start", "view")

    def __init__(self, lend: Any, start: int, base: Any, size: int) -> None:
        self._owner = owner = ffi.gc(base, partial(lib.bsd_lend_release, lend))
        self.lend = lend
        self.start = start
        #: Writable; hand out ``view.toreadonly()`` for what was received.
        self.view = memoryview(ffi.buffer(owner, size))


class Datagrams:
    """Datagrams of one receive_batch(): a slab of memory and runs of equal ones.

    ``runs`` are tuples (sender, offset, bytes, size of each, count, origin, time,
    TOS, TTL, service class); the last of a run may be shorter. The sender is a
    ``struct bsd_addr`` as bytes.
    """

    __slots__ = ("lent", "runs", "view")

    def __init__(self, lent: Lent, runs: list[tuple[Any, ...]]) -> None:
        self.lent = lent
        self.runs = runs
        self.view = lent.view.toreadonly()

    def __len__(self) -> int:
        return sum(run[4] for run in self.runs)

    def views(self) -> list[memoryview]:
        """One view for each datagram, in order."""
        view = self.view
        answer: list[memoryview] = []
        for run in self.runs:
            start, size, count = run[1], run[3], run[4]
            end = start + run[2]
            if count == 1:
                answer.append(view[start:end])
            else:
                answer += [view[at : at + size] for at in range(start, end - size, size)]
                answer.append(view[start + (count - 1) * size : end])
        return answer


class LoopStack:
    """The loop's side of *stack*. Close it before the stack.

    *slots* bounds the sockets, *events* and *buffer* (bytes) what one turn may
    answer, *submissions* what one turn may take. Neither costs memory before it
    is used.
    """

    __slots__ = (
        "_cdata", "_done", "_iov", "_lent", "_memory", "_runs", "_runs_view", "_state",
        "_subs", "_turn", "_unpack", "buffer", "keys", "limit", "parts", "slots", "stack",
    )  # fmt: skip

    def __init__(
        self,
        stack: Stack,
        *,
        slots: int = 1 << 17,
        events: int = 1024,
        submissions: int = 4096,
        buffer: int = 1 << 20,
    ) -> None:
        out = ffi.new("struct evloop **")
        check(lib.bsd_evloop_new(stack.cdata, slots, events, submissions, buffer, out))
        self.stack = stack
        self._cdata = out[0]
        memory = ffi.new("struct bsd_evloopmem *")
        lib.bsd_evloop_mem(self._cdata, memory)
        self._memory = memory
        self._turn = lib.bsd_turn
        self._unpack = _DONE.iter_unpack
        #: 4 words for each slot: WISH, ROOM, WANT and one to spare.
        self.slots = memoryview(ffi.buffer(memory.slots, 16 * slots)).cast("I")
        self._done = memoryview(ffi.buffer(memory.done, _DONE_SIZE * events))
        self._subs = memoryview(ffi.buffer(memory.subs, 8 * submissions)).cast("Q")
        self._state = memoryview(ffi.buffer(memory.state, 24)).cast("Q")
        #: What a turn has handed over; overwritten by the next. A slice is a copy.
        self.buffer = ffi.buffer(memory.buf, buffer)
        #: Submissions: ``slot | len(part) << 32``, and the bytes.
        self.keys: list[int] = []
        self.parts: list[bytes] = []
        self.limit = submissions
        self._lent = ffi.new("struct bsd_lent *")
        self._iov = ffi.new("struct bsd_iovec[]", SEGMENTS)
        self._runs = ffi.new("struct bsd_dgrams[]", RUNS)
        self._runs_view = memoryview(ffi.buffer(self._runs))

    def close(self) -> None:
        """Forget every slot; the sockets stay."""
        cdata, self._cdata = self._cdata, None
        if cdata is not None:
            lib.bsd_evloop_free(cdata)

    def add(self, handle: Handle) -> int:
        """A slot for a socket of the stack. What holds already comes as an event."""
        return check(lib.bsd_evloop_add(self._cdata, handle))

    def remove(self, slot: int) -> None:
        """Give a slot back. Events of the turn before may still name it."""
        check(lib.bsd_evloop_del(self._cdata, slot))

    def look(self, slot: int) -> None:
        """Let the next turn report what holds for *slot*, as after a change."""
        self.keys.append(slot)
        self.parts.append(b"")

    def tag(self, slot: int, svc: int, origin: int) -> None:
        """Class and originator of what is submitted for *slot* from now on (Socket.set_tag())."""
        self.keys.append(slot | TAG | (svc & 127) << 24 | origin << 32)
        self.parts.append(b"")

    def poll_at(self) -> int:
        """When to turn next without being woken (ns of the stack's clock); NEVER at the latest."""
        return self._state[0]

    def now(self) -> int:
        """The stack's time of the last turn (ns)."""
        return self._state[2]

    def turn(self, now: int = 0) -> Iterator[Event]:
        """Submit, take packets in, run timers, send; what has happened.

        Each event is ``(slot, poll bits, offset, length, left, error)``. *now* (ns)
        counts in virtual time only. Read all of it before the next turn.
        """
        keys = self.keys
        if keys:
            got = self._submit(now)
        else:
            got = self._turn(self._cdata, now, b"", 0, 0)
        if got <= 0:
            check(got)
            return iter(())
        return self._unpack(self._done[: got * _DONE_SIZE])

    def _submit(self, now: int) -> int:
        keys, parts, state = self.keys, self.parts, self._state
        count = len(keys)
        if count == 1:
            self._subs[0] = keys[0]
            data = parts[0]
        else:
            if count > self.limit:
                count = self.limit
                keys, parts = keys[:count], parts[:count]
            self._subs[:count] = array("Q", keys)
            data = b"".join(parts)
        got: int = self._turn(self._cdata, now, data, len(data), count)
        if got < 0:
            return got
        taken = state[1]
        if taken == len(self.keys):
            self.keys.clear()
            self.parts.clear()
        else:  # the rest is due at once, or, if memory is short, in a while
            del self.keys[:taken], self.parts[:taken]
            state[0] = min(state[0], state[2] + (0 if taken == count else RETRY_NS))
        return got

    def lend(self, handle: Handle, size: int) -> list[Lent]:
        """Up to *size* received bytes of a stream, where they lie; ``[]`` at its end.

        BlockingIOError if there are none; OSError ENOBUFS if too much is lent already
        (``kern.ipc.lendmax``): receive a copy, or nothing, which closes the window.
        """
        lent = self._lent
        got = lib.bsd_recv_lend(handle, size, SEGMENTS, lent)
        if got <= 0:
            check(got)
            return []
        memory = lent.lend
        if lent.count == 1:
            return [Lent(memory, 0, lent.base, got)]
        iov, start = self._iov, 0
        answer = []
        for i in range(lib.bsd_lend_iov(memory, iov, SEGMENTS)):
            piece = iov[i]
            answer.append(Lent(memory, start, ffi.cast("char *", piece.base), piece.len))
            start += piece.len
        return answer

    def read(self, handle: Handle, size: int) -> bytes:
        """Up to *size* received bytes of a stream, copied once; ``b""`` at its end.

        BlockingIOError if there are none. The way for kilobytes: ``bsd_recv`` into
        a buffer, to be copied from there, is better for less.
        """
        lent = self._lent
        got = lib.bsd_recv_lend(handle, size, SEGMENTS, lent)
        if got <= 0:
            if got == -ENOBUFS:
                buffer = ffi.new("char[]", min(size, MAX_RESERVE))
                got = check(lib.bsd_recv(handle, buffer, len(buffer), 0, ffi.NULL, 0))
                return bytes(ffi.buffer(buffer, got))
            check(got)
            return b""
        memory, count = lent.lend, lent.count
        if count == 1:
            data = bytes(ffi.buffer(lent.base, got))
        else:
            iov = self._iov
            lib.bsd_lend_iov(memory, iov, SEGMENTS)
            data = b"".join([ffi.buffer(iov[i].base, iov[i].len) for i in range(count)])
        lib.bsd_lend_drop(memory, count)
        return data

    def reserve(self, handle: Handle, size: int) -> Lent:
        """*size* writable bytes (65536 at most) to be sent by :meth:`send_lent`."""
        lent = self._lent
        check(lib.bsd_reserve(handle, size, lent))
        return Lent(lent.lend, 0, lent.base, size)

    def send_lent(self, handle: Handle, lent: Lent, offset: int, size: int, flags: int = 0) -> int:
        """Send bytes of reserved or received memory without copying them.

        All of them, if there is any room; BlockingIOError if there is none; OSError
        EXDEV if they belong to another stack. What was submitted before
        must have been taken by a turn. Do not write into them any more.
        """
        return check(
            lib.bsd_send_lend(handle, lent.lend, lent.start + offset, size, flags, ffi.NULL)
        )

    def send_batch(self, handle: Handle, parts: Sequence[bytes], to: Any = None) -> int:
        """Send datagrams, to *to* (``struct bsd_addr *``) or the peer; how many were taken."""
        data = b"".join(parts)
        sizes = ffi.from_buffer("uint32_t[]", array("I", map(len, parts)))
        if to is None:
            return check(lib.bsd_send_batch(handle, data, sizes, len(parts), ffi.NULL, 0))
        return check(lib.bsd_send_batch(handle, data, sizes, len(parts), to, 1))

    def receive_batch(self, handle: Handle) -> Datagrams:
        """The datagrams that are there, or some of them; BlockingIOError if there are none."""
        lent = self._lent
        count = check(lib.bsd_recv_batch(handle, self._runs, RUNS, lent))
        runs = list(_RUN.iter_unpack(self._runs_view[: count * _RUN.size]))
        return Datagrams(Lent(lent.lend, 0, lent.base, lent.len), runs)
