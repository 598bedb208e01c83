"""Who pays for work, and how urgent it is: carried by the work, not by the socket.

A Voucher is adopted for a block of code. Tasks and worker threads started there inherit it (it
lives in a ContextVar), each send captures it, and the packet carries its class and
its originator's number down to the queues.

    with qos(QoS.UTILITY):
        await fetch()

What a ContextVar holds is the adoption, not the voucher. A generator that is
abandoned inside a ``with`` block ends in some other context, where nothing can be
reset; its adoption then forwards to the voucher that was there before.
"""

from __future__ import annotations

import functools
import inspect
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import TracebackType
from typing import Any, Final, Literal, ParamSpec, Protocol, TypeVar, cast

from xsock.nw._value import Value, check_count, check_seconds

__all__ = [
    "Adoption", "Grant", "Originator", "Originators", "QoS", "ServiceClass", "Voucher", "adoption",
    "class_of_qos", "current_adopted", "current_voucher", "inherited_voucher", "qos",
    "received_voucher", "service_class_of", "with_voucher",
]  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")
IMPORTANCE_MAX: Final = 2**31 - 1
ACTIVITY_MAX: Final = 2**64 - 1
ORIGINATOR_MAX: Final = 2**32 - 2  # 32 bits in a packet's metadata; 0 and the last are taken
NAME_MAX: Final = 255  # bytes of an originator's name
RECIPE_MAX: Final = 65536  # bytes


class QoS(IntEnum):
    """How urgent work is to its user; Darwin's qos_class_t values."""

    BACKGROUND = 9
    UTILITY = 17
    DEFAULT = 21
    USER_INITIATED = 25
    USER_INTERACTIVE = 33


class ServiceClass(Enum):
    """How packets are queued. The value is XNU's SO_TRAFFIC_CLASS number."""

    BEST_EFFORT = 0
    BACKGROUND = 200
    RESPONSIVE_DATA = 300
    OAM = 400
    STREAMING_AV = 500
    RESPONSIVE_AV = 600
    INTERACTIVE_VIDEO = 700
    INTERACTIVE_VOICE = 800
    CONTROL = 900
    SIGNALING = 10002

    @property
    def packet_class(self) -> int:
        """XNU's PKT_SC number."""
        return _CLASSES[self][0]

    @property
    def index(self) -> int:
        """The stack's own number (nic/qos.h): what a packet's metadata holds."""
        return _INDICES[self]

    @property
    def net_service_type(self) -> int | None:
        """XNU's NET_SERVICE_TYPE number; None of CONTROL, which has none."""
        return _CLASSES[self][1]

    @property
    def rank(self) -> int:
        """Place among the class queues, 0 the lowest; of two classes the higher is served first."""
        return _CLASSES[self][2]

    def dscp(self, marking: Literal["fastlane", "rfc4594"] = "rfc4594") -> int:
        """What the DS field says where an interface marks."""
        row = _CLASSES[self]
        return row[3] if marking == "fastlane" else row[4]


# PKT_SC, NET_SERVICE_TYPE, rank, DSCP of Cisco Fastlane and of RFC 4594.
_CLASSES: Final[dict[ServiceClass, tuple[int, int | None, int, int, int]]] = {
    ServiceClass.BACKGROUND:        (0x00100080, 1,    1, 10, 8),
    ServiceClass.BEST_EFFORT:       (0x00000000, 0,    2, 0,  0),
    ServiceClass.RESPONSIVE_DATA:   (0x00180010, 8,    3, 18, 18),
    ServiceClass.OAM:               (0x00200020, 7,    4, 16, 16),
    ServiceClass.STREAMING_AV:      (0x00280120, 6,    5, 26, 26),
    ServiceClass.RESPONSIVE_AV:     (0x00300110, 5,    6, 32, 32),
    ServiceClass.INTERACTIVE_VIDEO: (0x00380100, 3,    7, 34, 34),
    ServiceClass.SIGNALING:         (0x00380130, 2,    7, 24, 40),
    ServiceClass.INTERACTIVE_VOICE: (0x00400180, 4,    8, 46, 46),
    ServiceClass.CONTROL:           (0x00480190, None, 9, 0,  48),
}  # fmt: skip

