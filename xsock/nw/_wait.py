"""Waiting, on asyncio (and uvloop) and on trio: one small object per event loop.

A wait is ``future = waits.future(); await future`` in the task, and
``future.set_result(x)`` in the driver, which runs on the same loop. On asyncio the
future is asyncio's own; on trio it is Future below. anyio's Event would do the same
for three to fourteen microseconds more, several times what a request over the
loopback may cost, so the data path uses none of anyio's primitives; everything else may.

The rule for checkpoints (anyio asks that every await be one; here it costs more
than the operation):

- An operation that has to wait is a checkpoint, for cancellation and for scheduling.
- An operation that is ready at once gives way to other tasks every TURN_OPS-th time.
- A receive that is ready at once looks at its cancel scope first. A send does so
  the first time in each turn of the event loop: only the task itself can have
  cancelled its own scope between two of its operations in the same turn.

A cancelled operation has done nothing, except for a stream send that queued a part
(see ByteConnection.send).
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, Protocol

import sniffio

if TYPE_CHECKING:
    import trio

__all__ = ["TURN_OPS", "AsyncioWaits", "Task", "TrioWaits", "Waiter", "Waits", "here"]

TURN_OPS: Final = 16


class Waiter(Protocol):
    """What a task waits for: made, awaited and woken once."""

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def done(self) -> bool: ...
    def result(self) -> Any: ...
    def set_result(self, result: Any, /) -> Any: ...


class Task(Protocol):
    """A background task of a driver."""

    def cancel(self) -> None:
        """Ask it to end."""


class Waits(Protocol):
    """What the drivers need of an event loop."""

    future: Callable[[], Waiter]
    time: Callable[[], float]

    def call_soon(self, fn: Callable[[], object]) -> object:
        """Run *fn* in the next turn of the loop."""

    def wake_at(self, when: float) -> None:
        """Call the driver's function at *when* (the loop's clock); earlier is allowed."""

    def attach(self, fd: int | None, fn: Callable[[], object]) -> None:
        """Call *fn* whenever *fd* is readable, if there is one, and for wake_at."""

    def detach(self) -> None:
        """Undo attach(); nothing is called any more."""

    def spawn(self, fn: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        """Run *fn* in a task of its own, in an empty context; it may not raise."""

    def checkpoint(self) -> Awaitable[None]:
        """Give way to other tasks; raises if the scope is cancelled."""

    def is_cancelled(self) -> bool:
        """The current task's scope is cancelled: a checkpoint would raise."""


@types.coroutine
def _give_way() -> Generator[None, None, None]:
    yield


