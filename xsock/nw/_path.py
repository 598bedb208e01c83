"""What the network is like for a connection: a Path, judged from the stack's own tables.

read_state() takes a picture of interfaces, routes and name servers; evaluate() judges it by
parameters, purely. A PathWatch takes pictures now and then (36 us each) while anybody looks,
and at once when told; PathMonitors turn changes into paths.

A monitor that is read slowly sees only the latest path, but no change goes unnoticed: the
generation counts pictures that differed, and ``flaps`` how often the status left and came back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from bsdcore import netstat
from xsock.nw._endpoint import Endpoint
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._sort import Source, choose_source
from xsock.nw._value import Value

__all__ = [
    "InterfaceInfo", "NetworkState", "Path", "PathDiff", "PathMonitor", "PathReason",
    "PathStatus", "PathWatch", "RouteInfo", "allowed_interfaces", "evaluate",
    "interface_type", "read_state",
]  # fmt: skip

POLL_SECONDS: Final = 0.25
IFF_UP: Final = 1
IFF_LOOPBACK: Final = 2
RTF_UP: Final = 0x1
RTF_REJECT: Final = 0x8
RTF_DYNAMIC: Final = 0x10
RTF_BLACKHOLE: Final = 0x1000
TUNNELS: Final = ("utun", "tun", "ipsec", "gif", "stf", "wg")


class PathStatus(Enum):
    """May a connection be tried?"""

    SATISFIED = "satisfied"
    UNSATISFIED = "unsatisfied"


class PathReason(Enum):
    """Why a path is unsatisfied; NONE if it is not."""

    NONE = "none"
    NO_INTERFACE = "no interface but loopback is up"
    NO_ADDRESS = "no interface has an address of the family"
    NO_ROUTE = "no route leads there"
    REJECTED = "a route rejects it"
    INTERFACE_REQUIRED = "the required interface is not there or is down"
    INTERFACE_TYPE_REQUIRED = "no interface of the required type is up"
    INTERFACE_PROHIBITED = "every interface that leads there is prohibited"
    EXPENSIVE_PROHIBITED = "only expensive interfaces lead there"
    CONSTRAINED_PROHIBITED = "only constrained interfaces lead there"
    NOT_LOCAL = "only the local network is allowed, and this is beyond it"


@dataclass(frozen=True, slots=True)
class InterfaceInfo:
    """An interface. *addresses* have their prefix lengths; *mtu* is in bytes.

    *is_expensive* and *is_constrained* are what the program said of it (PathWatch.mark).
    """

    name: str
    index: int
    type: InterfaceType
    mtu: int
    is_up: bool
    addresses: tuple[str, ...] = ()
    is_expensive: bool = False
    is_constrained: bool = False

    @property
    def has_ipv6(self) -> bool:
        """It has an IPv6 address that reaches beyond its link."""
        return any(map(_is_routable6, self.addresses))


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """A route; *gateway* is None for what is reached directly."""

    destination: str
    gateway: str | None
    interface: str
    is_reject: bool = False


@dataclass(frozen=True, slots=True)
class NetworkState:
    """A picture of the stack's tables. Equal pictures mean the same network."""

    interfaces: tuple[InterfaceInfo, ...] = ()
    routes: tuple[RouteInfo, ...] = ()
    servers: tuple[str, ...] = ()

    def interface(self, name: str) -> InterfaceInfo | None:
        """The interface of this name."""
        return next((item for item in self.interfaces if item.name == name), None)

    def route(self, address: str, allowed: Iterable[str] | None = None) -> RouteInfo | None:
        """The most specific route to an address, over the interfaces *allowed*."""
        names = {i.name for i in self.interfaces if i.is_up} if allowed is None else set(allowed)
        version, target = _address(address)
        longest, best = -1, None
        for route in self.routes:
            family, first, mask, length = _network(route.destination)
            leads = family == version and target & mask == first
            if leads and length > longest and route.interface in names:
                longest, best = length, route
        return best

    def sources(self, allowed: Iterable[str] | None = None) -> list[Source]:
        """The stack's addresses, as source selection wants them."""
        names = None if allowed is None else set(allowed)
        return [
            Source(address.partition("/")[0], int(address.partition("/")[2]), item.name,
                   is_tunnel=item.name.startswith(TUNNELS))
            for item in self.interfaces
            if item.is_up and (names is None or item.name in names)
            for address in item.addresses
        ]  # fmt: skip

    def source_for(self, address: str, allowed: Iterable[str] | None = None) -> Source | None:
        """The source for an address, None without a route (for ``sort_destinations``)."""
        names = None if allowed is None else list(allowed)
        route = self.route(address, names)
        if route is None or route.is_reject:
            return None
        item = self.interface(route.interface)
        own = None if item is not None and item.type is InterfaceType.LOOPBACK else route.interface
        return choose_source(address, self.sources(names), interface=own)


