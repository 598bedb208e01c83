"""A network interface as Python holds it: owned, asked, set; frames only by copy.

Packets in bulk never come up here. A stack or a switch takes the C port behind
a :class:`Port` and drives it; ``send`` and ``recv`` are for tests and tools.
Times are nanoseconds and always the caller's: no clock is read here.
"""

from __future__ import annotations

import errno
import warnings
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Self, final

from nic._ffi import check, ffi, lib
from nic.pool import Pool
from nic.spec import DIRECTIONS, ClassqSpec, FaultSpec

__all__ = [
    "NEVER",
    "Caps",
    "CaptureStatistics",
    "ClassqFlow",
    "ClassqStatistics",
    "FaultStatistics",
    "Gso",
    "Offload",
    "Port",
    "PortInfo",
    "PortStatistics",
    "classq_config",
]

NEVER = 2**64 - 1
"""What :meth:`Port.poll_at` answers when nothing is planned."""

FRAME_MAX = 65536 + 4096  # PKT_BIG: no packet is longer
_DISTRIBUTION = {"uniform": 0, "normal": 1, "pareto": 2}


class Caps(IntFlag):
    """What a port does for its sender and vouches for: PORT_* of port.h."""

    TXCSUM = 0x001
    TSO4 = 0x002
    TSO6 = 0x004
    USO = 0x008
    RXCSUM = 0x010
    LRO = 0x020
    SG = 0x040
    MEMORY = 0x080
    BROADCAST = 0x100


class Gso(IntEnum):
    """Kinds of super-segment: PKT_GSO_* of pkt.h, the numbers of virtio_net_hdr."""

    NONE = 0
    TCPV4 = 1
    TCPV6 = 4
    UDP_L4 = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """What is left to do to a frame. *csum*: the field at *csum_start* + *csum_offset* holds the
    pseudo-header sum; *gso_size* bytes of payload make a segment of kind *gso*. *csum_ok*: a
    received checksum was vouched for."""

    csum: bool = False
    csum_ok: bool = False
    csum_start: int = 0
    csum_offset: int = 0
    gso: Gso = Gso.NONE
    gso_size: int = 0


@dataclass(frozen=True, slots=True)
class PortInfo:
    """*kind* is the backend's or wrapper's name, *link* ``ethernet`` or ``rawip``; *mtu* counts IP
    bytes, *gsomax* the bytes of the longest super-segment; *fd* polls readable, -1 for none."""

    name: str
    kind: str
    caps: Caps
    mtu: int
    gsomax: int
    link: str
    mac: bytes
    fd: int


@dataclass(frozen=True, slots=True)
class PortStatistics:
    """Counters of one port; each wrapper has its own. *swcsum* checksums and *swgso*
    super-segments were finished in software on their way out."""

    rxpkts: int
    rxbytes: int
    rxdrops: int
    rxerrs: int
    txpkts: int
    txbytes: int
    txdrops: int
    txerrs: int
    swcsum: int
    swgso: int


@dataclass(frozen=True, slots=True)
class FaultStatistics:
    """What a fault injector did in one direction, in packets; *lost* to *nomem* were dropped."""

    passed: int
    held: int
    lost: int
    burst: int
    queue: int
    mtu: int
    partition: int
    nomem: int
    duplicated: int
    corrupted: int
    reordered: int


@dataclass(frozen=True, slots=True)
class CaptureStatistics:
    """*packets* recorded, *bytes* written, packets *lost* to the record because the file took
    no more, and write *errors*."""

    packets: int
    bytes: int
    lost: int
    errors: int


@dataclass(frozen=True, slots=True)
class ClassqStatistics:
    """One class queue: packets and bytes sent; packets dropped at the limit (*overflow*) or for
    their delay (*aqm*), *marks* and *suspends* instead of that; *pkts*, *bytes* and *flows* queued
    now; the longest wait so far, in nanoseconds."""

    txpkts: int
    txbytes: int
    overflow: int
    aqm: int
    marks: int
    suspends: int
    pkts: int
    bytes: int
    flows: int
    maxdelay_ns: int


@dataclass(frozen=True, slots=True)
class ClassqFlow:
    """One flow of class queue *queue*. *flags*: 1 old, 2 new, 4 large, 8 its delay is high,
    16 its sender has been stopped."""

    flowid: int
    queue: int
    flags: int
    pkts: int
    bytes: int
    mindelay_ns: int
    txpkts: int
    txbytes: int
    drops: int
    marks: int
    suspends: int


def classq_config(spec: ClassqSpec) -> Any:
    """*spec* as the ``struct nic_classq *`` that C takes."""
    out = ffi.new("struct nic_classq *")
    out.rate_bps, out.burst, out.limit = spec.rate, spec.burst, spec.limit
    out.target_ns, out.interval_ns = spec.target, spec.interval
    out.no_ecn = not spec.ecn
    return out