class AsyncioWaits:
    """Waits on the running asyncio or uvloop loop."""

    def __init__(self) -> None:
        # The backend's own function: the public one asks first which library runs, every time.
        from anyio._core._eventloop import get_async_backend

        loop = asyncio.get_running_loop()
        self.loop = loop
        self.future: Callable[[], Waiter] = loop.create_future
        self.time = loop.time
        self.call_soon = loop.call_soon
        self.checkpoint = _give_way
        self._deadline = get_async_backend().current_effective_deadline
        self._tasks: set[asyncio.Task[None]] = set()
        self._fd: int | None = None
        self._fn: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._at = math.inf

    def attach(self, fd: int | None, fn: Callable[[], object]) -> None:
        self._fd, self._fn = fd, fn
        if fd is not None:
            self.loop.add_reader(fd, fn)

    def detach(self) -> None:
        if self._fd is not None and not self.loop.is_closed():
            self.loop.remove_reader(self._fd)
        self._fn = self._fd = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = math.inf

    def wake_at(self, when: float) -> None:
        # A timer that goes off early costs less than moving it at every packet.
        if when >= self._at or self._fn is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at = when
        self._timer = self.loop.call_at(when, self._timeout)

    def _timeout(self) -> None:
        self._at, self._timer = math.inf, None
        if self._fn is not None:
            self._fn()

    def spawn(self, fn: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        task = self.loop.create_task(fn(), name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return _AsyncioTask(task)

    def is_cancelled(self) -> bool:
        return self._deadline() == -math.inf


class _AsyncioTask:
    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


class Future:
    """The part of asyncio.Future that a wait needs, for trio."""

    __slots__ = ("_done", "_result", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._done = False
        self._result: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        import trio

        if not self._done:
            self._task = trio.lowlevel.current_task()
            yield from trio.lowlevel.wait_task_rescheduled(self._abort).__await__()
        return self._result

    def _abort(self, _raise_cancel: Any) -> Any:
        import trio

        self._done, self._task = True, None
        return trio.lowlevel.Abort.SUCCEEDED

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        return self._result

    def set_result(self, result: Any, /) -> None:
        import trio

        self._done, self._result = True, result
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)


class TrioWaits:
    """Waits on the running trio loop."""

    future: Callable[[], Waiter] = Future

    def __init__(self) -> None:
        import trio

        self._trio = trio
        self.time = trio.current_time
        self._deadline = trio.current_effective_deadline
        self._scope: trio.CancelScope | None = None
        self._stops: list[trio.CancelScope] = []
        self._at = math.inf
        self._pending: list[Callable[[], object]] = []
        self._soon: trio.lowlevel.Task | None = None

    def attach(self, fd: int | None, fn: Callable[[], object]) -> None:
        watch, soon = self._trio.CancelScope(), self._trio.CancelScope()
        self._stops = [watch, soon]
        spawn = self._trio.lowlevel.spawn_system_task
        spawn(self._watch, fd, fn, watch, name="nw driver", context=contextvars.Context())
        spawn(self._run_soon, soon, name="nw pump", context=contextvars.Context())

    def detach(self) -> None:
        for stop in self._stops:
            stop.cancel()
        self._stops.clear()
        self._pending.clear()

    async def _watch(
        self, fd: int | None, fn: Callable[[], object], stop: trio.CancelScope
    ) -> None:
        with stop:
            while not stop.cancel_called:  # the descriptor may be closed by then
                with self._trio.CancelScope(deadline=self._at) as self._scope:
                    if fd is None:
                        await self._trio.sleep_forever()
                    else:
                        await self._trio.lowlevel.wait_readable(fd)
                if self._scope.cancelled_caught:
                    self._at = math.inf
                if not stop.cancel_called:
                    fn()

    async def _run_soon(self, stop: trio.CancelScope) -> None:
        def abort(_raise_cancel: Any) -> Any:
            self._soon = None
            return self._trio.lowlevel.Abort.SUCCEEDED

        with stop:
            while True:
                if not self._pending:
                    self._soon = self._trio.lowlevel.current_task()
                    await self._trio.lowlevel.wait_task_rescheduled(abort)
                else:
                    await self._trio.lowlevel.checkpoint()
                pending, self._pending = self._pending, []
                for fn in pending:
                    fn()

    def call_soon(self, fn: Callable[[], object]) -> None:
        self._pending.append(fn)
        task, self._soon = self._soon, None
        if task is not None:
            self._trio.lowlevel.reschedule(task)

    def wake_at(self, when: float) -> None:
        if when < self._at:
            self._at = when
            if self._scope is not None:
                self._scope.deadline = when

    def spawn(self, fn: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
        scope = self._trio.CancelScope()

        async def run() -> None:
            with scope:
                await fn()

        self._trio.lowlevel.spawn_system_task(run, name=name, context=contextvars.Context())
        return scope

    async def checkpoint(self) -> None:
        await self._trio.lowlevel.checkpoint()

    def is_cancelled(self) -> bool:
        return self._deadline() == -math.inf


def here() -> Waits:
    """The waits of the running event loop."""
    if sniffio.current_async_library() == "trio":
        return TrioWaits()
    return AsyncioWaits()
