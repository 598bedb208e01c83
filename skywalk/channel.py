"""One end of a channel as Python holds it: rings of packets in memory shared with the other end.

A received packet is lent: its bytes are a read-only memoryview over the other
end's memory, which is given back when the last slice of it is gone. A packet to
send is copied in, or written in place (:meth:`TxRing.reserve`).

One thread at a time sends and one receives; any thread may let go of what was
lent, close, or wait in the direction that is its own.
"""

from __future__ import annotations

import errno
import os
import select
import weakref
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum, IntFlag
from functools import partial
from typing import Any, Final, Self, final, overload

from nic import NEVER, Pool, Port
from skywalk._ffi import check, ffi, lib

__all__ = [
    "BATCH",
    "Batch",
    "Channel",
    "ChannelError",
    "ChannelInfo",
    "ChannelParams",
    "ChannelStatistics",
    "Direction",
    "Event",
    "EventRing",
    "Meta",
    "Packet",
    "Payload",
    "PortJoin",
    "Reason",
    "Reservation",
    "RxRing",
    "TxRing",
    "channel_port",
    "open_monitor",
    "open_pipe",
]

BATCH: Final[int] = lib.SK_BATCH
"""Packets that one call moves at most."""

Payload = bytes | bytearray | memoryview
"""What can be sent."""


class Reason(IntEnum):
    """Why a channel has ended: ``enum sk_reason`` of api.h. From ``SCHEMA_BAD`` on the other
    end broke the rules."""

    ACTIVE = lib.SK_ACTIVE
    CLOSED = lib.SK_CLOSED
    PEER_CLOSED = lib.SK_PEER_CLOSED
    PEER_DIED = lib.SK_PEER_DIED
    DEFUNCT = lib.SK_DEFUNCT
    SCHEMA_BAD = lib.SK_SCHEMA_BAD
    HEAD_OOB = lib.SK_HEAD_OOB
    HEAD_OOB_WRAP = lib.SK_HEAD_OOB_WRAP
    TAIL_MISMATCH = lib.SK_TAIL_MISMATCH
    UNALLOCATED_PKT = lib.SK_UNALLOCATED_PKT
    QUM_IDX_MISMATCH = lib.SK_QUM_IDX_MISMATCH
    BAD_BUFLET_CHAIN = lib.SK_BAD_BUFLET_CHAIN
    INTERNALIZE_FAILED = lib.SK_INTERNALIZE_FAILED


class Direction(IntFlag):
    """Which rings: sending or receiving."""

    TX = lib.SK_TX
    RX = lib.SK_RX


class ChannelError(OSError):
    """The channel has ended: errno ENXIO, and *reason* says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(errno.ENXIO, f"the channel has ended: {reason.name}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelParams:
    """What each end is made of; 0 is the default of ``struct sk_params`` in api.h.

    *slots* of the TX ring and *events* are powers of two, *buffer* bytes a
    multiple of 64; a packet has at most *max_frags* buffers, of which all but the
    first come from *buflets*; *flowadv* counts flow advisories.
    """

    slots: int = 0
    packets: int = 0
    buffer: int = 0
    buflets: int = 0
    max_frags: int = 0
    events: int = 0
    flowadv: int = 0

    @classmethod
    def of(cls, raw: Any) -> Self:
        """From a ``struct sk_params``."""
        return cls(**{name: getattr(raw, name) for name in cls.__slots__})

    def raw(self) -> Any:
        """As a ``struct sk_params *``."""
        return ffi.new("struct sk_params *", asdict(self))

    def checked(self) -> ChannelParams:
        """With defaults filled in. ValueError: no channel can be made so."""
        raw = self.raw()
        if lib.sk_params_check(raw) != 0:
            raise ValueError(f"no channel can be made of {self}")
        return ChannelParams.of(raw)


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """*side* is 0 for the server's end and 1 for the client's; *rx_fd* and *tx_fd* poll readable
    when receiving or sending may go on; *arena* counts the bytes shared."""

    params: ChannelParams
    side: int
    reason: Reason
    rx_fd: int
    tx_fd: int
    arena: int


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Counters of one end. Of its own packets *free* are in the pool, *held* with the user,
    *given* with the other end; *lent* of the other end's are here. *bells* counts wake-ups
    made, *copied* payload bytes copied in or out."""

    txpkts: int
    txbytes: int
    rxpkts: int
    rxbytes: int
    rxdropped: int
    txfull: int
    bells: int
    copied: int
    mondropped: int
    free: int
    held: int
    given: int
    lent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What travels with a packet: the metadata of ``struct pkt``. *direction* is set by a
    monitor."""

    time: int = 0
    flowid: int = 0
    origin: int = 0
    csum_start: int = 0
    csum_offset: int = 0
    gso_size: int = 0
    hdrlen: int = 0
    gso_type: int = 0
    flags: int = 0
    svc: int = 0
    direction: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A small message beside the packets. *type* 1 tells the transmit status, 2 the expiry, of
    the packet that *token* names."""

    type: int
    status: int
    token: int


