"""The little languages that name an interface and its faults.

An interface is ``KIND[:NAME][,OPTION=VALUE]...``; faults are
``OPTION=VALUE,...``. Both parse into frozen values whose ``str()`` parses back
to the same value. Parsing touches nothing: whether the interface exists is
found out when it is opened. Every error is one line, a :class:`SpecError`,
that names the piece at fault and what would have been allowed.

Units are never guessed: a probability is written in percent (``1%``), a time
with ns, us, ms or s (``20ms``), a rate with bit, kbit, mbit or gbit (``10mbit``,
powers of 1000). What is not written is off.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from types import MappingProxyType
from typing import Final, TypeVar

__all__ = [
    "DIRECTIONS",
    "FANOUT_MODES",
    "OFFLOADS",
    "ClassqSpec",
    "FaultSpec",
    "NicSpec",
    "SpecError",
]

T = TypeVar("T")

NANOSECONDS: Final = MappingProxyType({"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9})
BITS: Final = MappingProxyType({"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9})
OFFLOADS: Final = ("off", "csum", "tso", "all")
DISTRIBUTIONS: Final = ("uniform", "normal", "pareto")
DIRECTIONS: Final = ("tx", "rx", "both")
# The numbers of PACKET_FANOUT_*, packet(7).
FANOUT_MODES: Final = MappingProxyType(
    {"hash": 0, "lb": 1, "cpu": 2, "rollover": 3, "rnd": 4, "qm": 5}
)

MTU_MIN: Final = 68  # RFC 791, 3.2: every module must forward 68 octets
MTU_MAX: Final = 65535  # what an IPv4 total length can say
QUEUES_MAX: Final = 16
TIME_MAX_NS: Final = 3600 * 10**9
RATE_MAX_BPS: Final = 10**12
QUEUE_MAX_PKTS: Final = 1 << 20  # FAULT_QUEUE_MAX in port_fault.c
SEED_MAX: Final = 2**64 - 1
DEFAULT_QUEUE: Final = 1000
DEFAULT_CLASSQ_LIMIT: Final = 2048  # CQ_LIMIT in classq.h
DEFAULT_TARGET_NS: Final = 10 * 10**6
DEFAULT_INTERVAL_NS: Final = 100 * 10**6
BURST_MAX: Final = 2**31 - 1
DEFAULT_REORDER_GAP_NS: Final = 10**6
IFNAMSIZ: Final = 16


class SpecError(ValueError):
    """A malformed specification; the message is one line meant for a user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NicSpec:
    """Which interface to use, and how.

    *offload* bounds what is left to the interface: ``off`` nothing, ``csum``
    checksums, ``tso`` checksums and TCP segmentation, ``all`` also UDP's.
    *fanout* is the group and the mode's name. *extra* holds options of
    ``usernet``, which is composed above this package: they are carried as
    written, and checked by whoever builds it.
    """

    kind: str
    name: str = ""
    mtu: int | None = None
    offload: str = "all"
    queues: int = 1
    mac: bytes | None = None
    promisc: bool = False
    fanout: tuple[int, str] | None = None
    ring: bool = False
    extra: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be written as a specification."""
        if self.kind not in _OPTIONS:
            raise SpecError(f"unknown interface kind {self.kind!r}; allowed: {_choices(_OPTIONS)}")
        if self.kind in _NAMED or self.name:
            _check_name(self.kind, self.name)
        if self.extra and self.kind != "usernet":
            raise SpecError(f"{self.kind}: extra options are for usernet only")
        for key, value in self.extra:
            if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not re.fullmatch(r"[^,\s]+", value):
                raise SpecError(f"usernet: malformed option {key + '=' + value!r}")
            if key in _OPTIONS["usernet"]:
                raise SpecError(f"usernet: {key!r} is not an extra option")
        for field in fields(self):
            if field.name in ("kind", "name", "extra"):
                continue
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if field.name not in _OPTIONS[self.kind]:
                raise SpecError(_unknown(self.kind, field.name, _OPTIONS[self.kind]))
            # Writing and reading back is the one check of every value.
            _OPTIONS[self.kind][field.name](_NIC_TEXT[field.name](value))

    @classmethod
    def parse(cls, text: str) -> "NicSpec":
        """Read ``KIND[:NAME][,OPTION=VALUE]...``, such as ``tap:tap0,offload=csum``."""
        kind, colon, rest = text.partition(":")
        if kind not in _OPTIONS:
            raise SpecError(f"unknown interface kind {kind!r}; allowed: {_choices(_OPTIONS)}")
        if colon and not rest:
            raise SpecError(f"{kind}: nothing follows the colon in {text!r}")
        pieces = rest.split(",") if rest else []
        name = ""
        if kind in _NAMED:
            name = pieces.pop(0) if pieces else ""
            _check_name(kind, name)
        known: dict[str, object] = {}
        extra: list[tuple[str, str]] = []
        for key, value in _pairs(kind, pieces):
            if key in _OPTIONS[kind]:
                _once(kind, key, known)
                known[key] = _read(kind, key, value, _OPTIONS[kind][key])
            elif kind == "usernet":
                extra.append((key, value))
            else:
                raise SpecError(_unknown(kind, key, _OPTIONS[kind]))
        return cls(kind=kind, name=name, extra=tuple(extra), **known)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Write the specification that parses to this value."""
        options = [
            f"{field.name}={_NIC_TEXT[field.name](getattr(self, field.name))}"
            for field in fields(self)
            if field.name in _NIC_TEXT and getattr(self, field.name) != field.default
        ]
        options += [f"{key}={value}" for key, value in self.extra]
        rest = ",".join(([self.name] if self.name else []) + options)
        return f"{self.kind}:{rest}" if rest else self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """What goes wrong on a link; probabilities are 0..1, times nanoseconds.

    *burst_p* and *burst_r* are the Gilbert-Elliott chances, per packet, of
    entering and leaving the bad state, in which a packet is lost with
    *burst_loss*. *jitter* spreads *delay*: uniformly over plus or minus
    jitter, normally with that deviation, or by a Pareto tail with about that
    mean. Only *reorder* changes the order of packets: it holds one back for
    *reorder_gap*. *rate* is in bits per second, *queue* in packets. The same
    seed and the same packets at the same times give the same result.
    """

    loss: float = 0.0
    burst_p: float = 0.0
    burst_r: float = 0.0
    burst_loss: float = 1.0
    delay: int = 0
    jitter: int = 0
    jitter_dist: str = "uniform"
    reorder: float = 0.0
    reorder_gap: int = DEFAULT_REORDER_GAP_NS
    dup: float = 0.0
    corrupt: float = 0.0
    rate: int = 0
    queue: int = DEFAULT_QUEUE
    mtu: int = 0
    partition: bool = False
    seed: int = 0
    dir: str = "both"

    def __post_init__(self) -> None:
        """Refuse what could not be written as a specification."""
        for key, (_, write) in _FAULTS.items():
            text = write(self)
            if text is not None:
                _read_fault(key, text)
        for main, details in _FAULT_DETAILS.items():
            for name in details if not getattr(self, main) else ():
                if getattr(self, name) != _FAULT_DEFAULTS[name]:
                    raise SpecError(f"fault: {name} without {main} means nothing")

    @classmethod
    def parse(cls, text: str) -> "FaultSpec":
        """Read ``OPTION=VALUE,...``, such as ``loss=1%,delay=20ms,jitter=5ms/normal``."""
        if not text:
            raise SpecError(f"fault: nothing given; allowed: {_choices(_FAULTS)}")
        seen: dict[str, object] = {}
        values: dict[str, object] = {}
        for key, value in _pairs("fault", text.split(",")):
            if key not in _FAULTS:
                raise SpecError(_unknown("fault", key, _FAULTS))
            _once("fault", key, seen)
            seen[key] = value
            values.update(_read_fault(key, value))
        return cls(**values)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Write the specification that parses to this value; ``dir=both`` when nothing is set."""
        pieces = [(key, write(self)) for key, (_, write) in _FAULTS.items()]
        return ",".join(f"{key}={text}" for key, text in pieces if text is not None) or "dir=both"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassqSpec:
    """Class queues in front of an interface, and a rate for it.

    *rate* is in bits per second, 0 for whatever the interface takes; *burst*
    in bytes may follow each other at once after a pause (0: what the rate
    carries in a millisecond). *limit* packets are queued in all. A flow whose
    packets waited longer than *target* for all of *interval* (nanoseconds) is
    stopped, marked (*ecn*) or dropped from.
    """

    rate: int = 0
    burst: int = 0
    limit: int = DEFAULT_CLASSQ_LIMIT
    target: int = DEFAULT_TARGET_NS
    interval: int = DEFAULT_INTERVAL_NS
    ecn: bool = True

    def __post_init__(self) -> None:
        """Refuse what could not be written as a specification."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                reader, write = _CLASSQ[field.name]
                _read("classq", field.name, write(value), reader)
        if self.burst and not self.rate:
            raise SpecError("classq: burst without rate means nothing")

    @classmethod
    def parse(cls, text: str) -> "ClassqSpec":
        """Read ``OPTION=VALUE,...``, such as ``rate=50mbit,target=5ms``; ``on`` for no option."""
        if text == "on":
            return cls()
        if not text:
            raise SpecError(f"classq: nothing given; allowed: on, {_choices(_CLASSQ)}")
        values: dict[str, object] = {}
        for key, value in _pairs("classq", text.split(",")):
            if key not in _CLASSQ:
                raise SpecError(_unknown("classq", key, _CLASSQ))
            _once("classq", key, values)
            values[key] = _read("classq", key, value, _CLASSQ[key][0])
        return cls(**values)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """Write the specification that parses to this value."""
        options = [
            f"{field.name}={_CLASSQ[field.name][1](getattr(self, field.name))}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return ",".join(options) or "on"


# Readers of one value. Each raises SpecError with what would be allowed.


def _choices(names: Iterator[str] | Mapping[str, object] | tuple[str, ...]) -> str:
    return ", ".join(names)


def _unknown(what: str, key: str, known: Mapping[str, object]) -> str:
    return f"{what}: unknown option {key!r}; allowed: {_choices(known) or 'none'}"


def _once(what: str, key: str, seen: Mapping[str, object]) -> None:
    if key in seen:
        raise SpecError(f"{what}: {key!r} is given twice")


def _pairs(what: str, pieces: list[str]) -> Iterator[tuple[str, str]]:
    for piece in pieces:
        key, equals, value = piece.partition("=")
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", key) or not equals or not value:
            raise SpecError(f"{what}: {piece!r} is not of the form option=value")
        if re.search(r"\s", value):
            raise SpecError(f"{what}: {piece!r} has a blank in it")
        yield key, value


def _read(what: str, key: str, text: str, reader: Callable[[str], T]) -> T:
    try:
        return reader(text)
    except SpecError as error:
        raise SpecError(f"{what}: {key}={text}: {error}") from None


def _read_fault(key: str, text: str) -> dict[str, object]:
    return _read("fault", key, text, _FAULTS[key][0])


def _check_name(kind: str, name: str) -> None:
    """Apply the kernel's rule for an interface name, and ours that it has no comma."""
    if not name:
        raise SpecError(f"{kind}: needs an interface name, as in {kind}:NAME")
    if kind not in _NAMED:
        raise SpecError(f"{kind}: takes no interface name")
    if not re.fullmatch(r"[!-~]+", name) or re.search(r"[,/:=%]", name) or name in (".", ".."):
        raise SpecError(f"{kind}: {name!r} is not an interface name (printable, none of , / : = %)")
    if len(name) >= IFNAMSIZ:
        raise SpecError(f"{kind}: {name!r} is longer than {IFNAMSIZ - 1} characters")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,20}", text) or not low <= int(text) <= high:
            raise SpecError(f"expected a whole number from {low} to {high}")
        return int(text)

    return read


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise SpecError(f"expected one of {_choices(names)}")
        return text

    return read