# Taking text apart is most of the cost of judging a path.
@lru_cache(maxsize=4096)
def _network(text: str) -> tuple[int, int, int, int]:
    """Version, first address, mask and prefix length."""
    found = ipaddress.ip_network(text, strict=False)
    return found.version, int(found.network_address), int(found.netmask), found.prefixlen


@lru_cache(maxsize=4096)
def _address(text: str) -> tuple[int, int]:
    """Version and number."""
    found = ipaddress.ip_address(text)
    return found.version, int(found)


@lru_cache(maxsize=256)
def _is_routable6(text: str) -> bool:
    host = ipaddress.ip_interface(text).ip
    return host.version == 6 and not host.is_link_local


def interface_type(name: str, flags: int) -> InterfaceType:
    """The type that an interface's name and IFF_* flags tell of, by Darwin's names."""
    if flags & IFF_LOOPBACK:
        return InterfaceType.LOOPBACK
    for prefix, kind in (
        ("en", InterfaceType.WIRED), ("eth", InterfaceType.WIRED), ("feth", InterfaceType.WIRED),
        ("wl", InterfaceType.WIFI), ("awdl", InterfaceType.WIFI),
        ("pdp_ip", InterfaceType.CELLULAR), ("wwan", InterfaceType.CELLULAR),
    ):  # fmt: skip
        if name.startswith(prefix):
            return kind
    return InterfaceType.OTHER


def read_state(core: Any, servers: tuple[str, ...] = ()) -> NetworkState:
    """A picture of a bsdcore Stack. Routes that come and go by themselves are left out."""
    interfaces = tuple(
        InterfaceInfo(
            item.name, item.index, interface_type(item.name, item.flags), item.mtu,
            bool(item.flags & IFF_UP), item.addresses,
        )
        for item in netstat.interfaces(core)
    )  # fmt: skip
    routes = tuple(
        RouteInfo(
            item.destination, None if item.gateway == "link" else item.gateway, item.interface,
            bool(item.flags & (RTF_REJECT | RTF_BLACKHOLE)),
        )
        for item in netstat.routes(core)
        if item.flags & RTF_UP and not item.flags & RTF_DYNAMIC
    )  # fmt: skip
    return NetworkState(interfaces, tuple(sorted(routes, key=repr)), servers)


# ---- paths ----


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Path(Value):
    """The network as a connection would find it. A snapshot: each change makes a new one.

    *interfaces* are those allowed, the preferred first; *gateways* lead to the endpoint, or
    anywhere without one. *mtu* is that of the preferred interface, in bytes.
    """

    status: PathStatus = PathStatus.UNSATISFIED
    reason: PathReason = PathReason.NONE
    interfaces: tuple[InterfaceInfo, ...] = ()
    gateways: tuple[str, ...] = ()
    local: str | None = None
    remote: Endpoint | None = None
    is_expensive: bool = False
    is_constrained: bool = False
    has_ipv4: bool = False
    has_ipv6: bool = False
    has_dns: bool = False
    mtu: int = 0
    generation: int = field(default=0)
    flaps: int = field(default=0)

    @property
    def is_satisfied(self) -> bool:
        """A connection may be tried."""
        return self.status is PathStatus.SATISFIED

    @property
    def material_key(self) -> tuple[object, ...]:
        """Equal for paths between which a connection has nothing to do."""
        return tuple(getattr(self, name) for name in _MATERIAL)

    def diff(self, other: Path) -> PathDiff:
        """What changed from *other*, an earlier path, to this one."""
        changed = frozenset(
            name for name in _MATERIAL if getattr(self, name) != getattr(other, name)
        )
        flapped = self.status is other.status and self.flaps != other.flaps
        return PathDiff(changed, flapped, self.generation - other.generation)

    def uses(self, kind: InterfaceType) -> bool:
        """Is an interface of this type among those allowed?"""
        return any(item.type is kind for item in self.interfaces)


_MATERIAL: Final = tuple(
    item.name for item in fields(Path) if item.name not in ("generation", "flaps")
)


@dataclass(frozen=True, slots=True)
class PathDiff:
    """The names of fields that differ; *flapped*: the status left and returned in between.

    *missed* counts changes of the network from one to the other.
    """

    changed: frozenset[str]
    flapped: bool
    missed: int

    def __bool__(self) -> bool:
        return bool(self.changed) or self.flapped


