"""sendmsg, recvmsg and the rare sizes of recv and sendall: off the fast path."""

# The standard class is called unbound, and its private methods are part of the contract;
# typeshed has neither.
# mypy: disable-error-code="no-any-return,misc,attr-defined"

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from operator import index
from time import monotonic_ns
from warnings import warn

from bsdcore._ffi import ffi, lib
from xsock._addr import ADDRESS_SIZE
from xsock._errors import EINTR, oserror, retry, throw

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = [
    "read_message",
    "recv_unusual",
    "recvfrom_unusual",
    "recvmsg",
    "recvmsg_into",
    "sendall_rest",
    "sendmsg",
]

EMSGSIZE: Final = 90
EBADF: Final = 9
IOV_MAX: Final = 1024
MSG_DONTWAIT: Final = 0x40
SOCK_STREAM: Final = 1
CMSG: Final = struct.Struct("@Nii")  # length, level, type


def deadline(sock: Any, flags: int) -> tuple[int, int, int]:
    """Timeout, deadline and flags for a call that may be made more than once."""
    tmo = sock._xs_tmo
    if tmo > 0:
        return tmo, monotonic_ns() + tmo, flags & ~MSG_DONTWAIT
    return tmo, 0, flags


def recv_unusual(sock: Any, size: int, flags: int) -> bytes:
    """recv() of nothing, or of more than a slot holds."""
    if size < 0:
        raise ValueError("negative buffersize in recv")
    if size == 0:
        return b""
    tmo, end, flags = deadline(sock, flags)
    room = _room(size)
    n = _call(sock, lambda so, left: lib.bsd_recv(so, room, size, flags, ffi.NULL, left), tmo, end)
    return bytes(ffi.buffer(room, min(n, size)))


def recvfrom_unusual(sock: Any, size: int, flags: int) -> tuple[bytes, Any]:
    """recvfrom() of more than a slot holds."""
    if size < 0:
        raise ValueError("negative buffersize in recvfrom")
    tmo, end, flags = deadline(sock, flags)
    room, source = _room(size), ffi.new("struct bsd_addr *")
    n = _call(sock, lambda so, left: lib.bsd_recv(so, room, size, flags, source, left), tmo, end)
    return bytes(ffi.buffer(room, min(n, size))), _name(sock, source)


def sendall_rest(sock: Any, data: Any, flags: int, done: int, end: int) -> None:
    """sendall() after a signal: what is left of the data in what is left of the time."""
    with memoryview(data) as whole, whole.cast("B") as octets:
        while True:
            # Asked anew each time: a signal handler may have closed or exposed the socket.
            if sock._xs_so is None:
                return sock.sendall(octets[done:], flags)
            left = max(0, end - monotonic_ns()) if end else -1
            with octets[done:] as rest:
                taken = ffi.new("size_t *")
                view = ffi.from_buffer(rest)
                n = lib.bsd_sendall(sock._xs_so, view, len(rest), flags, left, taken)
                ffi.release(view)
            done += taken[0]
            if n >= 0:
                return None
            retry(n, end)


def sendmsg(
    sock: Any, buffers: Iterable[Any], ancdata: Any = (), flags: int = 0, address: Any = None, /
) -> int:
    """Gather *buffers* into one message, or part of a stream."""
    try:
        views = [ffi.from_buffer(item) for item in buffers]
    except TypeError as error:
        if "not iterable" in str(error):
            raise TypeError("sendmsg() argument 1 must be iterable") from None
        raise TypeError("a bytes-like object is required") from error
    if len(views) > IOV_MAX:
        raise oserror(EMSGSIZE)
    control = b"".join(_control(ancdata))
    to = ffi.NULL
    if address is not None:
        to = sock._xs_host.remote("sendmsg", sock._xs_family, sock._xs_kind, address)
    sys.audit("socket.sendmsg", sock, address)
    if sock._xs_so is None and sock._xs_px is not None and sock._xs_px.is_stream:
        return int(sock._xs_px.sendmsg(sock, views, control, flags))
    tmo, end, flags = deadline(sock, flags)
    iov = _vector(views)
    count, length = len(views), len(control)
    return _call(
        sock,
        lambda so, left: lib.bsd_sendmsg(so, iov, count, control, length, flags, to, left),
        tmo,
        end,
    )


