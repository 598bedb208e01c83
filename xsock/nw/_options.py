"""What a connection speaks: one frozen value per protocol, each around the one below it.

    TLS()                                 # over TCP() over IP()
    LengthPrefixed(TLS(alpn=("demo",)), bytes=2)
    Alternatives(TCP(IP(version=6)), TCP(IP(version=4)))

The first argument is the layer below; left out, it is the usual one. What a
layer gives the one above (``produces``) decides what may stand on it, and for
the top layer which class the connection has.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, ClassVar, Final, Literal, TypeVar

from xsock.nw._value import Value, check_choice, check_count, check_seconds

__all__ = [
    "IP", "TCP", "TLS", "TLV", "UDP", "Alternatives", "DataMode", "Ecn", "Framed", "Keepalive",
    "LengthPrefixed", "Lines", "Metadata", "PeerInfo", "ProtocolOptions", "SecurityLevel",
    "candidates_of", "layer", "mode_of", "security_of", "stack_of",
]  # fmt: skip

MESSAGE_MAX: Final = 16 * 1024 * 1024  # bytes of one message, unless max_size says otherwise
ALPN_MAX: Final = 255  # bytes of one name, RFC 7301 3.1
SECONDS_MAX: Final = 32767  # what a keepalive setting holds
Byteorder = Literal["big", "little"]


class DataMode(Enum):
    """What a layer gives the one above it."""

    PACKET = "packet"
    STREAM = "stream"  # bytes in order, no boundaries
    DATAGRAM = "datagram"  # messages, which may be lost
    MESSAGE = "message"  # messages in order


class SecurityLevel(IntEnum):
    """What a stack of protocols promises about who reads and writes."""

    NONE = 0
    ENCRYPTED = 1  # nobody checked who the peer is
    AUTHENTICATED = 2


class Ecn(IntEnum):
    """The two bits of RFC 3168."""

    NON_ECT = 0
    ECT1 = 1
    ECT0 = 2
    CE = 3


class Metadata(Value):
    """What a protocol says about one message, or takes with it: ``context[TLV.Metadata]``."""

    __slots__ = ()


class ProtocolOptions(Value):
    """One layer. Frozen and hashable; replace() makes another."""

    __slots__ = ()
    produces: ClassVar[DataMode]
    consumes: ClassVar[frozenset[DataMode]] = frozenset()

    @property
    def lower(self) -> ProtocolOptions | None:
        """The layer below; None of the lowest."""
        return getattr(self, "below", None)

    def _check_below(self) -> None:
        below = self.lower
        name = type(self).__name__
        if isinstance(below, Alternatives):
            raise TypeError(f"{name}: Alternatives goes around whole stacks, not below {name}")
        if not isinstance(below, ProtocolOptions):
            raise TypeError(f"{name}: the layer below is wanted first, not {below!r}")
        if below.produces not in self.consumes:
            wants = " or ".join(sorted(mode.value for mode in self.consumes))
            raise TypeError(
                f"{name} needs {wants}s below it; {type(below).__name__} gives "
                f"{below.produces.value}s"
            )


@dataclass(frozen=True, slots=True, repr=False)
class IP(ProtocolOptions):
    """IPv4 or IPv6. *df* sets don't-fragment.

    *version* 4 or 6 asks only for addresses of that family. *source* prefers a
    kind of own address (RFC 8981) where there are several.
    """

    version: Literal[4, 6] | None = field(default=None, kw_only=True)
    hop_limit: int | None = field(default=None, kw_only=True)
    df: bool | None = field(default=None, kw_only=True)
    source: Literal["default", "temporary", "stable"] = field(default="default", kw_only=True)

    produces: ClassVar[DataMode] = DataMode.PACKET

    @dataclass(frozen=True, slots=True, repr=False)
    class Metadata(Metadata):
        """Of one datagram: the ECN bits, DSCP, hop limit, and the stack's time it came at (ns)."""

        ecn: Ecn = field(default=Ecn.NON_ECT, kw_only=True)
        dscp: int = field(default=0, kw_only=True)
        hop_limit: int | None = field(default=None, kw_only=True)
        received_at: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_choice("version", self.version, None, 4, 6)
        check_count("hop_limit", self.hop_limit, 1, 255)
        check_choice("source", self.source, "default", "temporary", "stable")


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Probe a silent peer after *idle* seconds, every *interval* seconds, *count* times."""

    idle: int = 7200
    interval: int = 75
    count: int = 9

    def __post_init__(self) -> None:
        check_count("idle", self.idle, 1, SECONDS_MAX)
        check_count("interval", self.interval, 1, SECONDS_MAX)
        check_count("count", self.count, 1, 127)


@dataclass(frozen=True, slots=True, repr=False)
class TCP(ProtocolOptions):
    """A byte stream (RFC 9293). Times are in seconds, *mss* in bytes.

    *no_delay* False lets small segments wait for acknowledgements (RFC 896). *no_push* holds
    partial segments back until it is cleared. *user_timeout* ends the connection when sent data
    stays unacknowledged that long (RFC 5482).
    *cc* names the congestion control; None is the stack's.
    """

    below: IP = field(default_factory=lambda: _IP)
    no_delay: bool = field(default=True, kw_only=True)
    no_push: bool = field(default=False, kw_only=True)
    mss: int | None = field(default=None, kw_only=True)
    keepalive: Keepalive | None = field(default=None, kw_only=True)
    user_timeout: float | None = field(default=None, kw_only=True)
    cc: Literal["cubic", "newreno"] | None = field(default=None, kw_only=True)

    produces: ClassVar[DataMode] = DataMode.STREAM
    consumes: ClassVar[frozenset[DataMode]] = frozenset({DataMode.PACKET})

    def __post_init__(self) -> None:
        self._check_below()
        check_count("mss", self.mss, 88, 65535)
        if not isinstance(self.keepalive, Keepalive | None):
            raise TypeError(f"keepalive: a Keepalive is wanted, not {self.keepalive!r}")
        check_seconds("user_timeout", self.user_timeout)
        check_choice("cc", self.cc, None, "cubic", "newreno")


@dataclass(frozen=True, slots=True, repr=False)
class UDP(ProtocolOptions):
    """Datagrams (RFC 768)."""

    below: IP = field(default_factory=lambda: _IP)

    produces: ClassVar[DataMode] = DataMode.DATAGRAM
    consumes: ClassVar[frozenset[DataMode]] = frozenset({DataMode.PACKET})

    def __post_init__(self) -> None:
        self._check_below()


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """What TLS knows of the peer when ``verify`` is asked: its certificate in DER, and names."""

    certificate: bytes | None
    server_hostname: str | None
    version: str | None = None
    alpn: str | None = None


Verify = Callable[[PeerInfo], Awaitable[bool]]


@dataclass(frozen=True, slots=True, repr=False)
class TLS(ProtocolOptions):
    """TLS 1.2 or 1.3 by the ssl module. Without a *context* a client trusts the system's roots.

    *server_hostname* is the endpoint's name unless given; ``""`` checks and sends none.
    *verify* may refuse a peer that the context took. With *standard_compatible*
    an end without close_notify is an error.
    """

    below: ProtocolOptions = field(default_factory=lambda: _TCP)
    context: ssl.SSLContext | None = field(default=None, kw_only=True)
    server_hostname: str | None = field(default=None, kw_only=True)
    alpn: tuple[str, ...] = field(default=(), kw_only=True)
    verify: Verify | None = field(default=None, kw_only=True)
    standard_compatible: bool = field(default=True, kw_only=True)

    produces: ClassVar[DataMode] = DataMode.STREAM
    consumes: ClassVar[frozenset[DataMode]] = frozenset({DataMode.STREAM})

    def __post_init__(self) -> None:
        self._check_below()
        if not isinstance(self.context, ssl.SSLContext | None):
            raise TypeError(f"context: an ssl.SSLContext is wanted, not {self.context!r}")
        if isinstance(self.alpn, str) or not all(isinstance(name, str) for name in self.alpn):
            raise TypeError(f"alpn: a tuple of names is wanted, not {self.alpn!r}")
        object.__setattr__(self, "alpn", tuple(self.alpn))
        if not all(0 < len(name.encode()) <= ALPN_MAX for name in self.alpn):
            raise ValueError(f"alpn: a name has 1 to {ALPN_MAX} bytes: {self.alpn!r}")


@dataclass(frozen=True, slots=True, repr=False)
class TLV(ProtocolOptions):
    """Messages with a type and a length in front, each an unsigned integer of so many bytes."""

    below: ProtocolOptions = field(default_factory=lambda: _TCP)
    type_bytes: int = field(default=4, kw_only=True)
    length_bytes: int = field(default=4, kw_only=True)
    byteorder: Byteorder = field(default="big", kw_only=True)
    max_size: int = field(default=MESSAGE_MAX, kw_only=True)

    produces: ClassVar[DataMode] = DataMode.MESSAGE
    consumes: ClassVar[frozenset[DataMode]] = frozenset({DataMode.STREAM})

    @dataclass(frozen=True, slots=True, repr=False)
    class Metadata(Metadata):
        """The type of one message."""

        type: int = 0

    def __post_init__(self) -> None:
        self._check_below()
        check_count("type_bytes", self.type_bytes, 1, 8)
        check_count("length_bytes", self.length_bytes, 1, 8)
        check_choice("byteorder", self.byteorder, "big", "little")
        check_count("max_size", self.max_size, 1, 2**63 - 1)


@dataclass(frozen=True, slots=True, repr=False)
class LengthPrefixed(ProtocolOptions):
    """Messages with their length in front, an unsigned integer of *bytes* bytes."""

    below: ProtocolOptions = field(default_factory=lambda: _TCP)
    bytes: int = field(default=4, kw_only=True)
    byteorder: Byteorder = field(default="big", kw_only=True)
    max_size: int = field(default=MESSAGE_MAX, kw_only=True)

    produces: ClassVar[DataMode] = DataMode.MESSAGE
    consumes: ClassVar[frozenset[DataMode]] = frozenset({DataMode.STREAM})

    def __post_init__(self) -> None:
        self._check_below()
        check_count("bytes", self.bytes, 1, 8)
        check_choice("byteorder", self.byteorder, "big", "little")
        check_count("max_size", self.max_size, 1, 2**63 - 1)


@dataclass(frozen=True, slots=True, repr=False)
class Lines(ProtocolOptions):
    """Messages that end with *delimiter*, which is not part of them."""

    below: ProtocolOptions = field(default_factory=lambda: _TCP)
    delimiter: bytes = field(default=b"\n", kw_only=True)
    max_size: int = field(default=MESSAGE_MAX, kw_only=True)

    produces: ClassVar[DataMode] = DataMode.MESSAGE
    consumes: ClassVar[frozenset[DataMode]] = frozenset({DataMode.STREAM})

    def __post_init__(self) -> None:
        self._check_below()
        if not isinstance(self.delimiter, bytes) or not self.delimiter:
            raise ValueError(f"delimiter: some bytes are wanted, not {self.delimiter!r}")
        check_count("max_size", self.max_size, 1, 2**63 - 1)


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Framed(ProtocolOptions):
    """Messages as a framer of the program's own makes them: ``Framed(MyFramer, TCP(), key=1)``.

    *framer* is called with the options when the connection starts.
    """

    framer: Callable[..., Any]
    below: ProtocolOptions
    options: tuple[tuple[str, Any], ...]

    produces: ClassVar[DataMode] = DataMode.MESSAGE
    consumes: ClassVar[frozenset[DataMode]] = frozenset(
        {DataMode.STREAM, DataMode.DATAGRAM, DataMode.MESSAGE}
    )

    def __init__(
        self, framer: Callable[..., Any], below: ProtocolOptions | None = None, /, **options: Any
    ) -> None:
        if not callable(framer):
            raise TypeError(f"Framed: a framer is wanted first, not {framer!r}")
        object.__setattr__(self, "framer", framer)
        object.__setattr__(self, "below", _TCP if below is None else below)
        object.__setattr__(self, "options", tuple(sorted(options.items())))
        self._check_below()

    def make(self) -> Any:
        """A framer for one connection."""
        return self.framer(**dict(self.options))

    def replace(self, **changes: Any) -> Framed:
        """A copy; *framer* and *below* replace these, anything else is an option of the framer."""
        framer = changes.pop("framer", self.framer)
        below = changes.pop("below", self.below)
        return Framed(framer, below, **{**dict(self.options), **changes})

    def __repr__(self) -> str:
        name = getattr(self.framer, "__qualname__", repr(self.framer))
        parts = [name, repr(self.below), *(f"{key}={value!r}" for key, value in self.options)]
        return f"Framed({', '.join(parts)})"


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Alternatives(ProtocolOptions):
    """Stacks to race, the preferred first; the first that connects is used.

    They must promise the same: the same security and the same kind of
    connection. Racing TLS against plain TCP would let a network choose the weaker.
    """

    stacks: tuple[ProtocolOptions, ...]

    def __init__(self, *stacks: ProtocolOptions) -> None:
        if not stacks:
            raise ValueError("Alternatives: at least one stack is wanted")
        for stack in stacks:
            if isinstance(stack, Alternatives) or not isinstance(stack, ProtocolOptions):
                raise TypeError(f"Alternatives: a stack of protocols is wanted, not {stack!r}")
        levels = {security_of(stack) for stack in stacks}
        if len(levels) > 1:
            names = ", ".join(level.name for level in sorted(levels))
            raise ValueError(f"Alternatives: the stacks differ in security: {names}")
        modes = {stack.produces for stack in stacks}
        if len(modes) > 1:
            names = ", ".join(sorted(mode.value for mode in modes))
            raise ValueError(f"Alternatives: the stacks differ in what they give: {names}")
        object.__setattr__(self, "stacks", stacks)

    def replace(self, **changes: Any) -> Alternatives:
        """A copy with other *stacks*."""
        return Alternatives(*changes.pop("stacks", self.stacks), **changes)

    def __repr__(self) -> str:
        return f"Alternatives({', '.join(map(repr, self.stacks))})"


_IP: Final[IP] = IP()
_TCP: Final[TCP] = TCP()
Layer = TypeVar("Layer", bound=ProtocolOptions)


def candidates_of(options: ProtocolOptions) -> tuple[ProtocolOptions, ...]:
    """The stacks to try, the preferred first."""
    return options.stacks if isinstance(options, Alternatives) else (options,)


def stack_of(options: ProtocolOptions) -> tuple[ProtocolOptions, ...]:
    """The layers, top first; TypeError for Alternatives, which are several stacks."""
    if isinstance(options, Alternatives):
        raise TypeError("stack_of: choose one of the Alternatives")
    layers: list[ProtocolOptions] = []
    at: ProtocolOptions | None = options
    while at is not None:
        layers.append(at)
        at = at.lower
    return tuple(layers)


def layer(options: ProtocolOptions, kind: type[Layer]) -> Layer | None:
    """The topmost layer of this kind; None if there is none."""
    found: Iterable[Layer] = (item for item in stack_of(options) if isinstance(item, kind))
    return next(iter(found), None)


def mode_of(options: ProtocolOptions) -> DataMode:
    """What the program gets from the top layer."""
    return candidates_of(options)[0].produces


def security_of(options: ProtocolOptions) -> SecurityLevel:
    """What the stack promises: that of its TLS layer, if it has one."""
    tls = layer(options, TLS)
    if tls is None:
        return SecurityLevel.NONE
    if tls.context is not None and tls.context.verify_mode == ssl.CERT_NONE and tls.verify is None:
        return SecurityLevel.ENCRYPTED
    return SecurityLevel.AUTHENTICATED