_INDICES: Final = {
    ServiceClass.BEST_EFFORT: 0, ServiceClass.BACKGROUND: 2, ServiceClass.RESPONSIVE_DATA: 3,
    ServiceClass.OAM: 4, ServiceClass.STREAMING_AV: 5, ServiceClass.RESPONSIVE_AV: 6,
    ServiceClass.INTERACTIVE_VIDEO: 7, ServiceClass.INTERACTIVE_VOICE: 8,
    ServiceClass.CONTROL: 9, ServiceClass.SIGNALING: 10,
}  # fmt: skip

# Only explicit choices reach the short queues of video, voice and signalling.
_OF_QOS: Final = {
    QoS.BACKGROUND: ServiceClass.BACKGROUND,
    QoS.UTILITY: ServiceClass.BEST_EFFORT,
    QoS.DEFAULT: ServiceClass.BEST_EFFORT,
    QoS.USER_INITIATED: ServiceClass.RESPONSIVE_DATA,
    QoS.USER_INTERACTIVE: ServiceClass.RESPONSIVE_DATA,
}


def class_of_qos(level: QoS) -> ServiceClass:
    """The class that work of this urgency gets unless somebody chose one."""
    return _OF_QOS[level]


@dataclass(frozen=True, slots=True)
class Originator:
    """Who asked for the work, and is charged for it: a user, a tenant, a part of a program."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name.encode()) <= NAME_MAX:
            raise ValueError(f"originator: a name of 1 to {NAME_MAX} bytes, not {self.name!r}")


@dataclass(slots=True, eq=False)
class Grant:
    """The right to raise vouchers of one originator up to *qos* and *service_class*."""

    originator: Originator
    qos: QoS = QoS.USER_INTERACTIVE
    service_class: ServiceClass = ServiceClass.CONTROL
    is_revoked: bool = False

    def covers(self, voucher: Voucher) -> bool:
        """Does it allow this voucher?"""
        return (
            not self.is_revoked
            and voucher.originator == self.originator
            and voucher.qos <= self.qos
            and voucher.effective_class.rank <= self.service_class.rank
        )

    def revoke(self) -> None:
        """Nothing is raised by it any more; what was, stays."""
        self.is_revoked = True


class Originators:
    """One stack's numbers for originators, and what it granted them. Any thread may call."""

    def __init__(self) -> None:
        self._ids: dict[Originator, int] = {}
        self._names: list[Originator | None] = [None]
        self._grants: dict[Originator, Grant] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def intern(self, originator: Originator | None) -> int:
        """The number that packets of *originator* carry, the same every time; 0 for None."""
        if originator is None:
            return 0
        known = self._ids.get(originator)
        if known is not None:
            return known
        return self._add(originator)

    def _add(self, originator: Originator) -> int:
        with self._lock:
            if originator not in self._ids:
                if len(self._names) > ORIGINATOR_MAX:
                    raise OverflowError("no numbers for originators are left")
                self._names.append(originator)
                self._ids[originator] = len(self._names) - 1
            return self._ids[originator]

    def originator(self, number: int) -> Originator | None:
        """Whose number it is; None for 0 and for numbers never given."""
        return self._names[number] if 0 <= number < len(self._names) else None

    def grant(
        self,
        originator: Originator,
        *,
        qos: QoS = QoS.USER_INTERACTIVE,
        service_class: ServiceClass = ServiceClass.CONTROL,
    ) -> Grant:
        """Let vouchers of *originator* be raised so far; the last grant counts."""
        made = self._grants[originator] = Grant(originator, qos, service_class)
        return made

    def allows(self, voucher: Voucher) -> bool:
        """May a voucher that came from outside the process be what it says?"""
        modest = (
            voucher.qos <= QoS.DEFAULT
            and voucher.effective_class.rank <= ServiceClass.BEST_EFFORT.rank
            and voucher.importance <= 0
        )
        grant = self._grants.get(voucher.originator) if voucher.originator is not None else None
        return modest or (grant is not None and grant.covers(voucher))


