"""Tunables by dotted name (``net.inet.tcp.*``), per Stack."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator

from bsdcore._ffi import check, ffi, lib

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Sysctl", "Tunable"]


# What there is to know of one tunable; all but the first two are integers.
Tunable = namedtuple("Tunable", "name doc value minimum maximum")


class Sysctl:
    """A mapping of names to integers. KeyError for a name that is not there.

    Setting a value out of bounds raises ValueError with the bounds.
    """

    __slots__ = ("_stack",)

    def __init__(self, stack: Any) -> None:
        self._stack = stack

    def __getitem__(self, name: str) -> int:
        out = ffi.new("int64_t *")
        if lib.bsd_sysctl_get(self._stack, name.encode(), out) < 0:
            raise KeyError(name)
        return int(out[0])

    def __setitem__(self, name: str, value: int) -> None:
        if lib.bsd_sysctl_set(self._stack, name.encode(), value) == 0:
            return
        for row in self.tunables():
            if row.name == name:
                raise ValueError(f"{name}: {value} is not in {row.minimum}..{row.maximum}")
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (row.name for row in self.tunables())

    def tunables(self) -> Iterator[Tunable]:
        """Every tunable, in the order the stack has them."""
        name, doc = ffi.new("char const **"), ffi.new("char const **")
        value, low, high = (ffi.new("int64_t *") for _ in range(3))
        index = 0
        while check_end(lib.bsd_sysctl_info(self._stack, index, name, doc, value, low, high)):
            yield Tunable(text(name[0]), text(doc[0]), int(value[0]), int(low[0]), int(high[0]))
            index += 1


def text(pointer: Any) -> str:
    """A static C string."""
    return ffi.string(pointer).decode() if pointer else ""


def check_end(result: int) -> bool:
    """False at the end of a list (-ENOENT); other errors raise."""
    if result == -2:
        return False
    check(result)
    return True