def recvmsg(sock: Any, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
    """(data, ancillary data, flags, address)."""
    if bufsize < 0:
        raise ValueError("negative buffer size in recvmsg()")
    room = _room(bufsize)
    n, ancdata, out, peer = read_message(sock, [room], ancbufsize, flags, "recvmsg")
    return bytes(ffi.buffer(room, min(n, bufsize))), ancdata, out, peer


def recvmsg_into(sock: Any, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0, /) -> Any:
    """(bytes read, ancillary data, flags, address), the data scattered over *buffers*."""
    try:
        views = [ffi.from_buffer("char[]", item, True) for item in buffers]
    except (TypeError, BufferError) as error:
        if "not iterable" in str(error):
            raise TypeError("recvmsg_into() argument 1 must be an iterable") from None
        raise TypeError("recvmsg_into() argument 1 must be an iterable of writable "
                        "bytes-like objects") from error  # fmt: skip
    if len(views) > IOV_MAX:
        raise oserror(EMSGSIZE)
    return read_message(sock, views, ancbufsize, flags, "recvmsg_into")


def read_message(sock: Any, views: list[Any], ancbufsize: int, flags: int, name: str) -> Any:
    """recvmsg(2) into *views*: (bytes, ancillary data, flags, address)."""
    if not 0 <= ancbufsize <= 2**31 - 1:
        raise ValueError(f"invalid ancillary data buffer length in {name}()")
    if sock._xs_so is None and sock._xs_px is not None and sock._xs_px.is_stream:
        return sock._xs_px.recvmsg(sock, views, flags)
    tmo, end, flags = deadline(sock, flags)
    iov, count = _vector(views), len(views)
    control = ffi.new("char[]", max(ancbufsize, 1))
    length, out = ffi.new("size_t *"), ffi.new("int *")
    source = ffi.new("struct bsd_addr *")

    def call(so: Any, left: int) -> int:
        length[0], out[0] = ancbufsize, flags
        return int(lib.bsd_recvmsg(so, iov, count, control, length, out, source, left))

    n = _call(sock, call, tmo, end)
    proxy = sock._xs_px
    if proxy is not None:
        proxy.settle(sock)
    ancdata = _parse_control(ffi.buffer(control, min(length[0], ancbufsize))[:])
    return n, ancdata, int(out[0]), _name(sock, source)


def _call(sock: Any, call: Any, tmo: int, end: int) -> int:
    """Make *call* on the socket until it is not ended by a signal."""
    while True:
        handle = sock._xs_h
        if handle is None:
            throw(-EBADF)
        n = int(call(handle, tmo))
        if n >= 0:
            return n
        handle = None
        if n != EINTR and sock._xs_px is not None:
            sock._xs_px.settle(sock)
        tmo = retry(n, end)


def _room(size: int) -> Any:
    return ffi.new("char[]", max(size, 1))


def _vector(views: list[Any]) -> Any:
    iov = ffi.new("struct bsd_iovec[]", max(len(views), 1))
    for i, view in enumerate(views):
        iov[i].base, iov[i].len = view, len(view)
    return iov


def _name(sock: Any, source: Any) -> Any:
    if sock._xs_kind == SOCK_STREAM:
        return None
    key = ffi.buffer(source, ADDRESS_SIZE)[:]
    return sock._xs_host.names.get(key) or sock._xs_host.name(key)


def _control(ancdata: Any) -> Iterable[bytes]:
    """Control messages as sendmsg(2) wants them."""
    try:
        items = list(ancdata)
    except TypeError:
        raise TypeError("sendmsg() argument 2 must be iterable") from None
    for item in items:
        if not isinstance(item, tuple | list) or len(item) != 3:
            raise TypeError("[sendmsg() ancillary data items] must be 3-tuples")
        level, kind, data = item
        octets, level, kind = bytes(memoryview(data)), index(level), index(kind)
        yield CMSG.pack(CMSG.size + len(octets), level, kind) + octets + bytes(-len(octets) % 8)


def _parse_control(raw: bytes) -> list[tuple[int, int, bytes]]:
    """Control messages as recvmsg(2) gives them; the last may be cut short."""
    found, at = [], 0
    while at + CMSG.size <= len(raw):
        length, level, kind = CMSG.unpack_from(raw, at)
        if length < CMSG.size:
            warn("received malformed or improperly-truncated ancillary data", RuntimeWarning, 4)
            break
        found.append((level, kind, raw[at + CMSG.size : min(at + length, len(raw))]))
        at += length + (-length % 8)
    return found
