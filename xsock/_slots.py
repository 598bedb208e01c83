"""Buffers for the calls that need room: taken, used and given back by one call each.

A call takes a slot off the list and puts it back, so a signal handler or a
finaliser that runs in between finds another. Slots are never shared.
"""

from __future__ import annotations

import atexit
from collections import namedtuple

from bsdcore._ffi import ffi
from xsock._addr import ADDRESS_SIZE

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["SLOT_SIZE", "Slot", "exiting", "free", "new_slot", "owned"]

SLOT_SIZE: Final = 65536  # bytes; more than any datagram
_new_unclear = ffi.new_allocator(should_clear_after_alloc=False)


# Room for data, an address, a socket pointer and a size; the first two also as bytes.
Slot = namedtuple("Slot", "data data_bytes addr addr_bytes out size")


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

# The handles of all open sockets, by the id() of the socket object. In a cycle of garbage
# cffi may close a handle before the finaliser of the socket runs, which still asks it for
# names; what is listed here is not garbage. A socket leaves the list when it is closed.
owned: Final[dict[int, Any]] = {}
# Not empty once the interpreter is going down: then even this list is garbage.
exiting: Final[list[bool]] = []
atexit.register(exiting.append, True)
