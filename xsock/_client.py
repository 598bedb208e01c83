"""A small stack of an event loop's own, beside the process's, over the same addresses.

It has no thread: its loop runs it. On lo0 and en0 it is a client of the flowswitches
under the process's stack, and both take their ports in one namespace.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bsdcore import netstat
from bsdcore.stack import IFF_UP, Stack
from nic._ffi import lib

if TYPE_CHECKING:
    from xsock._assemble import Parts

__all__ = ["ClientParts"]

# Flags of a route that is not for others to copy: RTF_LOCAL, RTF_DYNAMIC of net/route.h.
UNSHARED = 0x200000 | 0x10


class ClientParts:
    """What an event loop runs: *stack*, hand-run and ready for sockets, and what it stands on.

    *doorbell* is an eventfd of the loop's: it is written when there is something
    to run the stack for. The loop reads it before it runs the stack. close()
    resets what is open and frees everything; the doorbell stays the loop's.
    After a fork(2) the child's copy is dead: calls on it answer ECONNABORTED.
    """

    def __init__(self, parts: Parts, doorbell: int) -> None:
        self.doorbell = doorbell
        seed = os.urandom(16) + parts.secret
        self.stack = Stack(f"{parts.config.name}-client", seed=seed)
        self._parts = parts
        self._side: Any = None
        try:
            parts.tune(self.stack)
            self._side = parts.switch.client(self.stack, doorbell)
            ports = self._side.ports
            for name in tuple(ports):
                self.stack.attach(ports[name], name)
                del ports[name]  # the stack closes it
                if name != "lo0":
                    self._mirror(parts.stack, name)
        except BaseException:
            self.close()
            raise
        parts.clients.add(self)

    def _mirror(self, host: Stack, name: str) -> None:
        """Addresses and routes of the host's interface; next hops are the flowswitch's affair."""
        for interface in netstat.interfaces(host):
            if interface.name == name:
                self.stack.set_mtu(name, interface.mtu)
                for cidr in interface.addresses:
                    self.stack.add_address(name, cidr)
        self.stack.set_flags(name, IFF_UP)
        known = {route.destination for route in netstat.routes(self.stack)}
        for route in netstat.routes(host):
            mine = route.interface == name and not route.flags & UNSHARED
            if mine and route.destination not in known:
                self.stack.add_route(route.destination, None, name)

    def close(self) -> None:
        """Reset what is open and free it. Twice is harmless."""
        self.stack.close()
        side, self._side = self._side, None
        if side is None:
            return
        self._parts.clients.discard(self)
        for port in side.ports.values():
            lib.nic_close(port)
        self._parts.switch.leave(side)