def evaluate(
    state: NetworkState,
    endpoint: Endpoint | None = None,
    parameters: Parameters | None = None,
    *,
    generation: int = 0,
) -> Path:
    """The path to *endpoint*, or to anywhere. Where a name leads is not known yet: any
    interface will do."""
    parameters = parameters or _ANY
    allowed, reason = allowed_interfaces(state, endpoint, parameters)
    remote = endpoint if endpoint is not None and endpoint.is_numeric else None
    gateways: tuple[str, ...] = ()
    local = None
    if reason is PathReason.NONE and remote is None:
        gateways = _gateways(state, allowed)
    elif reason is PathReason.NONE and remote is not None:
        names = [item.name for item in allowed]
        route = state.route(remote.name, names)
        source = state.source_for(remote.name, names)
        reason = _reach(state, remote, route, source, parameters)
        if route is not None and source is not None and reason is PathReason.NONE:
            gateways = () if route.gateway is None else (route.gateway,)
            local = source.address
            allowed.sort(key=lambda item: item.name != route.interface)
    if reason is not PathReason.NONE:
        return Path(
            status=PathStatus.UNSATISFIED, reason=reason, remote=remote, generation=generation
        )
    return Path(
        status=PathStatus.SATISFIED,
        interfaces=tuple(allowed),
        gateways=gateways,
        local=local,
        remote=remote,
        is_expensive=allowed[0].is_expensive,
        is_constrained=allowed[0].is_constrained,
        has_ipv4=any("." in address for item in allowed for address in item.addresses),
        has_ipv6=any(item.has_ipv6 for item in allowed),
        has_dns=bool(state.servers),
        mtu=allowed[0].mtu,
        generation=generation,
    )


def _gateways(state: NetworkState, allowed: list[InterfaceInfo]) -> tuple[str, ...]:
    """Where packets to anywhere go."""
    names = [item.name for item in allowed]
    defaults = [route for route in state.routes if _is_default(route) and route.interface in names]
    return tuple(route.gateway for route in defaults if route.gateway)


_ANY: Final = Parameters()


def _is_default(route: RouteInfo) -> bool:
    return route.destination.endswith("/0")


def allowed_interfaces(
    state: NetworkState, endpoint: Endpoint | None, parameters: Parameters
) -> tuple[list[InterfaceInfo], PathReason]:
    """The interfaces that the parameters leave, the preferred first, and why if there are none."""
    up = [item for item in state.interfaces if item.is_up]
    required = (endpoint and endpoint.interface) or parameters.required_interface
    looped = (
        endpoint is not None
        or required is not None
        or parameters.required_interface_type is InterfaceType.LOOPBACK
    )
    # Loopback leads to what is on it, and not anywhere.
    left = [item for item in up if looped or item.type is not InterfaceType.LOOPBACK]
    tests: tuple[tuple[PathReason, Callable[[InterfaceInfo], bool]], ...] = (
        (PathReason.NO_INTERFACE, lambda item: True),
        (PathReason.INTERFACE_REQUIRED, lambda item: required in (None, item.name)),
        (PathReason.INTERFACE_TYPE_REQUIRED,
         lambda item: parameters.required_interface_type in (None, item.type)),
        (PathReason.INTERFACE_PROHIBITED,
         lambda item: item.name not in parameters.prohibited_interfaces
         and item.type not in parameters.prohibited_interface_types),
        (PathReason.EXPENSIVE_PROHIBITED,
         lambda item: not (parameters.prohibit_expensive and item.is_expensive)),
        (PathReason.CONSTRAINED_PROHIBITED,
         lambda item: not (parameters.prohibit_constrained and item.is_constrained)),
    )  # fmt: skip
    for reason, test in tests:
        left = [item for item in left if test(item)]
        if not left:
            return [], reason
    if not any(item.addresses for item in left):
        return [], PathReason.NO_ADDRESS
    defaults = {route.interface for route in state.routes if _is_default(route)}
    left.sort(key=lambda item: (
        item.type is InterfaceType.LOOPBACK, item.name not in defaults, item.is_expensive,
        item.is_constrained, item.index,
    ))  # fmt: skip
    return left, PathReason.NONE


def _reach(
    state: NetworkState,
    remote: Endpoint,
    route: RouteInfo | None,
    source: Source | None,
    parameters: Parameters,
) -> PathReason:
    """Why a numeric endpoint cannot be reached by *route*; NONE if it can."""
    if route is None:
        # A route over an interface that the parameters exclude is not the network's fault.
        others = state.route(remote.name)
        return PathReason.NO_ROUTE if others is None else PathReason.INTERFACE_PROHIBITED
    if route.is_reject:
        return PathReason.REJECTED
    if parameters.local_only and route.gateway is not None:
        return PathReason.NOT_LOCAL
    return PathReason.NO_ADDRESS if source is None else PathReason.NONE


# ---- watching ----