def _nothing(_kept: object, _pointer: object) -> None:
    """What a view calls when it dies; the reference it held is dropped with it."""


def _ended(alive: list[bool], _kept: object, _pointer: object) -> None:
    """The last slice of a view is gone."""
    alive.clear()


def _lent(pointer: Any, length: int, keeper: object) -> memoryview:
    """A view that keeps *keeper* alive as long as any slice of it lives."""
    owned = ffi.gc(ffi.cast("unsigned char *", pointer), partial(_nothing, keeper))
    return memoryview(ffi.buffer(owned, length)).toreadonly()


@final
class Packet:
    """One packet received. What it lends stays valid as long as a view of it is held."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def __len__(self) -> int:
        """Bytes."""
        return int(self._batch._columns.len[self._index])

    @property
    def pieces(self) -> list[memoryview]:
        """Its bytes, one view for each buffer they are in."""
        batch, i = self._batch, self._index
        count = batch._columns.nfrags[i]
        if count == 1:
            return [_lent(batch._columns.data[i], batch._columns.first[i], batch._lend)]
        length = ffi.new("uint32_t *")
        out = []
        for piece in range(count):
            data = lib.sk_lend_frag(batch._lend, i, piece, length)
            out.append(_lent(data, length[0], batch._lend))
        return out

    @property
    def data(self) -> memoryview:
        """Its bytes in place. ValueError: they are in several buffers, see ``pieces``."""
        if self._batch._columns.nfrags[self._index] != 1:
            raise ValueError("the packet is in several pieces")
        return self.pieces[0]

    def __bytes__(self) -> bytes:
        """A copy."""
        return b"".join(self.pieces)

    @property
    def meta(self) -> Meta:
        """What came with it."""
        raw = self._batch._columns.meta[self._index]
        return Meta(
            time=raw.time,
            flowid=raw.flowid,
            origin=raw.origin,
            csum_start=raw.csum_start,
            csum_offset=raw.csum_offset,
            gso_size=raw.gso_size,
            hdrlen=raw.hdrlen,
            gso_type=raw.gso_type,
            flags=raw.flags,
            svc=raw.svc,
            direction=raw.spare,
        )


@final
class Batch(Sequence[Packet]):
    """Packets received in one call, given back when it, its packets and all views are gone."""

    __slots__ = ("_columns", "_lend", "_n")
    _columns: Any

    def __init__(self, lend: Any) -> None:
        self._lend = lend
        self._columns = None if lend is None else lib.sk_lend_batch(lend)
        self._n: int = 0 if lend is None else self._columns.n

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Packet]: ...
    def __getitem__(self, index: int | slice) -> Packet | Sequence[Packet]:
        if isinstance(index, slice):
            return [Packet(self, i) for i in range(self._n)[index]]
        return Packet(self, range(self._n)[index])

    @property
    def lengths(self) -> memoryview:
        """Bytes of each packet, as a column of unsigned 32-bit integers."""
        if self._n == 0:
            return memoryview(array("I"))
        column = ffi.addressof(self._columns, "len")
        return _lent(column, 4 * self._n, self._lend).cast("I")


_EMPTY: Final = Batch(None)


class _Ring:
    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel: Channel = weakref.proxy(channel)


@final
class RxRing(_Ring, Sequence[Packet]):
    """Packets that the other end has given and nobody has taken."""

    __slots__ = ()

    def __len__(self) -> int:
        """How many there are now."""
        return int(lib.sk_rx_pending(self._channel.raw))

    @overload
    def __getitem__(self, index: int) -> Packet: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Packet]: ...
    def __getitem__(self, index: int | slice) -> Packet | Sequence[Packet]:
        raise TypeError("packets are taken in order: receive_batch(), or iterate")

    def __iter__(self) -> Iterator[Packet]:
        """Take what is there, packet by packet."""
        while batch := self.receive_batch():
            yield from batch

    def receive_batch(self, most: int = BATCH) -> Batch:
        """Up to *most* packets, lent; an empty batch when there are none now.

        ChannelError: it has ended, and everything that came before is taken.
        """
        error = ffi.new("int *")
        raw = self._channel.raw
        lend = lib.sk_lend_receive(raw, most, error)
        if lend == ffi.NULL:
            self._channel._check(error[0])
            return _EMPTY
        return Batch(ffi.gc(lend, lib.sk_lend_drop))

    def receive_into(self, buffer: bytearray | memoryview, most: int = BATCH) -> array[int]:
        """Copy up to *most* packets into *buffer*, one after the other; their lengths.

        ValueError: *buffer* cannot hold the longest packet there may be.
        """
        data = ffi.from_buffer("unsigned char[]", buffer, require_writable=True)
        lengths = array("I", bytes(4 * min(most, BATCH)))
        column = ffi.from_buffer("uint32_t[]", lengths)
        raw = self._channel.raw
        got = lib.sk_receive_copy(raw, data, len(data), column, len(lengths))
        if got == -errno.EMSGSIZE:
            raise ValueError(f"a buffer of {len(data)} bytes is too small for a packet")
        ffi.release(column)
        del lengths[self._channel._check(got) :]
        return lengths


@final
class Reservation(Sequence[memoryview]):
    """Packets to be written in place; those that are not sent are freed at the end of the block.

    Sending one ends its view: BufferError says that a slice of it is still held.
    """

    __slots__ = ("_alive", "_channel", "_column", "_idx", "_n", "_views")

    def __init__(self, channel: Channel, idx: Any, n: int) -> None:
        self._channel = channel
        self._column = idx  # keeps what _idx, once moved on, points into
        self._idx = idx
        self._n = n
        self._alive: list[list[bool]] = [[] for _ in range(n)]
        self._views = [self._view(i) for i in range(n)]

    def _view(self, i: int) -> memoryview:
        raw, alive = self._channel.raw, [True]
        self._alive[i] = alive
        owned = ffi.gc(lib.sk_packet_data(raw, self._idx[i]), partial(_ended, alive, raw))
        return memoryview(ffi.buffer(owned, self._channel.params.buffer))

    def __len__(self) -> int:
        return self._n

    @overload
    def __getitem__(self, index: int) -> memoryview: ...
    @overload
    def __getitem__(self, index: slice) -> list[memoryview]: ...
    def __getitem__(self, index: int | slice) -> memoryview | list[memoryview]:
        return self._views[index]

    def send(self, lengths: Sequence[int]) -> int:
        """Give the first ``len(lengths)`` packets, so many bytes of each; how many went.

        The rest stays reserved, in its order.
        """
        count = min(len(lengths), self._n)
        for i in range(count):
            self._views[i].release()
            if self._alive[i]:
                self._views[i] = self._view(i)
                raise BufferError("a slice of the packet is still held")
        column = ffi.new("uint32_t[]", list(lengths))
        result = lib.sk_transmit(self._channel.raw, self._idx, column, ffi.NULL, count)
        if result == -errno.EINVAL:
            raise ValueError(f"a packet has at most {self._channel.params.buffer} bytes")
        sent = self._channel._check(result)
        self._drop(sent)
        return sent

    def _drop(self, count: int) -> None:
        self._idx += count
        self._n -= count
        del self._views[:count], self._alive[:count]

    def close(self) -> None:
        """Free what was not sent."""
        if self._n > 0 and not self._channel.is_closed:
            lib.sk_packet_free(self._channel.raw, self._idx, self._n)
        self._drop(self._n)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@final
class TxRing(_Ring):
    """The way to the other end. Every call says how much went; 0 is full."""

    __slots__ = ()

    def __len__(self) -> int:
        """How many packets of one buffer can be sent now."""
        return int(lib.sk_tx_room(self._channel.raw))

    def send(self, data: Payload, meta: Meta | None = None) -> bool:
        """Copy one packet and give it; False: no room. ValueError: it is too long."""
        raw = ffi.NULL if meta is None else _raw_meta(meta)
        payload = ffi.from_buffer("unsigned char[]", data)
        result = lib.sk_send(self._channel.raw, payload, len(payload), raw)
        return self._sent(result) == 1

    def send_batch(self, data: Payload, lengths: array[int] | Sequence[int]) -> int:
        """Copy and give packets that lie one after the other in *data*, *lengths* bytes each (an
        ``array('I')`` is not copied); how many went. ValueError: they do not fit."""
        column = lengths if isinstance(lengths, array) else array("I", lengths)
        if column.typecode != "I":
            raise TypeError("lengths is an array('I') or a sequence of integers")
        count = min(len(column), BATCH)
        payload = ffi.from_buffer("unsigned char[]", data)
        if sum(column[:count] if count < len(column) else column) > len(payload):
            raise ValueError("the lengths add up to more than there is data")
        raw = self._channel.raw
        result = lib.sk_send_batch(raw, payload, ffi.from_buffer("uint32_t[]", column), count)
        return self._sent(result)

    def reserve(self, most: int = 1) -> Reservation:
        """Up to *most* packets of one buffer each, to be written in place."""
        count = min(most, self._channel.params.packets)
        idx = ffi.new("uint32_t[]", max(count, 1))
        got = self._channel._check(lib.sk_packet_alloc(self._channel.raw, idx, count))
        return Reservation(self._channel.itself(), idx, got)

    def is_admissible(self, flowid: int) -> bool:
        """Whether a flow may send: False while the other end has it suspended.

        LookupError: its advisory is not this flow's.
        """
        result: int = lib.sk_flow_admissible(self._channel.raw, flowid)
        if result == -errno.ENOBUFS:
            return False
        if result == -errno.ENOENT:
            raise LookupError(f"no advisory for flow {flowid:#x}")
        self._channel._check(result)
        return True

    def advise(self, flowid: int, *, suspended: bool) -> None:
        """Tell the other end whether a flow of its may send."""
        flags = 2 if suspended else 0
        self._channel._check(lib.sk_flow_advise(self._channel.raw, flowid, flags))

    def _sent(self, result: int) -> int:
        if result == -errno.EMSGSIZE:
            params = self._channel.params
            raise ValueError(f"a packet has at most {params.buffer * params.max_frags} bytes")
        return self._channel._check(result)


@final
class EventRing(_Ring):
    """Small messages in both directions, beside the packets."""

    __slots__ = ()

    def post(self, event: Event) -> bool:
        """Send one; False: no room."""
        raw = ffi.new("struct sk_event *", asdict(event))
        return self._channel._check(lib.sk_event_post(self._channel.raw, raw)) == 1

    def __iter__(self) -> Iterator[Event]:
        """Take those that have come."""
        raw = ffi.new("struct sk_event *")
        while self._channel._check(lib.sk_event_next(self._channel.raw, raw)) == 1:
            yield Event(raw.type, raw.status, raw.token)


def _raw_meta(meta: Meta) -> Any:
    fields = asdict(meta)
    fields["spare"] = fields.pop("direction")
    return ffi.new("struct sk_meta *", fields)


@final
class Channel:
    """One end. Close it, or use ``with``."""

    __slots__ = ("__weakref__", "_keep", "_raw", "events", "params", "rx", "tx")

    def __init__(self, raw: Any) -> None:
        """Take over *raw*, a ``struct channel *``."""
        self._raw = ffi.gc(raw, lib.sk_channel_free)
        self._keep: tuple[Any, ...] = ()
        info = ffi.new("struct sk_info *")
        lib.sk_channel_info(raw, info)
        self.params = ChannelParams.of(info.params)
        self.tx = TxRing(self)
        self.rx = RxRing(self)
        self.events = EventRing(self)
        _OPEN.add(self)

    @property
    def raw(self) -> Any:
        """The ``struct channel *``. Still this object's."""
        if self._raw is None:
            raise ChannelError(Reason.CLOSED)
        return self._raw

    def raw_pointer(self) -> Any:
        """The same pointer without this object's ownership."""
        return ffi.cast("struct channel *", self.raw)

    def itself(self) -> Channel:
        """This object, for whoever has only a proxy of it."""
        return self

    @property
    def is_closed(self) -> bool:
        """True after ``close``."""
        return self._raw is None

    @property
    def reason(self) -> Reason:
        """Why it has ended; ``ACTIVE`` while it has not. What came before may still be taken."""
        if self._raw is None:
            return Reason.CLOSED
        return Reason(lib.sk_channel_reason(self._raw))

    @property
    def info(self) -> ChannelInfo:
        """What it is made of and what to poll."""
        raw = ffi.new("struct sk_info *")
        lib.sk_channel_info(self.raw, raw)
        return ChannelInfo(
            self.params, raw.side, Reason(raw.reason), raw.rx_fd, raw.tx_fd, raw.arena
        )

    def statistics(self) -> ChannelStatistics:
        """Its counters. Any thread may ask."""
        raw = ffi.new("struct sk_stats *")
        lib.sk_channel_stats(self.raw, raw)
        return ChannelStatistics(*(getattr(raw, n) for n in ChannelStatistics.__slots__))

    def fileno(self) -> int:
        """What polls readable when a packet, an event or the end comes, once ``arm`` said no."""
        return self.info.rx_fd

    def arm(self, direction: Direction) -> bool:
        """Whether *direction* may go on now. If not, its descriptor polls readable when it may."""
        return self._check(lib.sk_channel_arm(self.raw, direction)) == 1

    def wait_readable(self, timeout: float | None = None) -> bool:
        """Wait, without the GIL, until there is something to receive; False: *timeout* seconds
        have passed. ChannelError when it ends."""
        return self._wait(Direction.RX, timeout)

    def wait_writable(self, timeout: float | None = None) -> bool:
        """The same until something can be sent."""
        return self._wait(Direction.TX, timeout)

    def _wait(self, direction: Direction, timeout: float | None) -> bool:
        limit = -1 if timeout is None else int(timeout * 1e9)
        while True:
            if self.arm(direction):
                return True
            result = lib.sk_channel_wait(self.raw, direction, limit)
            if result == 0:
                return self.arm(direction)
            if result != -errno.EINTR:
                self._check(result)

    def sync(self, directions: Direction = Direction.TX | Direction.RX) -> None:
        """Take back what the other end has released, and see whether it is still there."""
        self._check(lib.sk_channel_sync(self.raw, directions))

    def defunct(self) -> None:
        """Take the memory away: views read zeros, every call raises ChannelError."""
        lib.sk_channel_defunct(self.raw)

    def close(self) -> None:
        """End it. Views that are still held stay valid. Twice is harmless."""
        raw, self._raw = self._raw, None
        if raw is not None:
            lib.sk_channel_close(raw)
            for one in self._keep:
                one.close()

    def keep(self, *ones: Any) -> None:
        """Close these when the channel is closed."""
        self._keep = (*self._keep, *ones)

    def release(self) -> Any:
        """Hand over the ``struct channel *``; this object is then closed."""
        raw = self.raw
        self._raw = None
        ffi.gc(raw, None)
        return raw

    def _check(self, result: int) -> int:
        if result == -errno.ENXIO:
            raise ChannelError(self.reason)
        return check(result)

    def _forked(self) -> None:
        if self._raw is not None:
            lib.sk_channel_forked(self._raw)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        side = "closed" if self._raw is None else ("server", "client")[self.info.side]
        return f"<skywalk.Channel {side} {self.reason.name}>"


