"""What every connection has: a life in states, and ways to watch it.

    SETUP -> PREPARING <-> WAITING, then READY, then FAILED or CANCELLED

A connection does nothing until it is started, by start(), ready(), its first input or
output, or ``async with``. WAITING means that every attempt failed for now and that the
parameters ask to wait rather than fail. After FAILED or CANCELLED nothing happens any more.
"""

from __future__ import annotations

import errno
import itertools
import math
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

import anyio
from anyio import TypedAttributeProvider
from anyio.abc import AsyncResource

from xsock.nw._errors import (
    ConnectionBroken,
    EstablishmentError,
    EstablishTimeout,
    NetworkError,
    NoPath,
    failed,
)
from xsock.nw._path import evaluate
from xsock.nw._report import Attempt, DataTransferReport, EstablishmentReport, Resolution, TCPInfo
from xsock.nw._tag import Tag
from xsock.nw._voucher import Adoption, ServiceClass, Voucher, adoption

if TYPE_CHECKING:
    from types import TracebackType

    from xsock.nw._build import Build
    from xsock.nw._endpoint import Endpoint
    from xsock.nw._loop import Driver
    from xsock.nw._parameters import Parameters
    from xsock.nw._path import NetworkState, Path
    from xsock.nw._wait import Task, Waiter

__all__ = [
    "BetterPath",
    "Connection",
    "Event",
    "Feed",
    "PathChanged",
    "State",
    "StateChanged",
    "StateUpdate",
    "ViabilityChanged",
]

EVENTS_KEPT: Final = 64  # of one events() iterator; older ones are dropped and counted
T = TypeVar("T")


class State(Enum):
    """Where a connection is in its life."""

    SETUP = "setup"
    WAITING = "waiting"
    PREPARING = "preparing"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


