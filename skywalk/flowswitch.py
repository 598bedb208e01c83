"""The flowswitch of an interface and the port namespace its stacks share.

A :class:`Netns` says who owns which port and flow; a :class:`Flowswitch` takes
over a NIC port and hands out HOST and CLIENT ports, which stacks attach to as
to any other. Everything between is C; nothing here is called for a packet.
"""

from __future__ import annotations

import ipaddress
import os
import warnings
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self, final

from nic import Pool, Port
from skywalk._ffi import check, ffi, lib

__all__ = ["FlowInfo", "FlowState", "Flowswitch", "Netns", "Owner", "OwnerKind", "SwitchInfo"]


class OwnerKind(IntEnum):
    """Whose ports: the BSD stack's, or a user-space stack's."""

    HOST = 0
    CLIENT = 1


class FlowState(IntEnum):
    """A port alone, a connected flow, or one whose owner went without closing."""

    RESERVED = 0
    ATTACHED = 1
    LINGER = 2


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """One entry of the namespace. *tcp* is ``""`` for what is no TCP flow; *flowid* 0 for a port;
    *suspended*: its sender shall wait."""

    proto: int
    local: tuple[str, int]
    foreign: tuple[str, int]
    kind: OwnerKind
    state: FlowState
    tcp: str
    flowid: int
    suspended: bool
    pid: int
    rxpkts: int
    rxbytes: int
    txpkts: int
    txbytes: int


@dataclass(frozen=True, slots=True)
class SwitchInfo:
    """*clients* open; *backlog* packets that DEV has no room for; *routes* next hops known;
    *fragments* held; *is_alive* until HOST is closed."""

    name: str
    link: str
    mtu: int
    clients: int
    backlog: int
    routes: int
    fragments: int
    is_alive: bool


_TCP = ("", "opening", "open", "closing", "closed")


def _text(raw: bytes) -> str:
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def packed(address: str) -> bytes:
    """Sixteen bytes, IPv4 mapped, as the C of this package names addresses."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return bytes(10) + b"\xff\xff" + parsed.packed
    return parsed.packed


def _pointer(kind: str, value: Any) -> Any:
    """*value*, a pointer of another extension's or a number, as one of ours."""
    if value is None:
        return ffi.NULL
    number = value if isinstance(value, int) else int(ffi.cast("uintptr_t", value))
    return ffi.cast(kind, number)


@final
class Owner:
    """An owner of ports: what a stack is given as ``arg`` beside ``ops``."""

    __slots__ = ("_raw", "kind")

    def __init__(self, raw: Any, kind: OwnerKind) -> None:
        self._raw = raw
        self.kind = kind

    @property
    def raw(self) -> Any:
        """The ``struct netns_owner *``."""
        if self._raw is None:
            raise ValueError("the owner is closed")
        return self._raw

    @property
    def ops(self) -> Any:
        """The ``const struct netns_ops *`` of every owner."""
        return lib.sk_netns_ops()

    def reserve(self, proto: int, address: str, port: int, flags: int = 0) -> None:
        """Take *port* of *address* (``::`` for any), as a stack does by ``ops``; *flags* are
        FLOW_* of nic/flow.h. Errno EADDRINUSE: another owner has it."""
        check(lib.sk_netns_reserve(self.raw, proto, packed(address), port, flags))

    def unreserve(self, proto: int, address: str, port: int) -> None:
        """Give back what ``reserve`` took."""
        lib.sk_netns_release(self.raw, proto, packed(address), port)

    def abort(self) -> None:
        """Reset its flows and take its ports away, as when its process has died."""
        lib.sk_netns_owner_abort(self.raw)

    def close(self) -> None:
        """The owner has gone: flows it has not detached are reset. Twice is harmless."""
        raw, self._raw = self._raw, None
        if raw is not None:
            lib.sk_netns_owner_free(raw)


@final
class Netns:
    """One space of ports and flows. *linger* (seconds, 30) is how long the port of a flow is held
    whose owner went without closing; *seed*, 16 bytes, keys the hashes."""

    __slots__ = ("_raw",)

    def __init__(
        self, *, seed: bytes | None = None, max_flows: int = 0, linger: float = 0.0
    ) -> None:
        self._raw: Any = None
        config = ffi.new("struct sk_netns_cfg *")
        ffi.memmove(config.seed, (os.urandom(16) if seed is None else seed), 16)
        config.max_flows = max_flows
        config.linger_ns = int(linger * 1e9)
        out = ffi.new("struct netns **")
        check(lib.sk_netns_new(config, out))
        self._raw = out[0]

    @property
    def raw(self) -> Any:
        """The ``struct netns *``."""
        if self._raw is None:
            raise ValueError("the namespace is closed")
        return self._raw

    @property
    def advtab(self) -> Any:
        """The ``struct flow_advtab *``, the same for all stacks."""
        return lib.sk_netns_advtab(self.raw)

    def owner(self, kind: OwnerKind, pid: int = 0) -> Owner:
        """A new owner; *pid* is only shown."""
        out = ffi.new("struct netns_owner **")
        check(lib.sk_netns_owner(self.raw, kind, pid, out))
        return Owner(out[0], kind)

    def flows(self) -> list[FlowInfo]:
        """Every port and flow there is now. Any thread may ask."""
        count = lib.sk_netns_flows(self.raw, ffi.NULL, 0)
        out = ffi.new("struct sk_flow_info[]", count + 64)
        count = min(lib.sk_netns_flows(self.raw, out, len(out)), len(out))
        return [
            FlowInfo(
                proto=flow.proto,
                local=(_text(bytes(flow.laddr)), flow.lport),
                foreign=(_text(bytes(flow.faddr)), flow.fport),
                kind=OwnerKind(flow.kind),
                state=FlowState(flow.state),
                tcp=_TCP[flow.tcp] if flow.proto == 6 else "",
                flowid=flow.flowid,
                suspended=bool(flow.suspended),
                pid=flow.pid,
                rxpkts=flow.rxpkts,
                rxbytes=flow.rxbytes,
                txpkts=flow.txpkts,
                txbytes=flow.txbytes,
            )
            for flow in out[0:count]
        ]

    def close(self) -> None:
        """Give the handle back; owners and flowswitches keep what they need."""
        raw, self._raw = self._raw, None
        if raw is not None:
            lib.sk_netns_free(raw)