@final
class Port:
    """One end of a link, and the wrappers around it. Made by ``nic.backends``.

    Drive it from one thread at a time. Close it, or use ``with``: what is
    still on its way through it is freed then.
    """

    __slots__ = ("_buffer", "_pool", "_port")

    def __init__(self, raw: Any, pool: Pool) -> None:
        """Take over *raw*, a ``struct port *`` that allocates from *pool*, and hold the pool."""
        self._pool = pool.hold()
        self._port = raw
        self._buffer: Any = None

    @property
    def raw(self) -> Any:
        """The ``struct port *``, for the C of another package. Still this object's."""
        if self._port is None:
            raise ValueError("the port is closed")
        return self._port

    @property
    def pool(self) -> Pool:
        """Where packets for this port come from."""
        return self._pool

    @property
    def is_closed(self) -> bool:
        """True after ``close`` and after ``release``."""
        return self._port is None

    def release(self) -> tuple[Any, Pool]:
        """Hand over the ``struct port *`` and the hold on its pool; this object is then closed.

        Whoever takes them closes the port first and drops the pool after it.
        """
        raw = self.raw
        self._port = None
        return raw, self._pool

    def close(self) -> None:
        """Close the port and all that it wraps. Twice is harmless."""
        port, self._port = self._port, None
        if port is not None:
            lib.nic_close(port)
            self._pool.drop()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_port", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close()

    def __repr__(self) -> str:
        if self._port is None:
            return "<nic.Port closed>"
        info = self.info
        return f"<nic.Port {info.kind} {info.name!r} mtu={info.mtu} {info.link}>"

    @property
    def info(self) -> PortInfo:
        """What the port is and can do now."""
        out = ffi.new("struct nic_info *")
        lib.nic_info(self.raw, out)
        return PortInfo(
            name=ffi.string(out.name).decode(errors="backslashreplace"),
            kind=ffi.string(out.kind).decode(),
            caps=Caps(out.caps),
            mtu=out.mtu,
            gsomax=out.gsomax,
            link="ethernet" if out.link == 0 else "rawip",
            mac=bytes(ffi.buffer(out.mac)),
            fd=out.fd,
        )

    def statistics(self) -> PortStatistics:
        """The port's counters. Any thread may ask."""
        out = ffi.new("struct nic_stats *")
        lib.nic_stats(self.raw, out)
        return PortStatistics(
            out.rxpkts,
            out.rxbytes,
            out.rxdrops,
            out.rxerrs,
            out.txpkts,
            out.txbytes,
            out.txdrops,
            out.txerrs,
            out.swcsum,
            out.swgso,
        )

    def fileno(self) -> int:
        """A descriptor that polls readable when ``recv`` has something; -1 if there is none."""
        return self.info.fd

    def poll_at(self) -> int:
        """When the port wants ``recv`` called for its own sake, or ``NEVER``."""
        return int(lib.nic_poll_at(self.raw))

    def send(
        self, frame: bytes | bytearray | memoryview, now: int = 0, todo: Offload | None = None
    ) -> None:
        """Send one whole frame, with *todo* left to the port or its software.

        BlockingIOError: the port is full and took nothing. Errno EINVAL:
        *todo* does not fit the frame.
        """
        data = ffi.from_buffer(frame)
        if todo is None:
            check(lib.nic_send(self.raw, data, len(data), now))
            return
        out = ffi.new("struct nic_offload *")
        out.csum, out.csum_start, out.csum_offset = todo.csum, todo.csum_start, todo.csum_offset
        out.gso_type, out.gso_size = todo.gso, todo.gso_size
        check(lib.nic_send_offload(self.raw, data, len(data), out, now))

    def send_class(
        self, frame: bytes | bytearray | memoryview, svc: int, flowid: int = 0, now: int = 0
    ) -> None:
        """Send one whole frame of service class *svc* (SVC_* of qos.h), as of flow *flowid*."""
        data = ffi.from_buffer(frame)
        check(lib.nic_send_class(self.raw, data, len(data), svc, flowid, now))

    def recv(self, now: int = 0) -> bytes | None:
        """One whole frame, its checksum finished, or None when there is none now."""
        buffer = self._receive_buffer()
        got = check(lib.nic_recv(self.raw, buffer, FRAME_MAX, now))
        return bytes(ffi.buffer(buffer, got)) if got else None

    def recv_offload(self, now: int = 0) -> tuple[bytes, Offload] | None:
        """One whole frame as it came, and what is left to do to it, or None."""
        buffer = self._receive_buffer()
        todo = ffi.new("struct nic_offload *")
        got = check(lib.nic_recv_offload(self.raw, buffer, FRAME_MAX, todo, now))
        if not got:
            return None
        return bytes(ffi.buffer(buffer, got)), Offload(
            csum=bool(todo.csum),
            csum_ok=bool(todo.csum_ok),
            csum_start=todo.csum_start,
            csum_offset=todo.csum_offset,
            gso=Gso(todo.gso_type),
            gso_size=todo.gso_size,
        )

    def _receive_buffer(self) -> Any:
        if self._buffer is None:
            self._buffer = ffi.new("unsigned char[]", FRAME_MAX)
        return self._buffer

    def set_mtu(self, mtu: int) -> None:
        """Change the MTU, in IP bytes."""
        check(lib.nic_set_mtu(self.raw, mtu))

    def set_promisc(self, on: bool) -> None:
        """Take all frames, or only those for this port and for groups."""
        check(lib.nic_set_promisc(self.raw, on))

    def set_mac(self, mac: bytes) -> None:
        """Change the link-layer address: 6 bytes, not a group's."""
        if len(mac) != 6:
            raise ValueError(f"a link-layer address has 6 bytes, not {len(mac)}")
        check(lib.nic_set_mac(self.raw, mac))

    def set_fault(self, spec: FaultSpec) -> None:
        """Let this go wrong from now on, in the direction that *spec* names.

        For a port wrapped by ``wrap_fault``; any thread may call. *seed* was
        chosen then and is not changed here.
        """
        cfg = ffi.new("struct nic_fault *")
        cfg.loss = spec.loss
        cfg.ge_p, cfg.ge_r, cfg.ge_loss_bad = spec.burst_p, spec.burst_r, spec.burst_loss
        cfg.dup, cfg.corrupt = spec.dup, spec.corrupt
        cfg.reorder, cfg.reorder_gap_ns = spec.reorder, spec.reorder_gap
        cfg.delay_ns, cfg.jitter_ns = spec.delay, spec.jitter
        cfg.jitter_dist = _DISTRIBUTION[spec.jitter_dist]
        cfg.rate_bps, cfg.queue_pkts = spec.rate, spec.queue
        cfg.mtu = spec.mtu
        cfg.partition = spec.partition
        result = lib.nic_fault_set(self.raw, DIRECTIONS.index(spec.dir), cfg)
        self._check_wrapper(result, "fault injector", "wrap_fault")

    def fault_statistics(self, direction: str) -> FaultStatistics:
        """What the fault injector did to packets in *direction*, ``tx`` or ``rx``."""
        out = ffi.new("struct nic_fault_stats *")
        result = lib.nic_fault_stats(self.raw, ("tx", "rx").index(direction), out)
        self._check_wrapper(result, "fault injector", "wrap_fault")
        return FaultStatistics(
            out.passed,
            out.held,
            out.lost,
            out.burst,
            out.queue,
            out.mtu,
            out.partition,
            out.nomem,
            out.duplicated,
            out.corrupted,
            out.reordered,
        )

    def set_classq(self, spec: ClassqSpec) -> None:
        """Schedule and shape like this from the next packet on; *spec*'s limit is not changed.

        For a port wrapped by ``wrap_classq``; any thread may call.
        """
        result = lib.nic_classq_set(self.raw, classq_config(spec))
        self._check_wrapper(result, "class queues", "wrap_classq")

    def classq_statistics(self, queue: int) -> ClassqStatistics:
        """Counters of class queue *queue*, from 0 (control) to 9 (system background)."""
        if not 0 <= queue < 10:
            raise ValueError(f"a class queue is 0 to 9, not {queue}")
        out = ffi.new("struct nic_classq_stats *")
        result = lib.nic_classq_stats(self.raw, queue, out)
        self._check_wrapper(result, "class queues", "wrap_classq")
        return ClassqStatistics(
            out.txpkts,
            out.txbytes,
            out.overflow,
            out.aqm,
            out.marks,
            out.suspends,
            out.pkts,
            out.bytes,
            out.flows,
            out.maxdelay_ns,
        )

    def classq_flows(self) -> list[ClassqFlow]:
        """The flows that the class queues know, those idle for less than 3 s among them."""
        count = lib.nic_classq_flows(self.raw, ffi.NULL, 0)
        self._check_wrapper(min(count, 0), "class queues", "wrap_classq")
        out = ffi.new("struct nic_classq_flow[]", max(count, 1))
        count = min(count, lib.nic_classq_flows(self.raw, out, count))
        return [
            ClassqFlow(
                f.flowid,
                f.queue,
                f.flags,
                f.pkts,
                f.bytes,
                f.mindelay_ns,
                f.txpkts,
                f.txbytes,
                f.drops,
                f.marks,
                f.suspends,
            )
            for f in out[0:count]
        ]

    def comment(self, text: str) -> None:
        """Attach *text* to the next packet that the capture records. Any thread may call."""
        data = text.encode()
        if not data or b"\0" in data:
            raise ValueError("a comment is text without NUL, and not empty")
        self._check_wrapper(lib.nic_pcapng_comment(self.raw, data), "capture", "wrap_pcapng")

    def flush_capture(self) -> None:
        """Write what the capture has recorded so far to its file. Any thread may call."""
        self._check_wrapper(lib.nic_pcapng_flush(self.raw), "capture", "wrap_pcapng")

    def capture_statistics(self) -> CaptureStatistics:
        """What the capture has recorded and lost."""
        out = ffi.new("struct nic_pcapng_stats *")
        self._check_wrapper(lib.nic_pcapng_stats(self.raw, out), "capture", "wrap_pcapng")
        return CaptureStatistics(out.packets, out.bytes, out.lost, out.errors)

    def _check_wrapper(self, result: int, what: str, maker: str) -> None:
        # The one reason for EINVAL here, since all arguments are checked before.
        if result == -errno.EINVAL:
            raise ValueError(f"{self!r} has no {what}; nic.{maker}() adds one")
        check(result)
