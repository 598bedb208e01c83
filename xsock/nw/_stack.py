"""nw.Stack: what connections belong to, and where they come from."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, Self

import anyio

from bsdcore.stack import Stack as Core
from xsock.nw._bytes import TCPConnection
from xsock.nw._listener import Listener
from xsock.nw._loop import Driver

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Stack", "connect", "current_stack"]

CLOSE_TIMEOUT: Final = 5.0
DRAIN_POLL: Final = 0.01  # s between looks at what is still unsent
_current: ContextVar[Stack] = ContextVar("xsock.nw stack")


class Stack:
    """The network of one event loop, and the owner of every background task.

    Use it in ``async with``. Leaving closes everything: what was sent has *close_timeout*
    seconds to arrive, then connections are reset. Inside, current_stack() is this one.
    """

    def __init__(
        self, core: Callable[[], Core] | None = None, *, close_timeout: float = CLOSE_TIMEOUT
    ) -> None:
        self._make_core = core or _loopback
        self._core: Core | None = None
        self._driver: Driver | None = None
        self._token: Token[Stack] | None = None
        self.close_timeout = close_timeout

    @classmethod
    def loopback(cls) -> Stack:
        """A Stack by itself, with nothing but a loopback interface."""
        return cls(_loopback)

    @property
    def driver(self) -> Driver:
        """What runs the stack; RuntimeError outside ``async with``."""
        if self._driver is None:
            raise RuntimeError("this Stack is not open: use async with")
        return self._driver

    async def __aenter__(self) -> Self:
        if self._driver is not None:
            raise RuntimeError("this Stack is open already")
        self._core = self._make_core()
        self._driver = Driver(self._core)
        self._token = _current.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            _current.reset(token)
        await self.aclose()

    async def aclose(self) -> None:
        """Close every listener and connection, wait for what is unsent, and free the stack."""
        driver, core = self._driver, self._core
        if driver is None or core is None:
            return
        try:
            for listener in list(driver.listeners):
                listener.abort()
            with anyio.move_on_after(self.close_timeout):
                for connection in list(driver.connections):
                    await connection.aclose()
                await driver.drain()
        finally:
            for connection in list(driver.connections):
                connection.abort()
            self._driver = self._core = None
            driver.close()
            core.close()

    # ---- connections ----

    def connection(self, to: Any, proto: Any = None, parameters: Any = None) -> TCPConnection:
        """A connection to *to* in SETUP: nothing is on the wire yet."""
        return TCPConnection(self.driver, to, parameters)

    async def connect(self, to: Any, proto: Any = None, parameters: Any = None) -> TCPConnection:
        """A connection that is READY, or EstablishmentError."""
        connection = self.connection(to, proto, parameters)
        try:
            await connection.ready()
        except BaseException:
            connection.abort()
            raise
        return connection

    def listen(
        self, proto: Any = None, *, local: tuple[str, int] = ("0.0.0.0", 0),
        parameters: Any = None, backlog: int = 1024,
    ) -> Listener[TCPConnection]:  # fmt: skip
        """A listener on *local*; bound once ``async with`` was entered."""
        driver = self.driver

        def make(handle: Any, peer: tuple[Any, ...]) -> TCPConnection:
            connection = TCPConnection(driver, peer[:2], parameters)
            connection._adopt(handle)
            return connection

        return Listener(driver, local, backlog, make)


def _loopback() -> Core:
    return Core("nw")


_defaults: weakref.WeakKeyDictionary[Any, Stack] = weakref.WeakKeyDictionary()


def current_stack() -> Stack:
    """The Stack whose ``async with`` the current task is in."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no nw.Stack is open here") from None


async def connect(host: str, port: int, proto: Any = None, parameters: Any = None) -> TCPConnection:
    """Connect with the current Stack; READY, or EstablishmentError."""
    return await current_stack().connect((host, port), proto, parameters)
