"""How to connect or listen: which interfaces, how long, how much to buffer; not what to speak."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from xsock.nw._endpoint import Endpoint
from xsock.nw._value import Value, check_choice, check_count, check_seconds
from xsock.nw._voucher import ServiceClass

__all__ = ["ATTEMPT_DELAY_MAX", "ATTEMPT_DELAY_MIN", "InterfaceType", "Parameters"]

ATTEMPT_DELAY_MIN: Final = 0.01  # seconds, RFC 8305 5: never closer than this
ATTEMPT_DELAY_MAX: Final = 2.0


class InterfaceType(Enum):
    """What kind of network an interface leads to."""

    OTHER = "other"
    WIFI = "wifi"
    CELLULAR = "cellular"
    WIRED = "wired"
    LOOPBACK = "loopback"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Parameters(Value):
    """Everything else about a connection or a listener. Times are in seconds, sizes in bytes.

    *waiting* says what a lack of connectivity does: ``fail`` raises at once, ``path``
    waits while there is no route and fails on refusals, ``wait`` waits for
    everything. *attempt_delay* and *resolution_delay* are those of RFC 8305.
    ``send`` blocks while *send_high_water* bytes wait to be sent; what is on its way over TCP is
    bounded by the peer and the path instead.
    """

    required_interface: str | None = None
    required_interface_type: InterfaceType | None = None
    prohibited_interfaces: tuple[str, ...] = ()
    prohibited_interface_types: tuple[InterfaceType, ...] = ()
    prohibit_expensive: bool = False
    prohibit_constrained: bool = False
    local: Endpoint | None = None
    reuse_local: bool = False
    local_only: bool = False
    service_class: ServiceClass | None = None
    waiting: Literal["fail", "path", "wait"] = "fail"
    establish_timeout: float | None = 30.0
    close_timeout: float = 5.0
    attempt_delay: float = 0.25
    resolution_delay: float = 0.05
    send_high_water: int = 262_144
    receive_window: int | None = None
    overflow: Literal["drop-newest", "drop-oldest", "block"] = field(default="drop-newest")

    def __post_init__(self) -> None:
        for name, kind in (
            ("required_interface", str), ("required_interface_type", InterfaceType),
            ("local", Endpoint), ("service_class", ServiceClass),
        ):  # fmt: skip
            if not isinstance(value := getattr(self, name), kind | None):
                raise TypeError(f"{name}: {kind.__name__} or None is wanted, not {value!r}")
        for name, kind in (
            ("prohibited_interfaces", str), ("prohibited_interface_types", InterfaceType),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(item, kind) for item in value):
                raise TypeError(f"{name}: a tuple of {kind.__name__} is wanted, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        if self.local is not None and not self.local.is_numeric:
            raise ValueError(f"local: an address is wanted, not {self.local}")
        check_choice("waiting", self.waiting, "fail", "path", "wait")
        check_choice("overflow", self.overflow, "drop-newest", "drop-oldest", "block")
        check_seconds("establish_timeout", self.establish_timeout)
        check_seconds("close_timeout", self.close_timeout)
        check_seconds("resolution_delay", self.resolution_delay)
        check_seconds("attempt_delay", self.attempt_delay, ATTEMPT_DELAY_MIN)
        if self.attempt_delay > ATTEMPT_DELAY_MAX:
            raise ValueError(f"attempt_delay: at most {ATTEMPT_DELAY_MAX:g} seconds are allowed")
        check_count("send_high_water", self.send_high_water, 1, 2**31 - 1)
        check_count("receive_window", self.receive_window, 256, 2**30)