class PathWatch:
    """The pictures of one stack, and who wants to know of changes.

    *read* takes a picture. One task calls run(); or poll() is called by whoever knows of a change.
    """

    def __init__(self, read: Callable[[], NetworkState], *, interval: float = POLL_SECONDS) -> None:
        self._read = read
        self._marks: dict[str, tuple[bool, bool]] = {}
        self._listeners: list[Callable[[NetworkState, int], None]] = []
        self.interval = interval
        self.is_running = False
        self.generation = 0
        self.state = self._picture()

    def _picture(self) -> NetworkState:
        state = self._read()
        if not self._marks:
            return state
        marked = []
        for item in state.interfaces:
            expensive, constrained = self._marks.get(item.name, (False, False))
            marked.append(
                InterfaceInfo(item.name, item.index, item.type, item.mtu, item.is_up,
                              item.addresses, expensive, constrained)
            )  # fmt: skip
        return NetworkState(tuple(marked), state.routes, state.servers)

    def mark(self, name: str, *, expensive: bool = False, constrained: bool = False) -> None:
        """Say that interface *name* costs money, or is to be used sparingly."""
        self._marks[name] = (expensive, constrained)
        self.poll()

    def poll(self) -> bool:
        """Look now. True if something changed; listeners have been called then."""
        state = self._picture()
        if state == self.state:
            return False
        self.state = state
        self.generation += 1
        for listener in list(self._listeners):
            listener(state, self.generation)
        return True

    def listen(self, listener: Callable[[NetworkState, int], None]) -> Callable[[], None]:
        """Call *listener* with each new picture and its generation; the answer ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def run(self) -> None:
        """Look every *interval* seconds while anybody listens. One task of a stack does this."""
        self.is_running = True
        try:
            while True:
                await anyio.sleep(self.interval)
                if self._listeners:
                    self.poll()
        finally:
            self.is_running = False


class PathMonitor:
    """Paths as they change; the first is there when ``async with`` is entered.

    ``async for path in monitor`` gives the current path and then the latest after each
    change. One task reads.
    """

    def __init__(
        self,
        watch: PathWatch,
        endpoint: Endpoint | None = None,
        parameters: Parameters | None = None,
        *,
        required: InterfaceType | None = None,
        prohibited: tuple[InterfaceType, ...] = (),
    ) -> None:
        parameters = parameters or _ANY
        if required is not None or prohibited:
            parameters = parameters.replace(
                required_interface_type=required or parameters.required_interface_type,
                prohibited_interface_types=(*parameters.prohibited_interface_types, *prohibited),
            )
        self._watch = watch
        self._endpoint = endpoint
        self._parameters = parameters
        self._path: Path | None = None
        self._given: Path | None = None
        self._changed = anyio.Event()
        self._tasks: TaskGroup | None = None
        self._unlisten: Callable[[], None] | None = None

    @property
    def current(self) -> Path:
        """The latest path."""
        if self._path is None:
            raise RuntimeError("a PathMonitor is used in async with")
        return self._path

    async def __aenter__(self) -> Self:
        watch = self._watch
        watch.poll()
        self._update(watch.state, watch.generation)
        self._unlisten = watch.listen(self._update)
        if not watch.is_running:
            # Nobody looks for this stack: the monitor does while it lives.
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
            self._tasks.start_soon(watch.run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        if self._unlisten is not None:
            self._unlisten()
        tasks, self._tasks = self._tasks, None
        if tasks is None:
            return None
        tasks.cancel_scope.cancel()
        return await tasks.__aexit__(kind, value, trace)

    def _update(self, state: NetworkState, generation: int) -> None:
        old = self._path
        flaps = 0 if old is None else old.flaps
        path = evaluate(state, self._endpoint, self._parameters, generation=generation)
        if old is not None and path.status is not old.status:
            flaps += 1
        if old is not None and path.material_key == old.material_key:
            # Nothing that this monitor shows has changed.
            return
        self._path = path.replace(flaps=flaps)
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Path]:
        return self

    async def __anext__(self) -> Path:
        await anyio.lowlevel.checkpoint()
        while self._path is self._given:
            self._changed = anyio.Event()
            await self._changed.wait()
        self._given = self.current
        return self._given

    async def settled(self, seconds: float) -> AsyncGenerator[Path, None]:
        """Paths that have stood for so long; what came and went meanwhile is skipped."""
        while True:
            await self.__anext__()
            waiting = True
            while waiting:
                waiting = False
                with anyio.move_on_after(seconds):
                    await self.__anext__()
                    waiting = True
            yield self.current

    async def material(self) -> AsyncGenerator[Path, None]:
        """Paths that differ from the one given before; a flap that changed nothing is skipped."""
        last: Path | None = None
        while True:
            path = await self.__anext__()
            if last is None or path.material_key != last.material_key:
                last = path
                yield path
