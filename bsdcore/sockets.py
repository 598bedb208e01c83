"""Handles of the C sockets: who owns them, how addresses look, and a plain class on top.

A handle is a ``struct socket *`` that Python owns: when the last reference to
it goes, the socket is closed. A call keeps its handle referenced while it
runs without the GIL, so a close() in another thread takes effect when that call
ends, as it does for a descriptor inside the kernel.

The functions of the C API are re-exported here under their own names for
callers that count every nanosecond; :class:`Socket` is for everybody else.
"""

from __future__ import annotations

import _socket

from bsdcore._ffi import check, ffi, lib

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final, TypeAlias

    # A cffi pointer; there is no better static type for it.
    Handle: TypeAlias = Any
    Address: TypeAlias = tuple[Any, ...]

__all__ = ["ADDRESS_SIZE", "Socket", "address", "adopt", "new_handle", "unpack"]

AF_INET: Final = 2
AF_INET6: Final = 10
ADDRESS_SIZE: Final = ffi.sizeof("struct bsd_addr")
FOREVER: Final = -1


def adopt(raw: Handle) -> Handle:
    """Own *raw*: bsd_close() runs when the last reference to the answer is gone."""
    return ffi.gc(raw, lib.bsd_close)


def new_handle(stack: Any, family: int, kind: int, protocol: int = 0) -> Handle:
    """A new socket on the C stack *stack*; OSError as socket(2) raises it."""
    out = ffi.new("struct socket **")
    check(lib.bsd_socket(stack, family, kind, protocol, out))
    return adopt(out[0])


def address(host: str, port: int = 0, flowinfo: int = 0, scope_id: int = 0) -> Any:
    """A ``struct bsd_addr *`` for a numeric *host*; OSError if it is not one."""
    family = AF_INET6 if ":" in host else AF_INET
    packed = _socket.inet_pton(family, host)
    out = ffi.new("struct bsd_addr *")
    out.family, out.port, out.flowinfo, out.scope_id = family, port, flowinfo, scope_id
    ffi.memmove(out.addr, packed, len(packed))
    return out


def unpack(addr: Any) -> Address:
    """``(host, port)``, or for IPv6 ``(host, port, flowinfo, scope_id)``."""
    if addr.family == AF_INET6:
        host = _socket.inet_ntop(AF_INET6, bytes(addr.addr))
        return host, addr.port, addr.flowinfo, addr.scope_id
    return _socket.inet_ntop(AF_INET, bytes(addr.addr)[:4]), addr.port


class Socket:
    """A socket as the C API has it: timeouts in nanoseconds, errors as OSError.

    *timeout* is relative; negative waits for ever, 0 never (BlockingIOError).
    A wait ended by a signal raises InterruptedError and has done nothing.
    """

    __slots__ = ("handle",)

    def __init__(self, handle: Handle) -> None:
        self.handle: Handle = handle

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the socket; queued data is still sent."""
        self.handle = None

    def abort(self) -> None:
        """Answer the peer with a reset and forget queued data."""
        handle, self.handle = self.handle, None
        if handle is not None:
            ffi.gc(handle, None)
            check(lib.bsd_abort(handle))

    def bind(self, host: str, port: int) -> None:
        """Name the near end."""
        check(lib.bsd_bind(self.handle, address(host, port)))

    def listen(self, backlog: int = 128) -> None:
        """Take connections in."""
        check(lib.bsd_listen(self.handle, backlog))

    def accept(self, timeout: int = FOREVER) -> tuple[Socket, Address]:
        """The next connection and its peer."""
        out, peer = ffi.new("struct socket **"), ffi.new("struct bsd_addr *")
        check(lib.bsd_accept(self.handle, timeout, out, peer))
        return Socket(adopt(out[0])), unpack(peer)

    def connect(self, host: str, port: int, timeout: int = FOREVER) -> None:
        """Connect; with timeout 0 raises BlockingIOError and goes on by itself."""
        check(lib.bsd_connect(self.handle, address(host, port), timeout))

    def send(self, data: bytes, flags: int = 0, timeout: int = FOREVER) -> int:
        """Queue *data*; answers how much was taken."""
        return check(lib.bsd_send(self.handle, data, len(data), flags, ffi.NULL, timeout))

    def sendto(self, data: bytes, host: str, port: int, timeout: int = FOREVER) -> int:
        """Send one datagram."""
        to = address(host, port)
        return check(lib.bsd_send(self.handle, data, len(data), 0, to, timeout))

    def recv(self, size: int, flags: int = 0, timeout: int = FOREVER) -> bytes:
        """Up to *size* bytes; ``b""`` at the end of the stream."""
        buffer = ffi.new("char[]", size)
        got = check(lib.bsd_recv(self.handle, buffer, size, flags, ffi.NULL, timeout))
        return bytes(ffi.buffer(buffer, got))

    def recvfrom(self, size: int, timeout: int = FOREVER) -> tuple[bytes, Address]:
        """One datagram and where it came from."""
        buffer, source = ffi.new("char[]", size), ffi.new("struct bsd_addr *")
        got = check(lib.bsd_recv(self.handle, buffer, size, 0, source, timeout))
        return ffi.buffer(buffer, got)[:], unpack(source)

    def set_tag(self, svc: int, origin: int = 0) -> None:
        """Send as class *svc* (BSD_SVC_*; -1: the socket's own) for *origin* from now on."""
        check(lib.bsd_set_tag(self.handle, svc, origin))

    def shutdown(self, how: int) -> None:
        """Close one direction or both (SHUT_RD, SHUT_WR, SHUT_RDWR)."""
        check(lib.bsd_shutdown(self.handle, how))

    def poll(self) -> int:
        """What the socket is ready for now: POLLIN, POLLOUT, ..."""
        return check(lib.bsd_poll(self.handle))

    def getsockname(self) -> Address:
        """The near address."""
        out = ffi.new("struct bsd_addr *")
        check(lib.bsd_getsockname(self.handle, out))
        return unpack(out)

    def getpeername(self) -> Address:
        """The far address."""
        out = ffi.new("struct bsd_addr *")
        check(lib.bsd_getpeername(self.handle, out))
        return unpack(out)

    def getsockopt(self, level: int, name: int) -> int:
        """An integer option."""
        value, length = ffi.new("int *"), ffi.new("size_t *", 4)
        check(lib.bsd_getsockopt(self.handle, level, name, value, length))
        return int(value[0])

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Set an integer option."""
        check(lib.bsd_setsockopt(self.handle, level, name, ffi.new("int *", value), 4))