class _Stacklike(Protocol):
    @property
    def originators(self) -> Originators: ...


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Voucher(Value):
    """Urgency, class, and who is charged. *deadline* is in seconds of the monotonic clock.

    *extra* holds keys of a recipe that this version does not know.
    """

    qos: QoS = QoS.DEFAULT
    service_class: ServiceClass | None = None
    originator: Originator | None = None
    activity: int = 0
    importance: int = 0
    deadline: float | None = None
    user_data: tuple[tuple[str, bytes], ...] = ()
    extra: tuple[tuple[int, bytes], ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "qos", QoS(self.qos))
        if not isinstance(self.service_class, ServiceClass | None):
            raise TypeError(f"service_class: a ServiceClass is wanted, not {self.service_class!r}")
        if not isinstance(self.originator, Originator | None):
            raise TypeError(f"originator: an Originator is wanted, not {self.originator!r}")
        check_count("activity", self.activity, 0, ACTIVITY_MAX)
        check_count("importance", self.importance, 0, IMPORTANCE_MAX)
        check_seconds("deadline", self.deadline)

    @property
    def effective_class(self) -> ServiceClass:
        """The class of packets for which nobody chose one otherwise."""
        return self.service_class or _OF_QOS[self.qos]

    def derive(self, *, grant: Grant | None = None, **changes: Any) -> Voucher:
        """A copy with *changes*. Lowering is free; PermissionError for a raise without a *grant*.

        Raised are the QoS, the class and the importance; a new originator pays for
        itself and is no raise.
        """
        made = self.replace(**changes)
        raised = (
            made.qos > self.qos
            or made.effective_class.rank > self.effective_class.rank
            or made.importance > self.importance
        )
        if raised and (grant is None or not grant.covers(made)):
            raise PermissionError(
                f"a voucher may be raised only by a grant for its originator: {made!r} "
                f"from {self!r}"
            )
        return made

    def adopt(self) -> Adoption:
        """A with block whose sends, tasks and worker threads go under this voucher."""
        return Adoption(self)

    def to_recipe(self) -> bytes:
        """The voucher for another process: keys with values, those not known here included."""
        items = [(_QOS, struct.pack("!B", self.qos))]
        if self.service_class is not None:
            items.append((_CLASS, struct.pack("!H", self.service_class.value)))
        if self.originator is not None:
            items.append((_ORIGINATOR, self.originator.name.encode()))
        if self.activity:
            items.append((_ACTIVITY, struct.pack("!Q", self.activity)))
        if self.importance:
            items.append((_IMPORTANCE, struct.pack("!I", self.importance)))
        if self.deadline is not None:
            items.append((_DEADLINE, struct.pack("!d", self.deadline)))
        for name, value in self.user_data:
            key = name.encode()
            items.append((_USER_DATA, struct.pack("!H", len(key)) + key + value))
        items += self.extra
        return b"".join(struct.pack("!HI", key, len(value)) + value for key, value in items)

    @staticmethod
    def redeem(recipe: bytes, stack: _Stacklike) -> Voucher:
        """A recipe from another process. ValueError if it is malformed.

        What it claims beyond the default counts only if *stack* granted it to the
        originator; else it is brought down to the default.
        """
        if len(recipe) > RECIPE_MAX:
            raise ValueError(f"recipe: at most {RECIPE_MAX} bytes are allowed")
        made = _read_recipe(recipe)
        return made if stack.originators.allows(made) else _modest(made)