# A channel belongs to the process that opened it.
_OPEN: Final[weakref.WeakSet[Channel]] = weakref.WeakSet()


def _forget() -> None:
    for channel in list(_OPEN):
        channel._forked()


os.register_at_fork(after_in_child=_forget)


def open_pipe(params: ChannelParams | None = None) -> tuple[Channel, Channel]:
    """Both ends of a user pipe in this process: the server's, the client's."""
    out = ffi.new("struct channel *[2]")
    check(lib.sk_pipe_open((params or ChannelParams()).checked().raw(), out))
    return Channel(out[0]), Channel(out[1])


def open_monitor(
    target: Channel,
    directions: Direction = Direction.TX | Direction.RX,
    params: ChannelParams | None = None,
) -> Channel:
    """A channel on which copies of what *target* sends and receives arrive, ``meta.direction``
    telling which. What it has no room for is lost to it (``mondropped``).

    ValueError: *target* has a monitor already.
    """
    out = ffi.new("struct channel *[2]")
    check(lib.sk_pipe_open((params or target.params).checked().raw(), out))
    tap, reader = Channel(out[0]), Channel(out[1])
    reader.keep(tap)
    watch(target, tap, directions)
    return reader


def channel_port(channel: Channel, pool: Pool, *, link: str = "rawip", mtu: int = 1500) -> Port:
    """A port over *channel*, which it takes over: what a stack or a switch in this process
    needs to speak to one at the other end. *link* is ``rawip`` or ``ethernet``; *pool* is
    where its packets' headers come from.

    ValueError: the channel's longest packet does not hold *mtu* bytes and a link header.
    """
    out = ffi.new("struct port **")
    kind = ("ethernet", "rawip").index(link)
    result = lib.sk_channel_port(channel.release(), pool.raw, kind, mtu, out)
    if result == -errno.EINVAL:
        raise ValueError(f"{channel.params} does not hold packets of {mtu} bytes")
    check(result)
    return Port(out[0], pool)


