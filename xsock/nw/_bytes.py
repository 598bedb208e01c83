"""Connections that carry a stream of bytes: the calls, and TCP.

Back-pressure: the stack's send buffer is the queue, and its size is the high-water
mark, so send() returns when all of its bytes are owned by the stack and no more than
that are queued. What does not fit stays with the sender who waits.

Cancellation: a cancelled receive has consumed nothing; what a longer receive had
gathered goes back to where the next one finds it. A cancelled send that had queued a part
leaves a hole in the stream that nobody can mend, so the send side is unusable from
then on, and ``send_accepted`` and a note on the exception say how much was taken.
"""

from __future__ import annotations

import asyncio
import errno
import struct
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio
import anyio.lowlevel
from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream

from bsdcore._ffi import ffi, lib
from bsdcore.loop import ROOM, WANT, WISH
from xsock.nw._connection import TERMINAL, Connection, State
from xsock.nw._errors import NetworkError, broken
from xsock.nw._loop import BUFFER, ENDED, READ, WRITE
from xsock.nw._packet import Copied, Packet, PacketBatch, SendBuffer
from xsock.nw._receipt import SendReceipt
from xsock.nw._report import DataTransferReport, TCPInfo
from xsock.nw._sockets import IPPROTO_TCP, abort, name_of, socket_attributes
from xsock.nw._voucher import ServiceClass, adoption, current_adopted
from xsock.nw._wait import TURN_OPS

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]

    from bsdcore.loop import Lent
    from xsock.nw._build import Build
    from xsock.nw._endpoint import Endpoint
    from xsock.nw._loop import Driver
    from xsock.nw._wait import Waiter

__all__ = ["ByteConnection", "Chunk", "TCPConnection"]

