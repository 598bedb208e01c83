"""A small stack of an event loop's own, beside the process's, over the same addresses.

It has no thread: its loop runs it. On lo0 and en0 it is a client of the flowswitches
under the process's stack, and both take their ports in one namespace.
"""

from __future__ import annotations

import os
import threading
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
    to run the stack for. The loop reads it, and calls refresh(), before it runs the
    stack. close() resets what is open and frees everything; the doorbell stays the loop's.
    After a fork(2) the child's copy is dead: calls on it answer ECONNABORTED.
    """

    def __init__(self, parts: Parts, doorbell: int) -> None:
        self.doorbell = doorbell
        seed = os.urandom(16) + parts.secret
        self.stack = Stack(f"{parts.config.name}-client", seed=seed)
        self._parts = parts
        self._side: Any = None
        self._lock = threading.Lock()  # of the doorbell, which is not ours after close()
        self._is_outdated = False
        self._names: list[str] = []
        try:
            parts.tune(self.stack)
            self._side = parts.switch.client(self.stack, doorbell)
            ports = self._side.ports
            for name in tuple(ports):
                self.stack.attach(ports[name], name)
                del ports[name]  # the stack closes it
                self._names.append(name)
            # From here on changes are told of, so none is missed.
            parts.clients.add(self)
            self._mirror()
        except BaseException:
            self.close()
            raise

    def outdate(self) -> None:
        """The host's interfaces or routes are others now. Any thread may say so."""
        with self._lock:
            if self._side is not None:
                self._is_outdated = True
                os.eventfd_write(self.doorbell, 1)

    def refresh(self) -> None:
        """Take over what the host has changed: for the thread that runs the stack."""
        if self._is_outdated:
            self._is_outdated = False
            self._mirror()

    def _mirror(self) -> None:
        """Addresses and routes of the host's interfaces; next hops are the flowswitch's affair."""
        host = self._parts.stack
        theirs = {each.name: each for each in netstat.interfaces(host)}
        for name in self._names:
            if name != "lo0" and name in theirs:
                self._mirror_interface(name, theirs[name])
        wanted, mine = self._routes(host), self._routes(self.stack)
        for destination in mine.keys() - wanted.keys():
            self.stack.delete_route(destination)
        for destination in wanted.keys() - mine.keys():
            self.stack.add_route(destination, None, wanted[destination])

    def _mirror_interface(self, name: str, theirs: netstat.Interface) -> None:
        stack = self.stack
        (mine,) = (each for each in netstat.interfaces(stack) if each.name == name)
        if mine.mtu != theirs.mtu:
            stack.set_mtu(name, theirs.mtu)
        for cidr in mine.addresses:
            if cidr not in theirs.addresses:
                stack.delete_address(name, cidr.partition("/")[0])
        for cidr in theirs.addresses:
            if cidr not in mine.addresses:
                stack.add_address(name, cidr)
        if (mine.flags ^ theirs.flags) & IFF_UP:
            stack.set_flags(name, theirs.flags & IFF_UP, ~theirs.flags & IFF_UP)

    def _routes(self, stack: Stack) -> dict[str, str]:
        """Interfaces by the destinations of the routes that are for both stacks."""
        return {
            route.destination: route.interface
            for route in netstat.routes(stack)
            if route.interface in self._names
            and route.interface != "lo0"
            and not route.flags & UNSHARED
        }

    def close(self) -> None:
        """Reset what is open and free it. Twice is harmless."""
        with self._lock:
            side, self._side = self._side, None
        self.stack.close()
        if side is None:
            return
        self._parts.clients.discard(self)
        for port in side.ports.values():
            lib.nic_close(port)
        self._parts.switch.leave(side)
