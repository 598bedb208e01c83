"""Timeouts and options: the conversions that are not worth a place on the fast path."""

from __future__ import annotations

import math
import operator

from bsdcore._ffi import ffi, lib
from xsock._errors import throw

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["get", "index", "nanoseconds", "pending_error", "set"]

NS_MAX: Final = 2**63 - 1
SOL_SOCKET: Final = 1
SO_ERROR: Final = 4
INT_BYTES: Final = 4
OPTION_MAX: Final = 1024  # bytes; the standard's limit for getsockopt()
index = operator.index


def nanoseconds(value: float | None) -> int:
    """A timeout in seconds as the C calls have it; -1 for None."""
    if value is None:
        return -1
    if isinstance(value, float):
        if math.isnan(value):
            raise ValueError("Invalid value NaN (not a number)")
        exact = value * 1e9
        if exact >= NS_MAX:
            raise OverflowError("timestamp too large to convert to C PyTime_t")
        ns = math.ceil(round(exact, 3))
    else:
        ns = operator.index(value) * 10**9
        if ns > NS_MAX:
            raise OverflowError("timestamp too large to convert to C PyTime_t")
    if ns < 0:
        raise ValueError("Timeout value out of range")
    return ns


def pending_error(handle: Any) -> int:
    """SO_ERROR: the errno that the socket has kept, and forgets now."""
    value, length = ffi.new("int *"), ffi.new("size_t *", INT_BYTES)
    result = lib.bsd_getsockopt(handle, SOL_SOCKET, SO_ERROR, value, length)
    return -int(result) if result < 0 else int(value[0])


def get(handle: Any, level: int, name: int, buflen: int) -> Any:
    """getsockopt(2)."""
    if buflen < 0 or buflen > OPTION_MAX:
        raise OSError("getsockopt buflen out of range")
    length = ffi.new("size_t *", buflen or INT_BYTES)
    room = ffi.new("char[]", buflen or INT_BYTES)
    result = lib.bsd_getsockopt(handle, level, name, room, length)
    if result < 0:
        throw(result)
    if buflen:
        return ffi.buffer(room, length[0])[:]
    return ffi.cast("int *", room)[0]


def set(handle: Any, level: int, name: int, *value: Any) -> None:
    """setsockopt(2)."""
    if len(value) == 1 and isinstance(value[0], int):
        number = value[0]
        if not -(2**31) <= number < 2**32:
            raise OverflowError("Python int too large to convert to C int")
        result = lib.bsd_setsockopt(
            handle, level, name, ffi.new("unsigned int *", number & 0xFFFFFFFF), INT_BYTES
        )
    elif len(value) == 2 and value[0] is None:
        result = lib.bsd_setsockopt(handle, level, name, ffi.NULL, operator.index(value[1]))
    elif len(value) == 1 and value[0] is not None:
        data = ffi.from_buffer(value[0])
        result = lib.bsd_setsockopt(handle, level, name, data, len(data))
    else:
        raise TypeError("socket option should be integer, bytes-like object or None")
    if result < 0:
        handle = None
        throw(result)