DONTWAIT: Final = 0x40  # MSG_DONTWAIT
EAGAIN: Final = -errno.EAGAIN
NULL: Final = ffi.NULL
TCP_INFO: Final = 11
SHUT_WR: Final = 1
LEND: Final = 1 << 20  # bytes that one receive_packet() or receive_batch() lends at most
SMALL: Final = 16_384  # bytes; more is copied at once and not with the turn
_adopted: Final = adoption.get
_recv: Final = lib.bsd_recv
_send: Final = lib.bsd_send
_view: Final = ffi.buffer
_INFO: Final = struct.Struct("=8B24I4Q6I4Q2I2Q4I")  # struct tcp_info of Linux


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a stream or message. *is_complete*: nothing follows it."""

    data: bytes
    context: Any = None
    is_complete: bool = False


class ByteConnection(Connection, ByteStream):
    """A connection whose top protocol carries a stream of bytes.

    One task may receive and one may send at a time; a second raises BusyResourceError.
    """

    def __init__(self, driver: Driver, endpoint: Endpoint, build: Build) -> None:
        super().__init__(driver, endpoint, build)
        self._held = bytearray()  # received, and given back by a longer receive
        self._is_receiving = False
        self._is_sending = False
        self.send_accepted = 0

    @abstractmethod
    async def _receive_some(self, max_bytes: int) -> bytes:
        """At least one byte, not from what is held; EndOfStream at the end."""

    @abstractmethod
    async def receive(self, max_bytes: int = 65536) -> bytes:
        """At least one byte and at most *max_bytes*; EndOfStream after the peer's FIN."""

    @abstractmethod
    async def send(self, data: Buffer, context: Any = None, *, end_of_stream: bool = False) -> Any:
        """Send all of *data*; returns when it is queued within the high-water mark.

        *end_of_stream* half-closes after it. With a context that asks to ``track``, TCP answers a
        SendReceipt; otherwise there is no answer.
        """

    @abstractmethod
    def try_send(self, data: Buffer) -> int:
        """Queue what fits now; how many bytes that were."""

    # ---- receiving, built on _receive_some ----

    def _lock_receive(self) -> None:
        if self._is_receiving:
            raise anyio.BusyResourceError("receiving from")
        self._is_receiving = True

    def _take(self, count: int) -> bytes:
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    async def _fill(self, count: int) -> None:
        """Hold at least *count* bytes; EndOfStream if there will not be as many."""
        held = self._held
        while len(held) < count:
            held += await self._receive_some(max(count - len(held), BUFFER))

    async def receive_range(self, at_least: int = 1, at_most: int = 65536) -> Chunk:
        """Between *at_least* and *at_most* bytes; fewer, and complete, at the end of the stream.

        EndOfStream if nothing at all is left.
        """
        if not 1 <= at_least <= at_most:
            raise ValueError(f"1 <= at_least <= at_most is wanted, not {at_least}, {at_most}")
        if not self._is_ready:
            await self._receive_ready()
        self._lock_receive()
        try:
            await self._fill(at_least)
        except anyio.EndOfStream:
            if not self._held:
                raise
            return Chunk(self._take(at_most), is_complete=True)
        finally:
            self._is_receiving = False
        return Chunk(self._take(at_most))

    async def receive_exactly(self, count: int) -> bytes:
        """*count* bytes; anyio.IncompleteRead if the stream ends before, consuming nothing."""
        if count < 0:
            raise ValueError("count must not be negative")
        if not self._is_ready:
            await self._receive_ready()
        self._lock_receive()
        try:
            await self._fill(count)
        except anyio.EndOfStream:
            raise anyio.IncompleteRead from None
        finally:
            self._is_receiving = False
        return self._take(count)

    async def receive_until(self, delimiter: bytes, max_bytes: int) -> bytes:
        """The bytes before *delimiter*, which is consumed too.

        anyio.DelimiterNotFound if it is not within the first *max_bytes*,
        anyio.IncompleteRead if the stream ends before; both consume nothing.
        """
        if not delimiter:
            raise ValueError("an empty delimiter")
        if not self._is_ready:
            await self._receive_ready()
        self._lock_receive()
        held, start = self._held, 0
        try:
            while (at := held.find(delimiter, start, max_bytes + len(delimiter))) < 0:
                if len(held) >= max_bytes + len(delimiter):
                    raise anyio.DelimiterNotFound(max_bytes)
                start = max(len(held) - len(delimiter) + 1, 0)
                held += await self._receive_some(BUFFER)
        except anyio.EndOfStream:
            raise anyio.IncompleteRead from None
        finally:
            self._is_receiving = False
        data = self._take(at + len(delimiter))
        return data[:at]

    async def receive_int(
        self, size: int, byteorder: Literal["big", "little"] = "big", signed: bool = False
    ) -> int:
        """An integer of *size* bytes."""
        return int.from_bytes(await self.receive_exactly(size), byteorder, signed=signed)

    async def receive_into(self, buffer: Buffer, at_least: int = 1) -> int:
        """Fill *buffer* with at least *at_least* bytes; how many. 0 only at the stream's end."""
        view = memoryview(buffer).cast("B")
        try:
            chunk = await self.receive_range(min(at_least, len(view)), len(view))
        except anyio.EndOfStream:
            return 0
        view[: len(chunk.data)] = chunk.data
        return len(chunk.data)

    # ---- packets: copies, unless the transport can lend ----

    async def receive_packet(self, at_most: int | None = None) -> Packet:
        """At least one byte, in place: use the answer in ``with``. EndOfStream at the end."""
        return Packet((Copied(await self.receive(at_most or BUFFER)),))

    async def receive_batch(
        self, max_count: int = 64, *, max_bytes: int | None = None
    ) -> PacketBatch:
        """What is there, as the pieces of memory it lies in: use the answer in ``with``."""
        return PacketBatch([Copied(await self.receive(max_bytes or BUFFER))])

    @abstractmethod
    async def send_many(self, parts: Iterable[Buffer | Packet]) -> int:
        """Send all *parts* in order; how many were sent. Packets are not copied if possible.

        Stops at the first error, which is raised only if nothing was accepted, and else
        by the next send.
        """

    @abstractmethod
    async def wait_send_capacity(self, count: int = 1) -> None:
        """Wait until a send of *count* bytes would be taken at once."""

    def batch(self) -> Batch:
        """``with conn.batch():`` sends inside go out together, when the block is left."""
        return Batch(self._driver)

    def split(self) -> tuple[ReceiveHalf, SendHalf]:
        """The two directions, for two owners."""
        return ReceiveHalf(self), SendHalf(self)

    async def _receive_ready(self) -> None:
        """Wait for READY; on a connection that has failed, what is held comes first."""
        if self._held and self._state is State.FAILED:
            return
        await self.ready()