def _switch(text: str) -> bool:
    return _one_of(("on", "off"))(text) == "on"


def _mac(text: str) -> bytes:
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise SpecError("expected six hexadecimal pairs, as in 02:00:00:00:00:01")
    mac = bytes.fromhex(text.replace(":", ""))
    if mac[0] & 1 or mac == bytes(6):
        raise SpecError("expected a unicast address that is not all zeros")
    return mac


def _fanout(text: str) -> tuple[int, str]:
    group, slash, mode = text.partition("/")
    if not slash or mode not in FANOUT_MODES:
        raise SpecError(f"expected GROUP/MODE with MODE one of {_choices(FANOUT_MODES)}")
    return _whole(0, 65535)(group), mode


def _percent(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?%", text) or Decimal(text[:-1]) > 100:
        raise SpecError("expected a percentage from 0% to 100%, as in 0.5%")
    return float(Decimal(text[:-1]).scaleb(-2))


def _scaled(text: str, units: Mapping[str, int], high: int, example: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]+)", text)
    if match is None or match[2] not in units:
        raise SpecError(f"expected a number with a unit ({_choices(units)}), as in {example}")
    value = Decimal(match[1]) * units[match[2]]
    if value != int(value):
        raise SpecError(f"finer than one {next(iter(units))}")
    if value > high:
        raise SpecError(f"more than {_with_unit(high, units)}")
    return int(value)


