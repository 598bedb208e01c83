"""The flowswitches under a process's stack: who shares its interfaces, and its ports.

One namespace of ports for all stacks of a process, and one flowswitch for each interface.
The process's stack has the HOST port, stacks of event loops have CLIENT ports. lo0
has its flowswitch from the first client on: before that nobody is to be found there.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import nic
from bsdcore._ffi import check
from bsdcore._ffi import ffi as bsd_ffi
from bsdcore._ffi import lib as bsd
from skywalk._ffi import ffi, lib

if TYPE_CHECKING:
    from bsdcore.stack import Stack

__all__ = ["ClientSide", "Switch"]

ETHERNET: Final = 0  # sk_fsw_info.link
LOOP: Final = 0x1  # SK_FSW_LOOP
HOST, CLIENT = 0, 1  # SK_OWNER_*
LO_MTU: Final = 65535
_C_CALLBACK: Final = "void(*)(void *)"


class ClientSide(NamedTuple):
    """What a client stack is given: its *owner*, and *ports* with their *pools* by interface."""

    owner: Any
    ports: dict[str, Any]
    pools: list[nic.Pool]


def _made(kind: str, call: Any) -> Any:
    out = ffi.new(f"{kind} **")
    check(call(out))
    return out[0]


class Switch:
    """The flowswitches of *stack*. Made before it has a socket."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._switches: dict[str, Any] = {}
        self._pools: list[Any] = []  # with drop() or close(), freed last
        config = ffi.new("struct sk_netns_cfg *")
        ffi.memmove(config.seed, os.urandom(16), 16)
        self._netns = _made("struct netns", lambda out: lib.sk_netns_new(config, out))
        self._owner: Any = None
        self._owner = self.join(stack, HOST)

    def join(self, stack: Stack, kind: int) -> Any:
        """Make *stack* take its ports in our namespace; who it is there."""
        owner = _made(
            "struct netns_owner",
            lambda out: lib.sk_netns_owner(self._netns, kind, os.getpid(), out),
        )
        tab = lib.sk_netns_advtab(self._netns)
        check(bsd.bsd_set_netns(stack.cdata, lib.sk_netns_ops(), owner, tab))
        return owner

    def lay(self, name: str, port: nic.Port, flags: int = 0) -> None:
        """Put a flowswitch on *port*, and the stack on it, as interface *name*."""
        raw, pool = port.release()
        self._pools.append(pool)
        host_pool = nic.Pool().hold()
        self._pools.append(host_pool)
        config = ffi.new("struct sk_fsw_cfg *")
        config.flags, config.host_pool = flags, host_pool.raw
        switch, host = ffi.new("struct fsw **"), ffi.new("struct port **")
        check(lib.sk_fsw_open(self._netns, raw, config, switch, host))
        self._switches[name] = switch[0]
        self._stack.attach(host[0], name)
        self._link(name, switch[0])

    def _link(self, name: str, switch: Any) -> None:
        """The stack tells the flowswitch next hops, and is woken by it."""
        stack = self._stack.cdata
        info = ffi.new("struct sk_fsw_info *")
        lib.sk_fsw_info(switch, info)
        if info.link == ETHERNET:
            resolver = bsd_ffi.new("const void **")
            check(bsd.bsd_resolver(stack, self._stack.index(name), resolver))
            check(lib.sk_fsw_set_resolver(switch, ffi.cast("struct flow_resolver *", resolver[0])))
            event = ffi.addressof(lib, "sk_fsw_route_event")
            bsd.bsd_set_flow_event(stack, bsd_ffi.cast(_C_CALLBACK, event), switch)
        wake = bsd_ffi.addressof(bsd, "bsd_wake")
        lib.sk_fsw_set_wake(switch, ffi.cast(_C_CALLBACK, wake), stack)

    def set_addresses(self, name: str, cidrs: tuple[str, ...]) -> None:
        """Which addresses interface *name* has itself."""
        octets = b""
        for cidr in cidrs:
            address = ipaddress.ip_interface(cidr).ip
            octets += address.packed if address.version == 6 else _mapped(address.packed)
        check(lib.sk_fsw_set_addrs(self._switches[name], octets, len(octets) // 16))

    def client(self, stack: Stack, doorbell: int) -> ClientSide:
        """Make *stack* a client: CLIENT ports that ring *doorbell*, still to be attached."""
        with self._lock:
            if "lo0" not in self._switches:
                self.lay("lo0", nic.open_port("lo"), LOOP)
        side = ClientSide(self.join(stack, CLIENT), {}, [])
        for name, switch in self._switches.items():
            pool = nic.Pool()
            side.pools.append(pool)
            side.ports[name] = _made(
                "struct port",
                lambda out, switch=switch, pool=pool: lib.sk_fsw_client(
                    switch, side.owner, pool.raw, doorbell, out
                ),
            )
        return side

    def leave(self, side: ClientSide) -> None:
        """A client's stack is gone: free what it was given."""
        if self._pid != os.getpid():
            _orphans.append(side)
            return
        lib.sk_netns_owner_free(side.owner)
        for pool in side.pools:
            pool.close()

    def unlink(self) -> None:
        """Before the stack goes: it is neither asked nor woken any more."""
        if self._pid != os.getpid():
            return
        bsd.bsd_set_flow_event(self._stack.cdata, bsd_ffi.NULL, bsd_ffi.NULL)
        for switch in self._switches.values():
            lib.sk_fsw_set_wake(switch, ffi.NULL, ffi.NULL)
            lib.sk_fsw_set_resolver(switch, ffi.NULL)

    def close(self) -> None:
        """After the stack has gone: free everything. A forked child leaves it as it is: what
        it would end are its parent's flows."""
        if self._pid != os.getpid():
            _orphans.append(self)
            return
        for switch in self._switches.values():
            lib.sk_fsw_free(switch)
        self._switches.clear()
        if self._owner is not None:
            lib.sk_netns_owner_free(self._owner)
        lib.sk_netns_free(self._netns)
        for pool in self._pools:
            pool.drop()
        self._pools.clear()


_orphans: list[Any] = []


def _mapped(packed: bytes) -> bytes:
    return bytes(10) + b"\xff\xff" + packed
