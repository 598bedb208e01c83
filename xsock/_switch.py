"""The flowswitches under a process's stack: who shares its interfaces, and its ports.

One namespace of ports for all stacks of a process, and one flowswitch for each interface.
The process's stack has the HOST port, stacks of event loops have CLIENT ports. lo0
has its flowswitch from the first client on: before that nobody is to be found there.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import nic
from bsdcore._ffi import check, ffi, lib
from skywalk._ffi import ffi as sk_ffi
from skywalk._ffi import lib as sk_lib
from skywalk.flowswitch import Flowswitch, Netns, Owner, OwnerKind

if TYPE_CHECKING:
    from bsdcore.stack import Stack

__all__ = ["ClientSide", "Switch"]

# Seconds after which the port of an event loop that does not turn is given up. A program may
# compute for that long; the kernel would wait for ever.
STALL: Final = 60.0


class ClientSide(NamedTuple):
    """What a client stack is given: its *owner*, and *ports* with their *pools* by interface."""

    owner: Owner
    ports: dict[str, Any]
    pools: list[Any]


class Switch:
    """The flowswitches of *stack*. Made before it has a socket."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.switches: dict[str, Flowswitch] = {}
        self._pools: list[Any] = []
        self.netns = Netns()
        self._owner = self._join(stack, OwnerKind.HOST)

    def _join(self, stack: Stack, kind: OwnerKind) -> Owner:
        """Make *stack* take its ports in our namespace; who it is there."""
        owner = self.netns.owner(kind, os.getpid())
        try:
            check(lib.bsd_set_netns(stack.cdata, owner.ops, owner.raw, self.netns.advtab))
        except BaseException:
            owner.close()
            raise
        return owner

    def lay(self, name: str, port: nic.Port, *, loop: bool = False) -> None:
        """Put a flowswitch on *port*, and the stack on it, as interface *name*."""
        switch = Flowswitch(self.netns, port, loop=loop, stall=STALL)
        self.switches[name] = switch
        raw, pool = switch.host.release()
        self._pools.append(pool)
        self._stack.attach(raw, name)
        stack = self._stack.cdata
        if switch.info.link == "ethernet":
            resolver = ffi.new("const void **")
            check(lib.bsd_resolver(stack, self._stack.index(name), resolver))
            switch.set_resolver(resolver[0])
            event = sk_ffi.addressof(sk_lib, "sk_fsw_route_event")
            lib.bsd_set_flow_event(stack, ffi.cast("void(*)(void *)", event), switch.raw)
        switch.set_wake(ffi.addressof(lib, "bsd_wake"), stack)

    def counters(self) -> dict[str, int]:
        """Of every flowswitch, as ``fsw.lo0.NAME``. Any thread may ask."""
        return {
            f"fsw.{name}.{counter}": value
            for name, switch in tuple(self.switches.items())
            for counter, value in switch.statistics().items()
        }

    def set_addresses(self, name: str, cidrs: tuple[str, ...]) -> None:
        """Which addresses interface *name* has itself."""
        self.switches[name].set_addresses([cidr.partition("/")[0] for cidr in cidrs])

    def client(self, stack: Stack, doorbell: int) -> ClientSide:
        """Make *stack* a client: CLIENT ports that ring *doorbell*, still to be attached."""
        with self._lock:
            if "lo0" not in self.switches:
                self.lay("lo0", nic.open_port("lo"), loop=True)
        side = ClientSide(self._join(stack, OwnerKind.CLIENT), {}, [])
        for name, switch in self.switches.items():
            with nic.Pool() as pool:
                port = switch.client(side.owner, pool, doorbell)
            side.ports[name], held = port.release()
            side.pools.append(held)
        return side

    def leave(self, side: ClientSide) -> None:
        """A client's stack is gone: free what it was given."""
        if self._pid != os.getpid():
            _orphans.append(side)
            return
        side.owner.close()
        for pool in side.pools:
            pool.drop()

    def unlink(self) -> None:
        """Before the stack goes: it is neither asked nor woken any more."""
        if self._pid != os.getpid():
            return
        lib.bsd_set_flow_event(self._stack.cdata, ffi.NULL, ffi.NULL)
        for switch in self.switches.values():
            switch.set_wake(None, None)
            switch.set_resolver(None)

    def close(self) -> None:
        """After the stack has gone: free everything. A forked child leaves it as it is: what
        it would end are its parent's flows."""
        if self._pid != os.getpid():
            _orphans.append(self)
            return
        for switch in self.switches.values():
            switch.close()
        self._owner.close()
        self.netns.close()
        for pool in self._pools:
            pool.drop()


_orphans: list[Any] = []
