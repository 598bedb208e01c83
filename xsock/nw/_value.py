"""What the values of this package have in common: a copy with changes, and a repr that is code."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from enum import Enum
from typing import Any, ClassVar, Self

__all__ = ["Value", "check_choice", "check_count", "check_seconds"]


class Value:
    """A frozen dataclass whose repr names only what differs from the defaults."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def replace(self, **changes: Any) -> Self:
        """A copy with *changes*, checked as a new one would be."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        parts = []
        for item in fields(self):
            value = getattr(self, item.name)
            if item.default_factory is not MISSING:
                default = item.default_factory()
            else:
                default = item.default
            if value == default and value.__class__ is default.__class__:
                continue
            parts.append(f"{item.name}={_code(value)}" if item.kw_only else _code(value))
        return f"{type(self).__qualname__}({', '.join(parts)})"


def _code(value: Any) -> str:
    """repr(), but members of enumerations as programs write them."""
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if type(value) is tuple:
        return f"({', '.join(map(_code, value))}{',' * (len(value) == 1)})"
    return repr(value)


def check_count(name: str, value: int | None, low: int, high: int) -> None:
    """TypeError or ValueError, in one line, unless *value* is None or an integer of the range."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: an integer is wanted, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}: {low} to {high} is allowed, not {value}")


def check_seconds(name: str, value: float | None, low: float = 0.0) -> None:
    """The same for a number of seconds; infinity is allowed."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: seconds are wanted, not {value!r}")
    if not value >= low:
        raise ValueError(f"{name}: at least {low:g} seconds are wanted, not {value}")


def check_choice(name: str, value: object, *allowed: object) -> None:
    """ValueError unless *value* is one of *allowed*."""
    if value not in allowed:
        raise ValueError(f"{name}: {', '.join(map(repr, allowed))} is allowed, not {value!r}")