_QOS, _CLASS, _ORIGINATOR, _ACTIVITY, _IMPORTANCE, _DEADLINE, _USER_DATA = range(1, 8)
_DEFAULT: Final = Voucher()


def _read_recipe(recipe: bytes) -> Voucher:
    values: dict[str, Any] = {}
    user_data: list[tuple[str, bytes]] = []
    extra: list[tuple[int, bytes]] = []
    at = 0
    try:
        while at < len(recipe):
            key, size = struct.unpack_from("!HI", recipe, at)
            at += 6
            value = recipe[at : at + size]
            if len(value) != size:
                raise ValueError("cut short")
            at += size
            if key in _READERS:
                name, read = _READERS[key]
                values[name] = read(value)
            elif key == _USER_DATA:
                (length,) = struct.unpack_from("!H", value)
                if 2 + length > len(value):
                    raise ValueError("cut short")
                user_data.append((value[2 : 2 + length].decode(), value[2 + length :]))
            else:
                extra.append((key, value))
        return Voucher(**values, user_data=tuple(user_data), extra=tuple(extra))
    except (struct.error, ValueError) as error:
        raise ValueError(f"recipe: {error}") from None


def _number(form: str) -> Callable[[bytes], Any]:
    return lambda value: struct.unpack(form, value)[0]


_READERS: Final[dict[int, tuple[str, Callable[[bytes], Any]]]] = {
    _QOS: ("qos", _number("!B")),
    _CLASS: ("service_class", lambda value: ServiceClass(_number("!H")(value))),
    _ORIGINATOR: ("originator", lambda value: Originator(value.decode())),
    _ACTIVITY: ("activity", _number("!Q")),
    _IMPORTANCE: ("importance", _number("!I")),
    _DEADLINE: ("deadline", _number("!d")),
}


def _modest(voucher: Voucher) -> Voucher:
    """The same work at no more than the default urgency."""
    chosen = voucher.service_class
    if chosen is not None and chosen.rank > ServiceClass.BEST_EFFORT.rank:
        chosen = ServiceClass.BEST_EFFORT
    return voucher.replace(qos=min(voucher.qos, QoS.DEFAULT), service_class=chosen, importance=0)


# ---- adoption ----


class Adoption:
    """What ``with voucher.adopt():`` is; use it once."""

    __slots__ = ("_token", "voucher")

    def __init__(self, voucher: Voucher) -> None:
        self.voucher = voucher
        self._token: Token[Adoption | None] | None = None

    def __enter__(self) -> Voucher:
        if self._token is not None:
            raise RuntimeError("an adoption is entered once; call adopt() again")
        if not _armed:
            _arm()
        self._token = adoption.set(self)
        return self.voucher

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        token = self._token
        assert token is not None
        try:
            adoption.reset(token)
        except ValueError:
            # Another context ends an abandoned generator: in its own this stays adopted.
            before = token.old_value
            self.voucher = before.voucher if isinstance(before, Adoption) else _DEFAULT


# None: nothing adopted. Paths of sends compare the adoption's voucher by identity.
adoption: Final[ContextVar[Adoption | None]] = ContextVar("xsock.nw.voucher", default=None)


_armed = False


def _arm() -> None:
    """From the first adoption on, the sockets of the facade look for vouchers too."""
    global _armed
    from xsock import _socket, _vouch

    _armed = True
    _socket.vouch = _vouch.vouch
    _socket.voucher = current_adopted


def current_adopted() -> Voucher | None:
    """The adopted voucher; None if there is none."""
    adopted = adoption.get()
    return None if adopted is None else adopted.voucher


def current_voucher() -> Voucher:
    """The voucher that a send here and now goes under."""
    adopted = adoption.get()
    return _DEFAULT if adopted is None else adopted.voucher


