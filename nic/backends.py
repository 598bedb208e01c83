"""From a specification to a port: interfaces opened, pairs made, wrappers put around them.

A wrapper takes its port over: the object it was given is closed, also when
wrapping fails, and the one returned owns everything.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from nic._ffi import check, ffi, lib
from nic.pool import Pool
from nic.port import Caps, Port, classq_config
from nic.spec import FANOUT_MODES, ClassqSpec, FaultSpec, NicSpec, SpecError

__all__ = [
    "NicError",
    "open_pair",
    "open_port",
    "open_ports",
    "wrap_capoff",
    "wrap_classq",
    "wrap_fault",
    "wrap_pcapng",
]

ETHERNET_MTU = 1500
LO_MTU = 65535

_PLAIN = Caps.SG | Caps.MEMORY | Caps.BROADCAST
_CSUM = _PLAIN | Caps.TXCSUM | Caps.RXCSUM
_TSO = _CSUM | Caps.TSO4 | Caps.TSO6 | Caps.LRO
_OFFLOAD = {"off": _PLAIN, "csum": _CSUM, "tso": _TSO, "all": _TSO | Caps.USO}

# Who may open what: capabilities(7).
_PRIVILEGE = {"tap": "CAP_NET_ADMIN", "tun": "CAP_NET_ADMIN", "af_packet": "CAP_NET_RAW"}


class NicError(OSError):
    """An interface could not be opened; the message is one line that says what to do."""

    def __str__(self) -> str:
        return str(self.strerror)


def open_port(spec: NicSpec | str, pool: Pool | None = None) -> Port:
    """Open the interface that *spec* names, with one queue.

    Without a *pool* the port gets one of its own. NicError: it is absent, in
    use, or not permitted. SpecError: *spec* is malformed, or not one port.
    """
    spec = NicSpec.parse(spec) if isinstance(spec, str) else spec
    if spec.queues != 1:
        raise SpecError(f"{spec}: has {spec.queues} queues; open_ports() opens them all")
    return open_ports(spec, pool)[0]


def open_ports(spec: NicSpec | str, pool: Pool | None = None) -> tuple[Port, ...]:
    """Open all queues of the interface that *spec* names, or none: one port each.

    Each may be driven by its own thread if each has its own pool, as without *pool*.
    """
    spec = NicSpec.parse(spec) if isinstance(spec, str) else spec
    opener = _OPENERS.get(spec.kind)
    if opener is None:
        why = {
            "usernet": "is composed of ports by xsock, not opened by nic",
            "feth": "is two ports; open_pair() makes them",
        }
        raise SpecError(f"{spec.kind}: {why[spec.kind]}")
    ports: list[Port] = []
    with ExitStack() as undo:
        for _ in range(spec.queues):
            port = _open_queue(opener, spec, pool)
            undo.callback(port.close)
            ports.append(port)
        undo.pop_all()
    return tuple(ports)


def open_pair(
    link: str = "ethernet",
    *,
    mtu: int = ETHERNET_MTU,
    queue: int = 256,
    caps: Caps | None = None,
    threads: bool = False,
    pools: tuple[Pool, Pool] | None = None,
) -> tuple[Port, Port]:
    """Make two ports joined by a wire in memory that holds *queue* packets each way.

    *link* is ``ethernet`` or ``rawip``; *caps* limits the offloads (None: all).
    With *threads* each end has a descriptor and the ends may be driven by
    different threads; then they need different *pools*.
    """
    if link not in ("ethernet", "rawip"):
        raise ValueError(f"link is 'ethernet' or 'rawip', not {link!r}")
    first, second = pools if pools is not None else (Pool(), Pool())
    out_a, out_b = ffi.new("struct port **"), ffi.new("struct port **")
    check(
        lib.nic_feth_open(
            first.raw,
            second.raw,
            ("ethernet", "rawip").index(link),
            mtu,
            queue,
            _mask(caps),
            threads,
            out_a,
            out_b,
        )
    )
    ends = Port(out_a[0], first), Port(out_b[0], second)
    if pools is None:
        first.close()
        second.close()
    return ends


def wrap_pcapng(
    port: Port,
    path: str | os.PathLike[str],
    *,
    snaplen: int = 0,
    name: str | None = None,
    epoch_offset_ns: int = 0,
) -> Port:
    """Record what passes *port* in a new pcapng file at *path*, readable by its owner only.

    *snaplen* bytes of a packet are kept (0: all). *epoch_offset_ns* is what
    the wall clock is ahead of the clock that the port is driven by.
    """
    file = os.fsencode(path)
    ifname = ffi.NULL if name is None else ffi.new("char[]", name.encode())
    try:
        return _wrap(
            port,
            lambda raw, out: lib.nic_pcapng_wrap(raw, file, snaplen, ifname, epoch_offset_ns, out),
        )
    except OSError as error:
        number = error.errno or errno.EIO
        reason = {
            errno.ENXIO: "a FIFO that nobody reads; start the reader first",
            errno.ENOENT: "its directory does not exist",
        }.get(number, os.strerror(number))
        raise NicError(number, f"cannot write the capture {os.fspath(path)!r}: {reason}") from None


def wrap_fault(port: Port, spec: FaultSpec | str | None = None) -> Port:
    """Put *spec*'s faults, none by default, between *port* and whoever drives it."""
    spec = FaultSpec.parse(spec) if isinstance(spec, str) else spec or FaultSpec()
    seed = spec.seed
    wrapped = _wrap(port, lambda raw, out: lib.nic_fault_wrap(raw, seed, out))
    try:
        wrapped.set_fault(spec)
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def wrap_classq(port: Port, spec: ClassqSpec | str | None = None) -> Port:
    """Put class queues, and *spec*'s rate, between *port* and whoever drives it.

    Packets wait in ten class queues, inside a class by flow; without a rate
    only those that *port* does not take at once.
    """
    spec = ClassqSpec.parse(spec) if isinstance(spec, str) else spec or ClassqSpec()
    config = classq_config(spec)
    return _wrap(port, lambda raw, out: lib.nic_classq_wrap(raw, config, out))


