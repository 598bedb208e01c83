"""Packet memory: where the buffers of one owner's ports come from."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, Self, final

from nic._ffi import ffi, lib

__all__ = ["DEFAULT_LIMIT", "Pool", "PoolStatistics"]

DEFAULT_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """*active* buffers are handed out; *bytes* of at most *limit* are held, idle ones included;
    *fails* allocations were refused at the limit."""

    active: int
    bytes: int
    limit: int
    fails: int


@final
class Pool:
    """Buffers up to *limit* bytes. Allocates for one thread at a time, is freed to by any.

    Every port made with a pool holds it: closing it while ports are open takes
    effect when the last of them is closed. Memory goes back to the system when
    the last packet has come back, whoever has it.
    """

    __slots__ = ("_closed", "_holders", "_lock", "_pool")

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        """Raise MemoryError when not even an empty pool can be made."""
        self._closed = True
        self._holders = 1
        self._lock = Lock()
        if not 0 < limit < 2**64:
            raise ValueError(f"a pool's limit is a positive number of bytes, not {limit}")
        self._pool = lib.nic_pool_new(limit)
        if self._pool == ffi.NULL:
            raise MemoryError("no memory for a packet pool")
        self._closed = False

    @property
    def raw(self) -> Any:
        """The ``struct pkt_pool *``, for the C of another package. Still this object's."""
        if self._holders == 0:
            raise ValueError("the pool is closed")
        return self._pool

    def statistics(self) -> PoolStatistics:
        """What is in use now. Any thread may ask while the pool is held."""
        out = ffi.new("struct nic_pool_stats *")
        lib.nic_pool_stats(self.raw, out)
        return PoolStatistics(out.active, out.bytes, out.limit, out.fails)

    def hold(self) -> Self:
        """Keep the pool usable until ``drop``, whoever closes it."""
        with self._lock:
            if self._holders == 0:
                raise ValueError("the pool is closed")
            self._holders += 1
        return self

    def drop(self) -> None:
        """End one ``hold``. Nothing may allocate from the pool after the last."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            lib.nic_pool_free(self._pool)

    def close(self) -> None:
        """Give the pool up. Twice is harmless."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self.drop()

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