def qos(level: QoS, *, grant: Grant | None = None) -> Adoption:
    """``with qos(QoS.UTILITY):`` the work inside has this urgency, for the same originator.

    Under an adopted voucher that is a derive(), with its rule; otherwise any
    level may be chosen.
    """
    adopted = adoption.get()
    if adopted is None:
        return Adoption(Voucher(qos=level))
    return Adoption(adopted.voucher.derive(grant=grant, qos=level, service_class=None))


def with_voucher(voucher: Voucher) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function's body runs under *voucher*, whoever calls it.

    Of a generator only its body does: what is between two yields, not the loop
    that asks for them.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        plain: Callable[..., Any] = function
        wrapper: Callable[..., Any]
        if inspect.isasyncgenfunction(function):

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return _stepped_async(voucher, plain(*args, **kwargs))

        elif inspect.isgeneratorfunction(function):

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return _stepped(voucher, plain(*args, **kwargs))

        elif inspect.iscoroutinefunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with voucher.adopt():
                    return await plain(*args, **kwargs)

        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with voucher.adopt():
                    return plain(*args, **kwargs)

        return cast("Callable[P, R]", functools.wraps(function)(wrapper))

    return decorate


def _stepped(voucher: Voucher, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """*body* with each of its steps under *voucher*."""
    resume: Callable[[], Any] = functools.partial(next, body)
    try:
        while True:
            try:
                with voucher.adopt():
                    item = resume()
            except StopIteration as end:
                return end.value
            try:
                sent = yield item
                resume = functools.partial(body.send, sent)
            except GeneratorExit:
                raise
            except BaseException as error:
                resume = functools.partial(body.throw, error)
    finally:
        with voucher.adopt():
            body.close()


async def _stepped_async(
    voucher: Voucher, body: AsyncGenerator[Any, Any]
) -> AsyncGenerator[Any, Any]:
    resume: Callable[[], Any] = body.__anext__
    try:
        while True:
            try:
                with voucher.adopt():
                    item = await resume()
            except StopAsyncIteration:
                return
            try:
                sent = yield item
                resume = functools.partial(body.asend, sent)
            except GeneratorExit:
                raise
            except BaseException as error:
                resume = functools.partial(body.athrow, error)
    finally:
        with voucher.adopt():
            await body.aclose()


# ---- what a packet gets ----


def service_class_of(
    context: ServiceClass | None,
    connection: ServiceClass | None,
    parameters: ServiceClass | None,
    voucher: Voucher | None,
) -> ServiceClass:
    """The class of a send: the first of the context's, the connection's (set_service_class), the
    parameters', the voucher's, that of the voucher's QoS; else BEST_EFFORT."""
    chosen = context or connection or parameters
    if chosen is not None:
        return chosen
    return ServiceClass.BEST_EFFORT if voucher is None else voucher.effective_class


def received_voucher(dscp: int, sender: Voucher | None = None) -> Voucher:
    """The voucher of something received: the *sender*'s where it is known, being in this process.

    From the wire only a DSCP comes. One of background makes the work background;
    any other is no privilege.
    """
    if sender is not None:
        return sender
    return _BACKGROUND if dscp in _BACKGROUND_DSCP else _DEFAULT


def inherited_voucher(
    adopt: Literal["connection", "packet"] | None, connection: Voucher | None, packet: Voucher
) -> Voucher | None:
    """What a listener's handler runs under; None: what the listener itself runs under.

    *connection* is the voucher that came with the handshake, *packet* the one of
    what was received last.
    """
    if adopt is None:
        return None
    if adopt == "connection":
        return _DEFAULT if connection is None else connection
    if adopt == "packet":
        return packet
    raise ValueError(f"adopt: 'connection', 'packet' or None is allowed, not {adopt!r}")


_BACKGROUND: Final = Voucher(qos=QoS.BACKGROUND)
_BACKGROUND_DSCP: Final = frozenset({1, 8, 10, 12, 14})  # LE (RFC 8622), CS1, AF1x
