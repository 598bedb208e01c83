"""What all sockets of one stack share: its address caches, and what loopback means.

``loopback`` decides where 127.0.0.0/8 and ::1 lead when a program connects
or sends there; binding and listening is always on the stack:

- ``stack``: to the stack's own loopback interface;
- ``host``: to the host's loopback, through the gateway;
- ``both``: to the stack if one of its sockets has that port, else to the host.

Without a gateway that reaches the host's loopback, all three mean ``stack``.
"""

from __future__ import annotations

import threading

from bsdcore._ffi import ffi, lib
from bsdcore.stack import Stack
from xsock._addr import AF_INET, AF_INET6, format_address, parse_address, read_key

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["Host"]

CACHE_MAX: Final = 4096
_LOOPBACK6: Final = bytes(15) + b"\x01"
_MAPPED4: Final = bytes(10) + b"\xff\xff"


def _is_loopback(family: int, packed: bytes) -> bool:
    if family == AF_INET:
        return packed[0] == 127
    return packed == _LOOPBACK6 or (packed[:12] == _MAPPED4 and packed[12] == 127)


class Host:
    """A Stack as the sockets of the facade see it. *gateway* is an IPv4 address or None."""

    def __init__(
        self,
        stack: Stack,
        loopback: str = "stack",
        gateway: bytes | None = None,
        resolver: Any = None,
    ) -> None:
        self.stack = stack
        self.cdata = stack.cdata
        self.loopback = loopback if gateway else "stack"
        self.gateway = gateway
        self.resolver = resolver
        # A cache of destinations for each family, by the tuple a program gives.
        self.to: dict[int, dict[Any, Any]] = {AF_INET: {}, AF_INET6: {}}
        self.names: dict[bytes, Any] = {}
        self._aliases: dict[bytes, Any] = {}
        self._ports: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()
        self.on_listen: Any = None  # called with (kind, host, port)
        self.originators: Any = None  # who pays for packets here; _vouch makes it

    # ---- addresses ----

    def resolve(self, raw: bytes, family: int) -> tuple[bytes, int]:
        """One packed address of *family* for a name; gaierror if it has none."""
        from xsock import _resolver

        return _resolver.lookup_one(self, raw, family)

    def local(self, call: str, family: int, address: Any) -> Any:
        """The address to bind to."""
        return parse_address(call, family, address, self.resolve)[0]

    def remote(self, call: str, family: int, kind: int, address: Any) -> Any:
        """The address to send to, after the loopback rule; kept if it was numeric."""
        addr, is_numeric = parse_address(call, family, address, self.resolve)
        addr = self.redirect(kind, addr)
        if is_numeric:
            cache = self.to[family]
            if len(cache) >= CACHE_MAX:
                cache.clear()
            cache[address] = addr
        return addr

    def redirect(self, kind: int, addr: Any) -> Any:
        """Where a socket of *kind* has to go for a ``struct bsd_addr``: the loopback rule."""
        if self.loopback == "stack" or self.gateway is None:
            return addr
        packed = bytes(addr.addr)
        if not _is_loopback(addr.family, packed):
            return addr
        if self.loopback == "both" and (kind, addr.port) in self._ports:
            return addr
        there = ffi.new("struct bsd_addr *", addr[0])
        raw = self.gateway if addr.family == AF_INET else _MAPPED4 + self.gateway
        ffi.memmove(there.addr, raw, len(raw))
        self._aliases[read_key(there)] = format_address(read_key(addr))
        self.names.pop(read_key(there), None)
        return there

    def name(self, key: bytes) -> Any:
        """The tuple for an address from the stack; the caches have missed."""
        name = self._aliases.get(key) or format_address(key)
        if len(self.names) >= CACHE_MAX:
            self.names.clear()
        self.names[key] = name
        return name

    # ---- which ports are ours ----

    def claim(self, kind: int, handle: Any, serves: bool = True) -> tuple[int, int] | None:
        """A socket of *kind* has its local port from now on; give the answer to release().

        Not *serves*: it has the port only to be answered.
        """
        out = ffi.new("struct bsd_addr *")
        if lib.bsd_getsockname(handle, out) < 0 or not out.port:
            return None
        key = (kind, int(out.port))
        with self._lock:
            self._ports[key] = self._ports.get(key, 0) + 1
            self._forget()
        if serves and self.on_listen is not None:
            self.on_listen(kind, format_address(read_key(out))[0], key[1])
        return key

    def release(self, key: tuple[int, int]) -> None:
        """The socket is gone."""
        with self._lock:
            count = self._ports.pop(key, 0)
            if count > 1:
                self._ports[key] = count - 1
            self._forget()

    def _forget(self) -> None:
        if self.loopback == "both":
            for cache in self.to.values():
                cache.clear()
