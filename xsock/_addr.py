"""Socket addresses: what programs write, what the stack reads, and caches between.

Numeric addresses are turned into a ``struct bsd_addr`` once and kept, and so
are the tuples of addresses that come from the stack: a datagram then costs
a dictionary lookup each way. Names are resolved every time, as connect(2)'s
callers expect.
"""

from __future__ import annotations

import _socket
import sys
from collections.abc import Callable

from bsdcore._ffi import ffi

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["ADDRESS_SIZE", "Resolve", "format_address", "host_bytes", "parse_address", "read_key"]

AF_INET: Final = 2
AF_INET6: Final = 10
ORDER: Final = sys.byteorder
ADDRESS_SIZE: Final = ffi.sizeof("struct bsd_addr")
# Given a name and a family: packed address and scope id.
Resolve = Callable[[bytes, int], tuple[bytes, int]]

_SHAPES: Final = {
    AF_INET: ("AF_INET", 2, "AF_INET address must be a pair (host, port)"),
    AF_INET6: (
        "AF_INET6",
        4,
        "AF_INET6 address must be a tuple (host, port[, flowinfo[, scopeid]])",
    ),
}


def host_bytes(host: object) -> bytes:
    """A host as bytes: ASCII as it is, other text by IDNA. TypeError with the standard's words."""
    if isinstance(host, str):
        try:
            raw = host.encode("ascii")
        except UnicodeEncodeError:
            try:
                raw = host.encode("idna")
            except UnicodeError as error:
                raise TypeError("encoding of hostname failed") from error
    elif isinstance(host, bytes | bytearray):
        raw = bytes(host)
    else:
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    if b"\0" in raw:
        raise TypeError("host name must not contain null character")
    return raw


def numeric(raw: bytes, family: int) -> bytes | None:
    """The packed form of a host that needs no resolver, else None."""
    if not raw:
        return bytes(16 if family == AF_INET6 else 4)
    if raw == b"<broadcast>" or (raw == b"255.255.255.255" and family == AF_INET):
        if family != AF_INET:
            raise OSError("address family mismatched")
        return b"\xff\xff\xff\xff"
    try:
        return _socket.inet_pton(family, raw.decode("latin-1"))
    except OSError:
        return None


def _port(call: str, port: Any) -> int:
    try:
        number = port.__index__()
    except AttributeError:
        raise TypeError(
            f"{type(port).__name__!r} object cannot be interpreted as an integer"
        ) from None
    if not 0 <= number <= 0xFFFF:
        raise OverflowError(f"{call}(): port must be 0-65535.")
    return int(number)


def parse_address(call: str, family: int, address: Any, resolve: Resolve) -> tuple[Any, bool]:
    """*address* as a new ``struct bsd_addr *``, and whether it was numeric and may be kept."""
    name, longest, shape = _SHAPES[family]
    if not isinstance(address, tuple):
        raise TypeError(f"{call}(): {name} address must be tuple, not {type(address).__name__}")
    if not 2 <= len(address) <= longest:
        raise TypeError(shape)
    raw = host_bytes(address[0])
    if not hasattr(address[1], "__index__"):
        _port(call, address[1])
    packed, scope = numeric(raw, family), 0
    is_numeric = packed is not None
    if packed is None:
        packed, scope = resolve(raw, family)
    out = ffi.new("struct bsd_addr *")
    out.family, out.port, out.scope_id = family, _port(call, address[1]), scope
    if len(address) > 2:
        if not 0 <= address[2] <= 0xFFFFF:
            raise OverflowError(f"{call}(): flowinfo must be 0-1048575.")
        out.flowinfo = address[2]
    if len(address) > 3:
        out.scope_id = address[3]
    ffi.memmove(out.addr, packed, len(packed))
    return out, is_numeric


def format_address(key: bytes) -> Any:
    """The tuple for the 28 bytes of a ``struct bsd_addr``; None if it names nothing."""
    family = int.from_bytes(key[0:2], ORDER)
    port = int.from_bytes(key[2:4], ORDER)
    if family == AF_INET:
        return _socket.inet_ntop(AF_INET, key[12:16]), port
    if family != AF_INET6:
        return None
    flowinfo, scope = int.from_bytes(key[4:8], ORDER), int.from_bytes(key[8:12], ORDER)
    return _socket.inet_ntop(AF_INET6, key[12:28]), port, flowinfo, scope


def read_key(addr: Any) -> bytes:
    """The bytes of *addr*: what the caches of names are keyed by."""
    return bytes(ffi.buffer(addr, ADDRESS_SIZE))