@final
class Flowswitch:
    """The flowswitch over *dev*, which it takes over.

    ``host`` is the HOST port: release it to the stack that shall have it. Its
    stack closes it, and DEV with it; then close the flowswitch. *loop*: what
    is sent through *dev* would be received by it, so it stays inside.
    *stall* is after how many seconds a client that takes nothing is given up.
    """

    __slots__ = ("_pool", "_raw", "host", "netns")

    def __init__(
        self,
        netns: Netns,
        dev: Port,
        *,
        loop: bool = False,
        aggregate: bool = True,
        stall: float = 0.0,
        host_ring: int = 0,
        client_ring: int = 0,
        backlog: int = 0,
        host_pool: Pool | None = None,
    ) -> None:
        self._raw: Any = None
        self.netns = netns
        own = Pool() if host_pool is None else host_pool
        config = ffi.new("struct sk_fsw_cfg *")
        config.flags = (lib.SK_FSW_LOOP if loop else 0) | (0 if aggregate else lib.SK_FSW_NOAGG)
        config.host_ring, config.client_ring, config.backlog = host_ring, client_ring, backlog
        config.stall_ns = int(stall * 1e9)
        config.host_pool = own.raw
        fsw, host = ffi.new("struct fsw **"), ffi.new("struct port **")
        raw, self._pool = dev.release()
        try:
            check(lib.sk_fsw_open(netns.raw, raw, config, fsw, host))
            self._raw = fsw[0]
            self.host = Port(host[0], own)
        finally:
            if host_pool is None:
                own.close()  # the port holds it
            if self._raw is None:
                self._pool.drop()

    @property
    def raw(self) -> Any:
        """The ``struct fsw *``."""
        if self._raw is None:
            raise ValueError("the flowswitch is closed")
        return self._raw

    def client(self, owner: Owner, pool: Pool, doorbell: int = -1) -> Port:
        """The CLIENT port of *owner*, whose stack allocates from *pool*.

        *doorbell* is an eventfd that its owner reads before he polls the
        port, and may share between ports; -1: the port has one of its own.
        Errno EBUSY: *owner* has one here already.
        """
        out = ffi.new("struct port **")
        check(lib.sk_fsw_client(self.raw, owner.raw, pool.raw, doorbell, out))
        return Port(out[0], pool)

    def set_resolver(self, resolver: Any) -> None:
        """Ask *resolver*, a ``const struct flow_resolver *``, for next hops; None: nobody."""
        check(lib.sk_fsw_set_resolver(self.raw, _pointer("struct flow_resolver *", resolver)))

    def route_event(self) -> None:
        """What the resolver says may have changed."""
        lib.sk_fsw_route_event(self.raw)

    def set_addresses(self, addresses: list[str]) -> None:
        """The interface's own addresses: packets for them never leave."""
        check(lib.sk_fsw_set_addrs(self.raw, b"".join(map(packed, addresses)), len(addresses)))

    def set_wake(self, function: Any, argument: Any) -> None:
        """Call the C *function* with *argument* to wake who drives HOST; None: nobody."""
        lib.sk_fsw_set_wake(
            self.raw, _pointer("void (*)(void *)", function), _pointer("void *", argument)
        )

    @property
    def info(self) -> SwitchInfo:
        """What there is now. Any thread may ask."""
        out = ffi.new("struct sk_fsw_info *")
        lib.sk_fsw_info(self.raw, out)
        return SwitchInfo(
            name=ffi.string(out.name).decode(errors="backslashreplace"),
            link="ethernet" if out.link == 0 else "rawip",
            mtu=out.mtu,
            clients=out.clients,
            backlog=out.backlog,
            routes=out.routes,
            fragments=out.fragments,
            is_alive=bool(out.alive),
        )

    def statistics(self) -> dict[str, int]:
        """Counters by name, drops by reason. Any thread may ask."""
        count = lib.sk_fsw_stats(self.raw, ffi.NULL, 0)
        out = ffi.new("uint64_t[]", count)
        lib.sk_fsw_stats(self.raw, out, count)
        return {ffi.string(lib.sk_fsw_stat_name(i)).decode(): out[i] for i in range(count)}

    def close(self) -> None:
        """Close HOST, if nobody has taken it, and the flowswitch. Twice is harmless.

        RuntimeError: the stack that has HOST must close it first.
        """
        if self._raw is None:
            return
        self.host.close()
        if self.info.is_alive:
            raise RuntimeError("the stack that has the HOST port must close it first")
        raw, self._raw = self._raw, None
        lib.sk_fsw_free(raw)
        self._pool.drop()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_raw", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        if self._raw is None:
            return "<skywalk.Flowswitch closed>"
        return f"<skywalk.Flowswitch {self.info.name!r} clients={self.info.clients}>"
