"""Buffers for the calls that need room: taken, used and given back by one call each.

A call takes a slot off the list and puts it back, so a signal handler or a
finaliser that runs in between finds another. Slots are never shared.
"""

from typing import Any, Final, NamedTuple

from bsdcore._ffi import ffi

from xsock._addr import ADDRESS_SIZE

__all__ = ["SLOT_SIZE", "Slot", "free", "new_slot"]

SLOT_SIZE: Final = 65536  # bytes; more than any datagram
_new_unclear = ffi.new_allocator(should_clear_after_alloc=False)


class Slot(NamedTuple):
    """Room for data, an address, a socket pointer and a size; each with its bytes."""

    data: Any
    data_bytes: Any
    addr: Any
    addr_bytes: Any
    out: Any
    size: Any


def new_slot() -> Slot:
    """One more slot, for when the list is empty."""
    data, addr = _new_unclear("char[]", SLOT_SIZE), ffi.new("struct bsd_addr *")
    return Slot(
        data,
        ffi.buffer(data, SLOT_SIZE),
        addr,
        ffi.buffer(addr, ADDRESS_SIZE),
        ffi.new("struct socket **"),
        ffi.new("size_t *"),
    )


free: Final[list[Slot]] = []