def _time(text: str) -> int:
    return _scaled(text, NANOSECONDS, TIME_MAX_NS, "20ms")


def _delay(text: str) -> int:
    ns = _time(text)
    if ns == 0:
        raise SpecError("expected a time above zero")
    return ns


def _rate(text: str) -> int:
    bps = _scaled(text, BITS, RATE_MAX_BPS, "10mbit")
    if bps == 0:
        raise SpecError("a rate of zero lets nothing pass; use partition=on for that")
    return bps


def _read_burst(text: str) -> dict[str, object]:
    parts = [_percent(part) for part in text.split("/")]
    if len(parts) not in (2, 3) or parts[0] == 0:
        raise SpecError("expected ENTER%/LEAVE% or ENTER%/LEAVE%/LOSS%, ENTER above zero")
    if len(parts) == 3 and parts[2] == 0:
        raise SpecError("a bad state that loses nothing is no fault")
    return dict(zip(("burst_p", "burst_r", "burst_loss"), parts, strict=False))


def _read_jitter(text: str) -> dict[str, object]:
    span, slash, dist = text.partition("/")
    return {
        "jitter": _time(span),
        "jitter_dist": _one_of(DISTRIBUTIONS)(dist) if slash else "uniform",
    }


def _read_reorder(text: str) -> dict[str, object]:
    chance, slash, gap = text.partition("/")
    held = _time(gap) if slash else DEFAULT_REORDER_GAP_NS
    if held == 0:
        raise SpecError("a packet held for no time is not reordered")
    return {"reorder": _percent(chance), "reorder_gap": held}


