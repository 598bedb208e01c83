"""One host in this process: a C stack, its interfaces, addresses, routes and tunables.

A Stack runs in one of two ways: start() gives it a thread of its own, or the
owner calls run(now). With *virtual_time* only the second exists, and time
moves only by run().
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from bsdcore._ffi import check, ffi, lib
from bsdcore.sockets import Socket, address, new_handle
from bsdcore.sysctl import Sysctl

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Final

__all__ = ["Stack"]

IFF_UP: Final = 1
IFF_LOOPBACK: Final = 2
IFF_PROMISC: Final = 8
IFF_ANYIP: Final = 16
NEVER: Final = 2**64 - 1  # poll_at(): nothing planned
SEED_BYTES: Final = 32
# A thread woken in C waits this long for its waker to let go of the GIL.
HANDOFF_NS: Final = 20_000


def _prefix(text: str) -> tuple[str, int]:
    host, slash, length = text.partition("/")
    full = 128 if ":" in host else 32
    if not slash:
        return host, full
    if not length.isdigit() or int(length) > full:
        raise ValueError(f"malformed prefix length in {text!r}; 0 to {full} is allowed")
    return host, int(length)


class Stack:
    """A network stack. Close it, or use it in a with statement.

    *seed*, 32 bytes, is the source of all randomness; the system's by default.
    *memory* bounds packet memory in bytes (256 MiB). *start_time* is
    virtual time's first now, in nanoseconds.
    """

    def __init__(
        self,
        name: str = "xsock",
        *,
        seed: bytes | None = None,
        memory: int = 0,
        virtual_time: bool = False,
        start_time: int = 0,
    ) -> None:
        self.cdata: Any = None
        seed = os.urandom(SEED_BYTES) if seed is None else seed.ljust(SEED_BYTES, b"\0")
        label = ffi.new("char[]", name.encode())
        config = ffi.new("struct bsd_config *")
        config.name, config.mem_limit = label, memory
        config.virtual_time, config.start_time = virtual_time, start_time
        ffi.memmove(config.seed, seed[:SEED_BYTES], SEED_BYTES)
        out = ffi.new("struct stack **")
        check(lib.bsd_stack_new(config, out))
        self.name = name
        self.is_started = False
        # Called in the thread that changed an interface or a route, after the change.
        self.on_change: Callable[[], object] | None = None
        self.cdata = out[0]
        self.sysctl = Sysctl(self.cdata)
        if getattr(sys, "_is_gil_enabled", lambda: True)():
            self.sysctl["kern.ipc.handoff"] = HANDOFF_NS

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread, reset every connection and free all of it."""
        cdata, self.cdata = self.cdata, None
        if cdata is None:
            return
        if self.is_started:
            lib.bsd_stop(cdata)
        lib.bsd_stack_free(cdata)

    def start(self) -> None:
        """Give the stack its thread. It runs no Python and takes no signals."""
        check(lib.bsd_start(self.cdata))
        self.is_started = True

    def stop(self) -> None:
        """Take the thread away; run() may be called again."""
        lib.bsd_stop(self.cdata)
        self.is_started = False

    def run(self, now: int) -> bool:
        """Do what is due at *now* (ns). True if more is due at once."""
        return bool(check(lib.bsd_run(self.cdata, now)))

    def poll_at(self) -> int:
        """When the stack next wants to run (ns); NEVER if nothing is planned."""
        return int(lib.bsd_poll_at(self.cdata))

    def now(self) -> int:
        """The stack's time, nanoseconds."""
        return int(lib.bsd_now(self.cdata))

    def drain(self, timeout: float) -> int:
        """Wait up to *timeout* seconds for queued data; how many connections still have some."""
        return check(lib.bsd_drain(self.cdata, int(timeout * 1e9)))

    def attach(self, port: Any, name: str) -> int:
        """Own the nic *port* as interface *name* from now on; its index."""
        return check(lib.bsd_if_attach(self.cdata, port, name.encode()))

    def detach(self, name: str) -> None:
        """Take an interface down and close its port."""
        check(lib.bsd_if_detach(self.cdata, self.index(name)))

    def index(self, name: str) -> int:
        """The index of interface *name*; OSError ENXIO if there is none."""
        return check(lib.bsd_if_index(self.cdata, name.encode()))

    def _has_changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def set_flags(self, name: str, flags: int, clear: int = 0) -> None:
        """Set and clear IFF_* bits."""
        check(lib.bsd_if_flags(self.cdata, self.index(name), flags, clear))
        self._has_changed()

    def set_mtu(self, name: str, mtu: int) -> None:
        """Bytes of the largest IP packet."""
        check(lib.bsd_if_mtu(self.cdata, self.index(name), mtu))
        self._has_changed()

    def add_address(self, name: str, cidr: str) -> None:
        """Give interface *name* an address such as ``10.0.2.15/24``, and its prefix's route."""
        host, length = _prefix(cidr)
        check(lib.bsd_if_addaddr(self.cdata, self.index(name), address(host), length))
        self._has_changed()

    def delete_address(self, name: str, host: str) -> None:
        """Take an address away."""
        check(lib.bsd_if_deladdr(self.cdata, self.index(name), address(host)))
        self._has_changed()

    def add_route(self, prefix: str, gateway: str | None, name: str) -> None:
        """Reach *prefix* (``0.0.0.0/0``) by *gateway*, or directly, over interface *name*."""
        host, length = _prefix(prefix)
        via = ffi.NULL if gateway is None else address(gateway)
        check(lib.bsd_route_add(self.cdata, address(host), length, via, self.index(name)))
        self._has_changed()

    def delete_route(self, prefix: str) -> None:
        """Forget a route."""
        host, length = _prefix(prefix)
        check(lib.bsd_route_del(self.cdata, address(host), length))
        self._has_changed()

    def add_neighbour(self, name: str, host: str, mac: bytes) -> None:
        """A permanent link-layer entry."""
        check(lib.bsd_arp_add(self.cdata, self.index(name), address(host), mac))

    def set_marking(self, name: str, mode: int, allow: Iterable[int] | None = None) -> None:
        """Write service classes as DSCP into what leaves by interface *name*.

        *mode*: 0 off, 1 fastlane, 2 RFC 4594. With *allow*, at most 64
        originators, all others are marked best effort, background or control.
        """
        some = None if allow is None else list(allow)
        origins = ffi.new("uint32_t[]", some or [])
        count = -1 if some is None else len(some)
        check(lib.bsd_if_qosmark(self.cdata, self.index(name), mode, origins, count))

    def set_throttle(self, name: str, on: bool) -> None:
        """While *on*, nothing of system background (BK_SYS) leaves by interface *name*."""
        check(lib.bsd_if_throttle(self.cdata, self.index(name), on))

    def socket(self, family: int, kind: int, protocol: int = 0) -> Socket:
        """A socket of the plain kind; programs want ``xsock.socket``."""
        return Socket(new_handle(self.cdata, family, kind, protocol))

    def fork_prepare(self) -> None:
        """Before fork(2): hold the stack still."""
        lib.bsd_fork_prepare(self.cdata)

    def fork_parent(self) -> None:
        """After fork(2), in the parent: go on."""
        lib.bsd_fork_parent(self.cdata)

    def fork_child(self) -> None:
        """After fork(2), in the child: this copy is dead, and only closing it is left."""
        lib.bsd_fork_child(self.cdata)
        self.is_started = False