@final
class PortJoin:
    """Two ports back to back: what one receives the other sends.

    With it a stack in another process uses a port of a switch in this one: the
    port of its channel's other end is joined to that of the switch. Both are
    taken over. ``run`` is called when ``fileno`` polls readable and at ``poll_at``.
    """

    __slots__ = ("_poll", "_ports", "_raw")

    def __init__(self, a: Port, b: Port) -> None:
        """ValueError: their links differ."""
        out = ffi.new("struct sk_join **")
        if lib.sk_join_open(a.raw, b.raw, out) == -errno.EINVAL:
            raise ValueError(f"{a!r} and {b!r} have different links")
        self._raw = out[0]
        self._ports = (a, b)
        self._poll = select.epoll()
        for port in self._ports:
            if port.fileno() >= 0:
                self._poll.register(port.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """Polls readable when there is something to move."""
        return self._poll.fileno()

    def poll_at(self) -> int:
        """When ``run`` is wanted even if nothing polls readable, in its nanoseconds.

        ``nic.NEVER``: no such time. A port that was full does not always show that it has
        room, and the switch waits for next hops.
        """
        return NEVER if self._raw is None else int(lib.sk_join_poll_at(self._raw))

    def run(self, now: int = 0) -> None:
        """Move what there is, at *now* nanoseconds. OSError: one of the ports has ended."""
        while self._raw is not None and check(lib.sk_join_run(self._raw, now)) == 1:
            pass

    def close(self) -> None:
        """Close both ports. Twice is harmless."""
        raw, self._raw = self._raw, None
        if raw is not None:
            self._poll.close()
            lib.sk_join_close(raw)
            for port in self._ports:
                port.close()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def watch(target: Channel, tap: Channel, directions: Direction) -> None:
    """Send copies of what crosses *target* to *tap*, which nobody else sends on."""
    if lib.sk_monitor(target.raw, tap.raw, directions) != 0:
        raise ValueError("the channel has a monitor already")