def _read_rate(text: str) -> dict[str, object]:
    speed, slash, queue = text.partition("/")
    return {
        "rate": _rate(speed),
        "queue": _whole(1, QUEUE_MAX_PKTS)(queue) if slash else DEFAULT_QUEUE,
    }


def _read_one(name: str, reader: Callable[[str], object]) -> Callable[[str], dict[str, object]]:
    return lambda text: {name: reader(text)}


# Writers: the inverse of the readers, in the shortest form.


def _percent_text(chance: float) -> str:
    # repr() is the shortest text that is this float; scaleb moves its point
    # exactly, so reading the text back gives the same float.
    text = format(Decimal(repr(float(chance))).scaleb(2), "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def _with_unit(value: int, units: Mapping[str, int]) -> str:
    unit = max((u for u in units if value % units[u] == 0), key=lambda u: units[u])
    return f"{value // units[unit]}{unit}"


def _time_text(ns: int) -> str:
    return _with_unit(ns, NANOSECONDS)


def _burst_text(spec: FaultSpec) -> str | None:
    if not spec.burst_p:
        return None
    text = f"{_percent_text(spec.burst_p)}/{_percent_text(spec.burst_r)}"
    return text if spec.burst_loss == 1.0 else f"{text}/{_percent_text(spec.burst_loss)}"


def _jitter_text(spec: FaultSpec) -> str | None:
    if not spec.jitter:
        return None
    text = _time_text(spec.jitter)
    return text if spec.jitter_dist == "uniform" else f"{text}/{spec.jitter_dist}"


def _reorder_text(spec: FaultSpec) -> str | None:
    if not spec.reorder:
        return None
    text = _percent_text(spec.reorder)
    if spec.reorder_gap == DEFAULT_REORDER_GAP_NS:
        return text
    return f"{text}/{_time_text(spec.reorder_gap)}"


def _rate_text(spec: FaultSpec) -> str | None:
    if not spec.rate:
        return None
    text = _with_unit(spec.rate, BITS)
    return text if spec.queue == DEFAULT_QUEUE else f"{text}/{spec.queue}"


def _text_of(name: str, write: Callable[[T], str]) -> Callable[[FaultSpec], str | None]:
    def text(spec: FaultSpec) -> str | None:
        value = getattr(spec, name)
        return None if value == _FAULT_DEFAULTS[name] else write(value)

    return text


def _switch_text(on: bool) -> str:
    return "on" if on else "off"


def _fanout_text(fanout: tuple[int, str]) -> str:
    return f"{fanout[0]}/{fanout[1]}"


def _mac_text(mac: bytes) -> str:
    return mac.hex(":")


_MTU = _whole(MTU_MIN, MTU_MAX)
_NAMED: Final = frozenset({"tap", "tun", "af_packet"})
_TAP: Final = {"mtu": _MTU, "offload": _one_of(OFFLOADS), "queues": _whole(1, QUEUES_MAX)}

# fmt: off
_OPTIONS: Final[Mapping[str, Mapping[str, Callable[[str], object]]]] = MappingProxyType({
    "usernet":   {"mtu": _MTU},
    "tap":       _TAP,
    "tun":       _TAP,
    # No mtu: it is the host's interface, and stays as the host has set it.
    "af_packet": {"offload": _one_of(OFFLOADS), "mac": _mac, "promisc": _switch,
                  "fanout": _fanout, "ring": _switch},
    "feth":      {"mtu": _MTU, "offload": _one_of(OFFLOADS)},
    "lo":        {"mtu": _MTU},
})

_NIC_TEXT: Final[Mapping[str, Callable[..., str]]] = MappingProxyType({
    "mtu": str, "offload": str, "queues": str, "mac": _mac_text, "promisc": _switch_text,
    "fanout": _fanout_text, "ring": _switch_text,
})

_FaultRow = tuple[Callable[[str], dict[str, object]], Callable[[FaultSpec], str | None]]

_FAULTS: Final[Mapping[str, _FaultRow]] = MappingProxyType({
    "loss":       (_read_one("loss", _percent), _text_of("loss", _percent_text)),
    "burst-loss": (_read_burst, _burst_text),
    "delay":      (_read_one("delay", _time), _text_of("delay", _time_text)),
    "jitter":     (_read_jitter, _jitter_text),
    "reorder":    (_read_reorder, _reorder_text),
    "dup":        (_read_one("dup", _percent), _text_of("dup", _percent_text)),
    "corrupt":    (_read_one("corrupt", _percent), _text_of("corrupt", _percent_text)),
    "rate":       (_read_rate, _rate_text),
    "mtu":        (_read_one("mtu", _MTU), _text_of("mtu", str)),
    "partition":  (_read_one("partition", _switch), _text_of("partition", _switch_text)),
    "seed":       (_read_one("seed", _whole(0, SEED_MAX)), _text_of("seed", str)),
    "dir":        (_read_one("dir", _one_of(DIRECTIONS)), _text_of("dir", str)),
})

_ClassqRow = tuple[Callable[[str], object], Callable[..., str]]

_CLASSQ: Final[Mapping[str, _ClassqRow]] = MappingProxyType({
    "rate":     (_rate, lambda bps: _with_unit(bps, BITS)),
    "burst":    (_whole(1, BURST_MAX), str),
    "limit":    (_whole(1, QUEUE_MAX_PKTS), str),
    "target":   (_delay, _time_text),
    "interval": (_delay, _time_text),
    "ecn":      (_switch, _switch_text),
})
# fmt: on

_FAULT_DEFAULTS: Final = {field.name: field.default for field in fields(FaultSpec)}
# What may be set only together with the option it refines.
_FAULT_DETAILS: Final = {
    "burst_p": ("burst_r", "burst_loss"),
    "jitter": ("jitter_dist",),
    "reorder": ("reorder_gap",),
    "rate": ("queue",),
}