def wrap_capoff(port: Port, caps: Caps) -> Port:
    """Hide all capabilities of *port* but *caps*, so that software does the rest."""
    return _wrap(port, lambda raw, out: lib.nic_capoff_wrap(raw, int(caps), out))


def _mask(caps: Caps | None) -> int:
    return 0xFFFFFFFF if caps is None else int(caps)


def _wrap(port: Port, make: Callable[[Any, Any], int]) -> Port:
    out = ffi.new("struct port **")
    raw, pool = port.release()
    try:
        check(make(raw, out))  # the lower port is closed if this fails
        return Port(out[0], pool)
    finally:
        pool.drop()


_Opener = Callable[[NicSpec, Any, Any], int]


def _open_queue(opener: _Opener, spec: NicSpec, pool: Pool | None) -> Port:
    out = ffi.new("struct port **")
    own = Pool() if pool is None else pool.hold()
    try:
        check(opener(spec, own.raw, out))
        port = Port(out[0], own)
    except OSError as error:
        raise _explain(spec, error) from None
    finally:
        if pool is None:
            own.close()
        else:
            own.drop()
    try:
        if spec.mtu is not None and port.info.mtu != spec.mtu:
            port.set_mtu(spec.mtu)
    except OSError as error:
        port.close()
        number = error.errno or errno.EIO
        why = f"cannot set mtu={spec.mtu}: {os.strerror(number)}"
        raise NicError(number, f"{spec.kind}:{spec.name}: {why}") from None
    return port


def _open_lo(spec: NicSpec, pool: Any, out: Any) -> int:
    return int(lib.nic_lo_open(pool, LO_MTU if spec.mtu is None else spec.mtu, out))


def _open_tap(spec: NicSpec, pool: Any, out: Any) -> int:
    return int(
        lib.nic_tap_open(
            pool,
            spec.name.encode(),
            spec.kind == "tun",
            spec.queues > 1,
            _mask(_OFFLOAD[spec.offload]),
            out,
        )
    )


def _open_af_packet(spec: NicSpec, pool: Any, out: Any) -> int:
    group, mode = spec.fanout if spec.fanout is not None else (-1, "hash")
    return int(
        lib.nic_af_packet_open(
            pool,
            spec.name.encode(),
            ffi.NULL if spec.mac is None else spec.mac,
            spec.promisc,
            group,
            FANOUT_MODES[mode],
            spec.ring,
            _mask(_OFFLOAD[spec.offload]),
            out,
        )
    )


_OPENERS: dict[str, _Opener] = {
    "lo": _open_lo,
    "tap": _open_tap,
    "tun": _open_tap,
    "af_packet": _open_af_packet,
}


def _interfaces() -> str:
    """Names of the interfaces there are, from the host whatever `socket` is patched to."""
    import _socket

    names = sorted(name for _, name in _socket.if_nameindex())
    return ", ".join(names) or "none"


def _explain(spec: NicSpec, error: OSError) -> NicError:
    """What opening failed on, and what to do about it, in one line."""
    name, number = f"{spec.kind}:{spec.name}", error.errno or errno.EIO
    match number:
        case errno.EPERM | errno.EACCES:
            what = f"not permitted; needs {_PRIVILEGE.get(spec.kind, 'root')} (run as root), "
            what += "or use --nic usernet, which needs nothing"
        case errno.ENODEV | errno.ENXIO if spec.kind == "af_packet":
            what = f"no such interface; there are: {_interfaces()}"
        case errno.ENOENT | errno.ENODEV | errno.ENXIO if spec.kind in ("tap", "tun"):
            what = "/dev/net/tun is missing; load the module (modprobe tun) or pass the device in"
        case errno.EBUSY:
            what = "in use by another program, or made for another number of queues"
        case errno.EINVAL if spec.kind in ("tap", "tun"):
            what = f"an interface of that name exists and is no {spec.kind}; choose another name"
        case errno.ENETDOWN:
            what = f"the interface is down; ip link set {spec.name} up"
        case _:
            what = os.strerror(number)
    return NicError(number, f"{name}: {what}")