EDGES: Final[dict[State, frozenset[State]]] = {
    State.SETUP:     frozenset({State.PREPARING, State.READY, State.CANCELLED}),
    State.PREPARING: frozenset({State.WAITING, State.READY, State.FAILED, State.CANCELLED}),
    State.WAITING:   frozenset({State.PREPARING, State.FAILED, State.CANCELLED}),
    State.READY:     frozenset({State.FAILED, State.CANCELLED}),
    State.FAILED:    frozenset(),
    State.CANCELLED: frozenset(),
}  # fmt: skip
TERMINAL: Final = frozenset({State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class StateUpdate:
    """A state that was entered, and why if something went wrong."""

    state: State
    error: NetworkError | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a connection."""


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    """The connection entered a state."""

    update: StateUpdate


@dataclass(frozen=True, slots=True)
class PathChanged(Event):
    """Packets take, or would take, another way."""

    path: Any


@dataclass(frozen=True, slots=True)
class ViabilityChanged(Event):
    """Whether data can move right now."""

    viable: bool


@dataclass(frozen=True, slots=True)
class BetterPath(Event):
    """A preferred interface is there, or is gone again."""

    available: bool


class Feed(AsyncIterator[T]):
    """An iterator over what is put into it; full, it drops the oldest and counts that."""

    def __init__(self, future: Callable[[], Waiter], keep: int | None) -> None:
        self._future = future
        self._items: deque[T] = deque(maxlen=keep)
        self._waiter: Waiter | None = None
        self._is_ended = False
        self.dropped = 0

    def put(self, item: T) -> None:
        """Add *item*, unless the feed has ended."""
        if self._is_ended:
            return
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._wake()

    def end(self) -> None:
        """Stop the iteration after what is in it."""
        self._is_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._waiter is not None:
            raise anyio.BusyResourceError("iterating over")
        while not self._items:
            if self._is_ended:
                raise StopAsyncIteration
            self._waiter = self._future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()


class Connection(AsyncResource, TypedAttributeProvider):
    """The common part of all connections. Not made directly: see Stack.connection()."""

    _ids: ClassVar[itertools.count[int]] = itertools.count(1)

    def __init__(self, driver: Driver, endpoint: Endpoint, build: Build) -> None:
        self.id = next(self._ids)
        self.endpoint = endpoint
        self.parameters: Parameters = build.parameters
        self.options = build.options
        self._build = build
        self.error: NetworkError | None = None
        self.viable = False
        self.better_path = False
        self._driver = driver
        self._state = State.SETUP
        self._is_ready = False
        self._future = driver.waits.future
        self._ready_waiters: list[Waiter] = []
        self._state_feeds: list[Feed[StateUpdate]] = []
        self._event_feeds: list[Feed[Event]] = []
        self._task: Task | None = None
        self._retry: Waiter | None = None
        self._attempts: list[Attempt] = []
        self._resolutions: list[Resolution] = []
        self._path_feeds: list[Feed[Path]] = []
        self._unlisten: Callable[[], None] | None = None
        self._interface: str | None = None  # that a connection made when listening began uses
        self._started_at = 0.0
        self._tag = Tag(build.stack.originators, self.parameters.service_class)
        self._adopted: Adoption | None = None
        self._came_under: Voucher | None = None  # accepted: what its handshake was sent under
        self._ready_at = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self._state.value} to {self.endpoint}>"

    # ---- life ----

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        return self._state

    def _enter(self, state: State, error: NetworkError | None = None) -> None:
        if state not in EDGES[self._state]:
            raise AssertionError(f"{self._state} -> {state}")
        self._state = state
        self._is_ready = state is State.READY
        if error is not None:
            self.error = error
        if state is State.READY:
            self._ready_at = self._driver.waits.time()
            self.error = None
        was_viable, self.viable = self.viable, self._is_ready
        update = StateUpdate(state, error)
        for states in self._state_feeds:
            states.put(update)
        self._tell(StateChanged(update))
        if was_viable != self.viable and state not in TERMINAL:
            self._tell(ViabilityChanged(self.viable))
        if state in TERMINAL:
            for states in self._state_feeds:
                states.end()
            for events in self._event_feeds:
                events.end()
            for paths in self._path_feeds:
                paths.end()
            self._path_feeds.clear()
            if self._unlisten is not None:
                self._unlisten()
                self._unlisten = None
            self._state_feeds.clear()
            self._event_feeds.clear()
            self._driver.forget(self)
        if state is State.READY or state in TERMINAL:
            waiters, self._ready_waiters = self._ready_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _tell(self, event: Event) -> None:
        for feed in self._event_feeds:
            feed.put(event)

    def start(self) -> None:
        """Begin to connect. Nothing happens if that has begun."""
        if self._state is State.SETUP:
            self._started_at = self._driver.waits.time()
            self._adopted = adoption.get()
            self._driver.remember(self)
            self._enter(State.PREPARING)
            self._task = self._driver.spawn(self._prepare, f"connect {self.endpoint}")

    async def _prepare(self) -> None:
        """From PREPARING to READY or FAILED; a task of the driver, under start()'s voucher."""
        adoption.set(self._adopted)
        limit = self.parameters.establish_timeout
        error: NetworkError | None = None
        with anyio.move_on_after(limit) as scope:
            try:
                await self._attempt()
            except NetworkError as why:
                error = why
            except OSError as why:
                error = failed(why.errno or 0, endpoint=self.endpoint)
                error.__cause__ = why
            except Exception as why:
                error = EstablishmentError(0, f"while connecting: {why!r}", endpoint=self.endpoint)
                error.__cause__ = why
        if scope.cancelled_caught:
            error = EstablishTimeout(
                0, f"not connected after {limit} s", last=self.error,
                attempts=tuple(self._attempts), endpoint=self.endpoint,
            )  # fmt: skip
        self._task = None
        if self._state in TERMINAL:
            self._release()
        elif error is not None:
            self._fail(error)

    async def _attempt(self) -> None:
        """Establish, again after waiting if the parameters say so."""
        patience = self.parameters.waiting
        while True:
            try:
                await self._establish()
            except EstablishmentError as error:
                if patience == "fail" or (patience == "path" and not isinstance(error, NoPath)):
                    raise
                self._retry = self._future()
                self._enter(State.WAITING, error)
                self._listen()
                try:
                    await self._retry
                finally:
                    self._retry = None
                self._enter(State.PREPARING)
            else:
                self._enter(State.READY)
                return

    @abstractmethod
    async def _establish(self) -> None:
        """Connect; EstablishmentError if that failed. A cancelled one leaves nothing behind."""

    def _forward(self, pieces: Sequence[Any]) -> bool:
        """Queue lent memory: for connections that can."""
        raise NetworkError(errno.EOPNOTSUPP, "packets cannot be forwarded to it")

    def _forward_datagrams(self, views: Sequence[memoryview]) -> int:
        """Queue datagrams: for connections that can."""
        raise NetworkError(errno.EOPNOTSUPP, "datagrams cannot be forwarded to it")

    @abstractmethod
    def _release(self, error: NetworkError | None = None) -> None:
        """End the transport at once, and wake whoever waits for it."""

    def _fail(self, error: NetworkError) -> None:
        """Enter FAILED, if the connection is not over."""
        if self._state not in TERMINAL:
            self._enter(State.FAILED, error)
            self._release(error)

    async def ready(self) -> None:
        """Start, and wait until data can be sent.

        Raises EstablishmentError if no connection came about, ConnectionBroken if it has
        ended, ClosedResourceError if this side has closed it.
        """
        if self._is_ready:
            await self._driver.waits.checkpoint()
            return
        while not self._is_ready:
            self._check_alive()
            self.start()
            waiter = self._future()
            self._ready_waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                with suppress(ValueError):
                    self._ready_waiters.remove(waiter)
                raise

    def _check_alive(self) -> None:
        if self._state is State.FAILED:
            error = self.error or ConnectionBroken()
            raise error.again()
        if self._state is State.CANCELLED:
            raise anyio.ClosedResourceError

    def retry(self) -> None:
        """Try again now, if the connection is WAITING."""
        if self._retry is not None and not self._retry.done():
            self._retry.set_result(None)

    async def aclose(self) -> None:
        """Close: what was sent still arrives. Under a cancelled scope the same as abort()."""
        if self._state not in TERMINAL:
            if self._driver.waits.is_cancelled():
                self.abort()
            else:
                await self._close()
        await self._driver.waits.checkpoint()

    async def _close(self) -> None:
        """Close in good order; abort if cancelled meanwhile."""
        self.abort()

    def abort(self, error: int | None = None) -> None:
        """End the connection at once; the peer sees a reset. *error* is told to waiting tasks."""
        if self._state in TERMINAL:
            return
        self._enter(State.CANCELLED)
        if self._task is not None:
            self._task.cancel()
        self._release(None if error is None else ConnectionBroken(error))

    async def __aenter__(self) -> Self:
        try:
            await self.ready()
        except BaseException:
            self.abort()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.aclose()
        else:
            self.abort()

    # ---- observing ----

    def states(self) -> AsyncIterator[StateUpdate]:
        """The state now, then every transition; ends after FAILED or CANCELLED."""
        feed: Feed[StateUpdate] = Feed(self._future, None)
        feed.put(StateUpdate(self._state, self.error))
        if self._state in TERMINAL:
            feed.end()
        else:
            self._state_feeds.append(feed)
        return feed

    def events(self) -> Feed[Event]:
        """What happens from now on, to the connection and to the network under it.

        ``dropped`` counts what was not read in time.
        """
        feed: Feed[Event] = Feed(self._future, EVENTS_KEPT)
        if self._state in TERMINAL:
            feed.end()
        else:
            self._event_feeds.append(feed)
            self._listen()
        return feed

    @property
    def path(self) -> Path:
        """The way to the endpoint as the network is now."""
        watch = self._build.stack.path_watch
        return evaluate(watch.state, self.endpoint, self.parameters, generation=watch.generation)

    def paths(self) -> AsyncIterator[Path]:
        """The path now, then the latest after each change; ends with the connection."""
        feed: Feed[Path] = Feed(self._future, 1)
        feed.put(self.path)
        if self._state in TERMINAL:
            feed.end()
        else:
            self._path_feeds.append(feed)
            self._listen()
        return feed

    def _listen(self) -> None:
        """Hear of changes of the network."""
        if self._unlisten is None:
            path = self.path
            self._interface = path.interfaces[0].name if path.interfaces else None
            self._unlisten = self._build.stack.listen_to_paths(self._on_network)

    def _on_network(self, state: NetworkState, generation: int) -> None:
        path = evaluate(state, self.endpoint, self.parameters, generation=generation)
        for feed in self._path_feeds:
            feed.put(path)
        self._tell(PathChanged(path))
        self.retry()
        if not self._is_ready:
            return
        if self.viable != path.is_satisfied:
            self.viable = path.is_satisfied
            self._tell(ViabilityChanged(self.viable))
        better = path.is_satisfied and path.interfaces[0].name != self._interface
        if better != self.better_path:
            self.better_path = better
            self._tell(BetterPath(better))

    async def migrate(self, *, handover: Callable[[Self], Awaitable[object]]) -> Self:
        """A new connection to the same place, over the path that is best now.

        *handover* moves the work to it; then this one is closed. Whatever goes wrong before that
        leaves this one as it is.
        """
        new: Self = self._build.connection(self._driver, self.endpoint)  # type: ignore[assignment]
        try:
            await new.ready()
            await handover(new)
        except BaseException:
            new.abort()
            raise
        await self.aclose()
        return new

    # ---- reports and attributes ----

    async def establishment_report(self) -> EstablishmentReport:
        """How the connection came about; waits until it has."""
        await self.ready()
        duration = self._ready_at - self._started_at if self._started_at else 0.0
        return EstablishmentReport(duration, tuple(self._attempts), tuple(self._resolutions))

    def data_transfer_report(self) -> DataTransferReport:
        """What the connection has carried up to now."""
        return DataTransferReport(math.nan, 0, 0, 0, math.nan, math.nan)

    def tcp_info(self) -> TCPInfo:
        """TCP's own figures; OSError if there is no TCP."""
        raise NetworkError(errno.EOPNOTSUPP)

    def set_service_class(self, service_class: ServiceClass | None) -> None:
        """The class of what is sent from now on, where the message names none."""
        self._tag.choose(None, service_class)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """anyio's typed attributes."""
        return {}