class TCPConnection(ByteConnection):
    """A byte stream over TCP of the loop's own stack."""

    def __init__(self, driver: Driver, endpoint: Endpoint, build: Build) -> None:
        super().__init__(driver, endpoint, build)
        self._so: Any = None
        self._slot = -1
        self._wish = self._room = self._want = 0  # indexes of this connection's words
        self._words = driver.loop.slots
        self._keys = driver.loop.keys
        self._parts = driver.loop.parts
        self._buffer = driver.buffer
        self._may_receive = True  # False: there was nothing, and no event since
        self._is_over = False  # the peer's FIN, or an error, has come: no event will follow
        self._is_finished = False  # our FIN has been sent
        self._receiver: Waiter | None = None
        self._sender: Waiter | None = None
        self._send_error: NetworkError | None = None
        self._early: list[bytes] = []  # to be sent as soon as there is a connection
        self._checked = -1  # the turn in which send last looked at its cancel scope
        self._ops = 0

    # ---- establishment ----

    async def _establish(self) -> None:
        self._so, _options = await self._build.dial(self)
        self._watch(self._so)
        for data in self._early:
            _send(self._so, data, len(data), DONTWAIT, NULL, 0)
            self._driver.soon()
        self._early.clear()

    def _adopt(self, handle: Any, *, is_inner: bool = False) -> None:
        """Become READY on a connected socket. *is_inner*: another connection keeps this one."""
        self._started_at = self._driver.waits.time()
        self._so = handle
        self._tag.begin(handle)
        self._watch(handle)
        if not is_inner:
            self._driver.remember(self)
        self._enter(State.READY)

    _accept = _adopt

    def _watch(self, handle: Any) -> None:
        self._slot = slot = self._driver.watch(handle, self)
        self._wish, self._room, self._want = 4 * slot + WISH, 4 * slot + ROOM, 4 * slot + WANT

    def _unwatch(self) -> None:
        slot, self._slot = self._slot, -1
        if slot >= 0:
            self._driver.unwatch(slot)

    # ---- events ----

    def on_event(self, events: int, data: bytes, left: int, error: int) -> None:
        """From the driver, once for each change."""
        if data:
            # Whether more is there, or the end, is for the next receive to find out.
            if events & ENDED:
                self._is_over = True
            self._may_receive = left > 0 or self._is_over
            waiter = self._receiver
            if waiter is not None and not waiter.done():
                waiter.set_result(data)
            else:
                self._held += data
        elif events & (READ | ENDED):
            if events & ENDED:
                self._is_over = True
            self._may_receive = True
            waiter = self._receiver
            if waiter is not None and not waiter.done():
                waiter.set_result(b"")
        if events & (WRITE | ENDED) and self._sender is not None and not self._sender.done():
            self._sender.set_result(None)

    def _release(self, error: NetworkError | None = None) -> None:
        handle, self._so = self._so, None
        self._unwatch()
        if handle is not None:
            abort(handle)
            self._driver.soon()
        self._wake_all()

    def _wake_all(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(b"")
        if self._sender is not None and not self._sender.done():
            self._sender.set_result(None)

    async def _close(self) -> None:
        if self._parts:
            self._driver.pump()  # what was sent goes before the FIN
        handle, self._so = self._so, None
        task, self._task = self._task, None
        self._enter(State.CANCELLED)
        if task is not None:
            task.cancel()
        self._unwatch()
        if handle is not None:
            ffi.gc(handle, None)
            lib.bsd_close(handle)
            self._driver.soon()
        self._wake_all()

    # ---- receiving ----

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._is_receiving:
            raise anyio.BusyResourceError("receiving from")
        if not self._is_ready or self._held:
            return await self._receive_slowly(max_bytes)
        if max_bytes <= 0:
            raise ValueError("max_bytes must be positive")
        if self._may_receive:
            self._ops += 1
            if not self._ops % TURN_OPS or self._driver.waits.is_cancelled():
                await self._driver.waits.checkpoint()
            if data := self._receive_now(max_bytes):
                return data
        while True:
            self._is_receiving = True
            self._receiver = waiter = self._future()
            self._words[self._wish] = max_bytes
            try:
                data = await waiter
            except BaseException:
                self._give_back(waiter)
                raise
            finally:
                self._is_receiving = False
                self._receiver = None
            self._checked = self._driver.turn
            if data or (data := self._receive_now(max_bytes)):
                return data

    @property
    def is_readable(self) -> bool:
        """A receive() would not wait: for data, the end, or an error."""
        if self._held or self._so is None:
            return True
        return bool(lib.bsd_poll(self._so) & ~WRITE)

    def _receive_now(self, max_bytes: int) -> bytes:
        """What is there; b"" if that is nothing. EndOfStream, or the connection's error."""
        so = self._so
        if so is None:
            self._check_alive()
        room = max_bytes if max_bytes < BUFFER else BUFFER
        got = _recv(so, self._buffer, room, DONTWAIT, NULL, 0)
        if got > 0:
            if got < room:
                self._may_receive = self._is_over
            data: bytes = _view(self._buffer, got)[:]
            return data
        if got == EAGAIN:
            self._may_receive = self._is_over
            return b""
        if got == 0:
            raise anyio.EndOfStream
        raise self._died(-got)

    def _give_back(self, waiter: Waiter) -> None:
        """A receive was cancelled: what had come for it is held for the next."""
        if self._slot >= 0:
            self._words[self._wish] = 0
        if waiter.done() and (data := arrived(waiter)):
            self._held[:0] = data

    async def _receive_slowly(self, max_bytes: int) -> bytes:
        if max_bytes <= 0:
            raise ValueError("max_bytes must be positive")
        await self._receive_ready()
        if self._held:
            return self._take(max_bytes)
        return await self.receive(max_bytes)

    async def _receive_some(self, max_bytes: int) -> bytes:
        # The caller is the one receiver.
        self._is_receiving = False
        held, self._held = self._held, bytearray()
        try:
            return await self.receive(max_bytes)
        finally:
            held += self._held  # what came for a receive that was cancelled
            self._held = held
            self._is_receiving = True

    def _died(self, number: int) -> NetworkError:
        """The connection failed under an operation: what that one raises."""
        error = broken(number, endpoint=self.endpoint)
        self._fail(error)
        return error.again()

    async def _readable(self) -> None:
        """Wait for something to receive, or the end, and leave it where it is."""
        self._is_receiving = True
        self._receiver = waiter = self._future()
        try:
            await waiter
        finally:
            self._is_receiving = False
            self._receiver = None
        self._checked = self._driver.turn

    def _lend(self, size: int) -> list[Lent | Copied]:
        """What is there, in place; [] if that is nothing. EndOfStream, or the error."""
        if self._held:
            return [Copied(self._take(size))]
        if self._so is None:
            self._check_alive()
        try:
            pieces = self._driver.loop.lend(self._so, size)
        except BlockingIOError:
            self._may_receive = self._is_over
            return []
        except OSError as why:
            if why.errno != errno.ENOBUFS:
                raise self._died(why.errno or 0) from why
            data = self._receive_now(size)  # too much is lent
            return [Copied(data)] if data else []
        if not pieces:
            raise anyio.EndOfStream
        self._driver.soon()  # the window may have opened
        return list(pieces)

    async def _receive_pieces(self, size: int) -> list[Lent | Copied]:
        if self._is_receiving:
            raise anyio.BusyResourceError("receiving from")
        if not self._is_ready:
            await self._receive_ready()
        if self._may_receive or self._held:
            self._ops += 1
            if not self._ops % TURN_OPS or self._driver.waits.is_cancelled():
                await self._driver.waits.checkpoint()
            if pieces := self._lend(size):
                return pieces
        while True:
            await self._readable()
            if pieces := self._lend(size):
                return pieces

    async def receive_packet(self, at_most: int | None = None) -> Packet:
        """At least one byte, in place: use the answer in ``with``. EndOfStream at the end."""
        return Packet(await self._receive_pieces(at_most or LEND))

    async def receive_batch(
        self, max_count: int = 64, *, max_bytes: int | None = None
    ) -> PacketBatch:
        """What is there, as the pieces of memory it lies in: use the answer in ``with``."""
        pieces = await self._receive_pieces(max_bytes or LEND)
        return PacketBatch(self._bounded(pieces, max_count))

    def try_receive_batch(self, max_count: int = 64) -> PacketBatch | None:
        """As receive_batch(), or None if nothing is there."""
        if self._is_receiving:
            raise anyio.BusyResourceError("receiving from")
        if not self._is_ready and not (self._held and self._state is State.FAILED):
            if self._state in TERMINAL:
                self._check_alive()
            return None
        pieces = self._lend(LEND)
        return PacketBatch(self._bounded(pieces, max_count)) if pieces else None

    def _bounded(self, pieces: list[Lent | Copied], count: int) -> list[Lent | Copied]:
        """The first *count*; what is beyond is held, as a copy."""
        for piece in pieces[count:]:
            self._held += piece.view
        return pieces[:count]

    # ---- sending ----

    async def send(self, data: Buffer, context: Any = None, *, end_of_stream: bool = False) -> Any:
        driver = self._driver
        if self._is_sending:
            raise anyio.BusyResourceError("sending to")
        if not self._is_ready or self._is_finished or self._send_error is not None:
            await self._ready_to_send()
        self._ops += 1
        if self._checked != driver.turn:
            self._checked = driver.turn
            if driver.waits.is_cancelled():
                await driver.waits.checkpoint()
        if not self._ops % TURN_OPS:
            await driver.waits.checkpoint()
            if not self._is_ready:
                self._check_alive()
        adopted = _adopted()
        held = None if adopted is None else adopted.voucher
        tag = self._tag
        if held is not tag.voucher or context is not tag.context:
            tag.change(self._so, held, context, self._submit_first)
        if type(data) is not bytes:
            data = memoryview(data).cast("B")
        size = len(data)
        room = self._words[self._room]
        if size <= SMALL and size <= room:
            self._words[self._room] = room - size
            self._keys.append(self._slot | size << 32)
            self._parts.append(data if type(data) is bytes else bytes(data))
            if not driver.is_due:
                driver.soon()
        else:
            await self._send_large(data, size)
        if end_of_stream or (context is not None and context.is_final):
            await self.send_eof()
        if context is not None and context.track:
            return self._receipt()
        return None

    async def submit_whole(self, data: bytes) -> bool:
        """Send all of *data* at once, as send() does; False: nothing was, it would wait or fail.

        Cancelled, it has sent nothing.
        """
        driver = self._driver
        self._ops += 1
        if self._checked != driver.turn:
            self._checked = driver.turn
            if driver.waits.is_cancelled():
                await driver.waits.checkpoint()
        if not self._ops % TURN_OPS:
            await driver.waits.checkpoint()
        size, room = len(data), self._words[self._room]
        if (
            not self._is_ready or self._is_finished or self._send_error is not None
            or self._is_sending or size > SMALL or size > room
        ):  # fmt: skip
            return False
        self._go_under()
        self._words[self._room] = room - size
        self._keys.append(self._slot | size << 32)
        self._parts.append(data)
        if not driver.is_due:
            driver.soon()
        return True

    def submit_rest(self, data: bytes) -> None:
        """Queue *data*, the rest of what has to go out whole, even beyond the high-water mark."""
        if self._is_ready and not self._is_finished and self._send_error is None:
            self._keys.append(self._slot | len(data) << 32)
            self._parts.append(data)
            self._words[self._room] = 0
            self._driver.soon()

    @property
    def is_writable(self) -> bool:
        """A send would take something, or raise."""
        return self._so is None or bool(lib.bsd_poll(self._so) & (WRITE | ENDED))

    def _receipt(self) -> SendReceipt:
        """For everything that was sent up to now."""
        self._submit_first()
        info = self._info()
        return SendReceipt(self, info[34] + self.send_queue)

    @property
    def acknowledged(self) -> int | None:
        """Bytes that the peer has acknowledged; None once the connection is over."""
        return None if self._so is None else self._info()[34]

    async def _ready_to_send(self) -> None:
        if not self._is_ready:
            await self.ready()
        if self._send_error is not None:
            raise self._send_error.again()
        if self._is_finished:
            raise anyio.ClosedResourceError

    def _push(self, data: Any) -> int:
        """Queue what fits of *data* now, past the turn; how many bytes, or the error."""
        self._submit_first()
        source = data if type(data) is bytes else ffi.from_buffer(data)
        sent = int(_send(self._so, source, len(data), DONTWAIT, NULL, 0))
        self._stale()
        if sent >= 0:
            return sent
        if sent == EAGAIN:
            return 0
        raise self._died(-sent)

    def _go_under(self) -> None:
        """What is sent next, without a context, is sent under the voucher that holds here."""
        held, tag = current_adopted(), self._tag
        if held is not tag.voucher or tag.context is not None:
            tag.change(self._so, held, None, self._submit_first)

    def _submit_first(self) -> None:
        """What was submitted before goes before what is sent past the turn."""
        if self._parts:
            self._driver.pump()
        if self._so is None:
            self._check_alive()

    def _stale(self) -> None:
        """Something was sent past the turn: how much room there is, the next turn will tell."""
        self._words[self._room] = 0
        self._driver.loop.look(self._slot)
        self._driver.soon()

    async def _send_large(self, data: Any, size: int) -> None:
        sent = self._push(data)
        if sent == size:
            return
        rest = memoryview(data)
        self._is_sending = True
        try:
            while sent < size:
                await self._writable()
                if self._so is None:
                    self._check_alive()
                sent += self._push(rest[sent:])
        except NetworkError:
            raise
        except BaseException as why:
            self.send_accepted = sent
            if sent and self._is_ready:
                self._send_error = broken(
                    errno.EPIPE,
                    message=f"a send was cancelled after {sent} of {size} bytes",
                )
                why.add_note(f"{sent} of {size} bytes had been queued for {self!r}")
            raise
        finally:
            self._is_sending = False

    async def _writable(self) -> None:
        """Wait for room, or for the connection's end."""
        self._sender = waiter = self._future()
        self._words[self._want] = WRITE
        self._driver.loop.look(self._slot)
        self._driver.soon()
        try:
            await waiter
        finally:
            self._sender = None

    def try_send(self, data: Buffer) -> int:
        """Queue what fits now; how many bytes that were. Raises as send() does."""
        if self._is_sending:
            raise anyio.BusyResourceError("sending to")
        if not self._is_ready:
            if self._state not in TERMINAL:
                return 0
            self._check_alive()
        if self._send_error is not None:
            raise self._send_error.again()
        if self._is_finished:
            raise anyio.ClosedResourceError
        self._go_under()
        view = memoryview(data).cast("B")
        return self._push(view) if len(view) else 0

    def _forward(self, pieces: Sequence[Lent | Copied]) -> bool:
        """Queue memory without copying it. False, and nothing has happened, without room."""
        if self._is_sending:
            raise anyio.BusyResourceError("sending to")
        if not self._is_ready or self._send_error is not None or self._is_finished:
            if not self._is_ready and self._state not in TERMINAL:
                return False
            self._check_alive()
            raise self._send_error.again() if self._send_error else anyio.ClosedResourceError
        self._go_under()
        for index, piece in enumerate(pieces):
            self._submit_first()
            if not self._send_piece(piece, may_refuse=index == 0):
                return False
        self._stale()
        return True

    def _send_piece(self, piece: Lent | Copied, may_refuse: bool) -> bool:
        """Queue one piece. Without room: False if it may refuse, else queued beyond the mark."""
        view, sent = piece.view, -errno.EXDEV
        if piece.lend is not None:
            sent = lib.bsd_send_lend(self._so, piece.lend, piece.start, len(view), DONTWAIT, NULL)
        if sent == -errno.EXDEV:  # a copy, or of another stack
            sent = _send(self._so, ffi.from_buffer(view), len(view), DONTWAIT, NULL, 0)
        if sent < 0 and sent != EAGAIN:
            raise self._died(-sent)
        if sent == EAGAIN and may_refuse:
            return False
        if (rest := view[max(sent, 0) :]).nbytes:
            self._parts.append(bytes(rest))
            self._keys.append(self._slot | rest.nbytes << 32)
        return True

    async def reserve(self, size: int) -> SendBuffer:
        """*size* bytes of packet memory (65536 at most) to write what is to be sent into.

        ``with await conn.reserve(1400) as b: b.view[:n] = data; b.commit(n)``
        """
        await self.wait_send_capacity(size)
        return SendBuffer(self._driver, self._driver.loop.reserve(self._so, size), self._commit)

    def _commit(self, lent: Lent, size: int) -> None:
        if self._is_sending:
            raise anyio.BusyResourceError("sending to")
        if not self._is_ready:
            self._check_alive()
        self._go_under()
        self._submit_first()
        sent = lib.bsd_send_lend(self._so, lent.lend, lent.start, size, DONTWAIT, NULL)
        if sent == EAGAIN:
            raise BlockingIOError(errno.EAGAIN, "no room, although there was")
        if sent < 0:
            raise self._died(-sent)
        self._stale()

    def send_idempotent(self, data: Buffer) -> None:
        """Queue *data*, that may be sent twice without harm, as early as that is possible."""
        if self._is_ready:
            if self.try_send(data) != len(data):
                raise BlockingIOError(errno.EAGAIN, "no room")
            return
        self._check_alive()
        self._early.append(bytes(data))
        self.start()

    async def send_many(self, parts: Iterable[Buffer | Packet]) -> int:
        count = 0
        for part in parts:
            try:
                if isinstance(part, Packet):
                    while not part.forward(self):
                        await self.wait_send_capacity()
                else:
                    await self.send(part)
            except OSError:
                if not count:
                    raise
                break
            count += 1
        return count

    async def send_eof(self) -> None:
        """Half-close: the peer reads the end of the stream; receiving goes on."""
        if self._is_sending:
            raise anyio.BusyResourceError("sending to")
        if self._is_finished and self._is_ready:
            await self._driver.waits.checkpoint()
            return
        await self._ready_to_send()
        await self._driver.waits.checkpoint()
        if self._so is None:
            self._check_alive()
        if self._parts:
            self._driver.pump()  # what was sent goes before the FIN
        self._is_finished = True
        if (result := lib.bsd_shutdown(self._so, SHUT_WR)) < 0:
            raise self._died(-result)
        self._driver.soon()

    @property
    def send_queue(self) -> int:
        """Bytes that the peer has not acknowledged."""
        if self._so is None:
            return 0
        info = self._info()
        return max(0, info[48] - info[49] - info[34]) + info[38]

    async def wait_send_capacity(self, count: int = 1) -> None:
        """Wait until a send would be taken at once; raises as send() if none will ever be."""
        if not self._is_ready or self._is_finished or self._send_error is not None:
            await self._ready_to_send()
        if self._is_sending:
            raise anyio.BusyResourceError("sending to")
        if self._words[self._room] >= count:
            await self._driver.waits.checkpoint()
            return
        self._is_sending = True
        try:
            await self._writable()
        finally:
            self._is_sending = False
        if not self._is_ready:
            self._check_alive()

    def set_service_class(self, service_class: ServiceClass | None) -> None:
        self._tag.choose(self._so, service_class, self._submit_first)

    # ---- attributes and reports ----

    @property
    def local(self) -> Endpoint | None:
        """The near address; None without a connection."""
        return name_of(self._so, lib.bsd_getsockname)

    @property
    def remote(self) -> Endpoint | None:
        """The far address; None without a connection."""
        return name_of(self._so, lib.bsd_getpeername)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return socket_attributes(self.local, self.remote)

    def tcp_info(self) -> TCPInfo:
        info = self._info()
        return TCPInfo(
            state=info[0], mss=info[10], smoothed_rtt=info[23] / 1e6, rtt_variance=info[24] / 1e6,
            congestion_window=info[26] * info[10], slow_start_threshold=info[25] * info[10],
            retransmitted_segments=info[31], unacked_segments=info[12], lost_segments=info[14],
            send_queue=self.send_queue, receive_queue=0,
        )  # fmt: skip

    def _info(self) -> tuple[int, ...]:
        if self._so is None:
            raise NetworkError(errno.ENOTCONN)
        room, length = ffi.new("char[]", _INFO.size), ffi.new("size_t *", _INFO.size)
        if (result := lib.bsd_getsockopt(self._so, IPPROTO_TCP, TCP_INFO, room, length)) < 0:
            raise NetworkError(-result)
        return _INFO.unpack(_view(room)[:])

    def data_transfer_report(self) -> DataTransferReport:
        info = self._info()
        return DataTransferReport(
            duration=self._driver.waits.time() - self._started_at, received_bytes=info[35],
            sent_bytes=info[48], retransmitted_bytes=info[49], smoothed_rtt=info[23] / 1e6,
            rtt_variance=info[24] / 1e6,
        )  # fmt: skip


class Batch:
    """Sends that go out together."""

    __slots__ = ("_driver",)

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __enter__(self) -> None:
        """Nothing is sent before the block is left, unless it waits or is large."""

    def __exit__(self, *exc: object) -> None:
        self._driver.pump()


class ReceiveHalf(ByteReceiveStream):
    """The receiving direction of a connection. Closing it closes nothing else."""

    def __init__(self, connection: ByteConnection) -> None:
        self.connection = connection
        self._is_closed = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._is_closed:
            raise anyio.ClosedResourceError
        return await self.connection.receive(max_bytes)

    async def aclose(self) -> None:
        self._is_closed = True
        await anyio.lowlevel.checkpoint()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self.connection.extra_attributes


class SendHalf(ByteSendStream):
    """The sending direction of a connection. Closing it sends FIN."""

    def __init__(self, connection: ByteConnection) -> None:
        self.connection = connection
        self._is_closed = False

    async def send(self, item: Buffer) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        await self.connection.send(item)

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self.connection.send_eof()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self.connection.extra_attributes


def arrived(waiter: Waiter) -> bytes:
    """What a waiter, whose task was cancelled, had been woken with; b"" if nothing."""
    try:
        return waiter.result() or b""
    except asyncio.CancelledError:
        return b""
