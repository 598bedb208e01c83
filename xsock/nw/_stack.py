"""nw.Stack: what connections belong to, and where they come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar, Token
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, overload

import anyio
from anyio.lowlevel import RunVar

from bsdcore.stack import Stack as Core
from xsock.nw._build import Build
from xsock.nw._connection import Connection
from xsock.nw._datagram import DatagramSocket
from xsock.nw._endpoint import Endpoint, EndpointLike
from xsock.nw._host import Beside
from xsock.nw._ledger import Ledger
from xsock.nw._listener import Listener
from xsock.nw._loop import Driver
from xsock.nw._options import TCP, TLS, UDP, ProtocolOptions
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._path import NetworkState, PathMonitor, PathWatch, read_state
from xsock.nw._resolve import Names
from xsock.nw._voucher import Grant, Originator, Originators, QoS, ServiceClass

if TYPE_CHECKING:
    from types import TracebackType

    from xsock.nw._bytes import ByteConnection
    from xsock.nw._wait import Task

__all__ = ["Stack", "connect", "current_stack", "default_stack"]

CLOSE_TIMEOUT: Final = 5.0
_TCP: Final = TCP()
_UDP: Final = UDP()
_PARAMETERS: Final = Parameters()
_ANY: Final = Endpoint.address("0.0.0.0", 0)
_current: ContextVar[Stack] = ContextVar("xsock.nw stack")


class Stack:
    """The network of one event loop, and the owner of every background task.

    Without *core* it is over the process's network, as host() makes it. Use it in
    ``async with``. Leaving closes everything: what was sent has *close_timeout* seconds
    to arrive, then connections are reset. Inside, current_stack() is this one.
    """

    def __init__(
        self,
        core: Callable[[], Core | Beside] | None = None,
        *,
        names: Names | None = None,
        close_timeout: float = CLOSE_TIMEOUT,
    ) -> None:
        self.originators = Originators()
        if core is None:
            from xsock import _vouch, _wiring

            process = _wiring.default()
            core = partial(Beside, process)
            names = names or Names(process.host)
            self.originators = _vouch.originators_of(process.host)
        self._make_core = core
        self._core: Core | Beside | None = None
        self._driver: Driver | None = None
        self._token: Token[Stack] | None = None
        self.close_timeout = close_timeout
        self.names = names or Names()
        self._path_watch: PathWatch | None = None
        self._watching: Task | None = None

    @classmethod
    def loopback(cls, *, names: Names | None = None) -> Stack:
        """A Stack by itself, with nothing but a loopback interface."""
        return cls(_loopback, names=names)

    @classmethod
    def host(cls, process: Any = None) -> Stack:
        """A Stack beside that of *process*, an xsock Stack, or this process's own: with its
        interfaces, addresses and space of ports, and without its thread. Names are found and
        originators numbered as there."""
        from xsock import _vouch, _wiring

        process = process or _wiring.default()
        stack = cls(partial(Beside, process), names=Names(process.host))
        stack.originators = _vouch.originators_of(process.host)
        return stack

    @property
    def driver(self) -> Driver:
        """What runs the stack; RuntimeError outside ``async with``."""
        if self._driver is None:
            raise RuntimeError("this Stack is not open: use async with")
        return self._driver

    async def __aenter__(self) -> Self:
        self._open()
        self._token = _current.set(self)
        return self

    def _open(self) -> None:
        if self._driver is not None:
            raise RuntimeError("this Stack is open already")
        made = self._core = self._make_core()
        if isinstance(made, Core):
            self._driver = Driver(made)
        else:
            self._driver = Driver(made.core, made.doorbell, made.refresh, made.host)

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
        driver = self._driver
        if driver is None:
            return
        try:
            for listener in list(driver.listeners):
                listener.abort()
            for plug in list(driver.datagram_sockets):
                plug.abort()
            with anyio.move_on_after(self.close_timeout):
                for connection in list(driver.connections):
                    await connection.aclose()
                await driver.drain()
        finally:
            self.abort()

    def abort(self) -> None:
        """Reset everything that is open, and free the stack."""
        driver, core = self._driver, self._core
        if driver is None or core is None:
            return
        for listener in list(driver.listeners):
            listener.abort()
        for plug in list(driver.datagram_sockets):
            plug.abort()
        for connection in list(driver.connections):
            connection.abort()
        self._driver = self._core = self._path_watch = None
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        driver.close()
        core.close()

    # ---- the network ----

    @property
    def path_watch(self) -> PathWatch:
        """Pictures of the network as it changes."""
        if self._path_watch is None:
            core, servers = self.driver.core, self.names.servers
            self._path_watch = PathWatch(lambda: read_state(core, servers))
        return self._path_watch

    def listen_to_paths(self, listener: Callable[[NetworkState, int], None]) -> Callable[[], None]:
        """Call *listener* when the network changes; the answer ends that."""
        watch = self.path_watch
        if self._watching is None and not watch.is_running:
            self._watching = self.driver.spawn(watch.run, "watch the network")
        return watch.listen(listener)

    def path_monitor(
        self,
        required: InterfaceType | None = None,
        prohibited: tuple[InterfaceType, ...] = (),
        *,
        to: EndpointLike | None = None,
        parameters: Parameters = _PARAMETERS,
    ) -> PathMonitor:
        """Paths as they change: to anywhere, or to an endpoint under *parameters*."""
        endpoint = None if to is None else Endpoint.of(to)
        return PathMonitor(
            self.path_watch, endpoint, parameters, required=required, prohibited=prohibited
        )

    # ---- who pays ----

    @property
    def ledger(self) -> Ledger:
        """What every originator has sent and received over this stack."""
        return Ledger(self.originators, lambda: [self.driver.core])

    def grant(
        self,
        originator: Originator,
        *,
        qos: QoS = QoS.USER_INTERACTIVE,
        service_class: ServiceClass = ServiceClass.CONTROL,
    ) -> Grant:
        """Let vouchers of *originator* be raised so far."""
        return self.originators.grant(originator, qos=qos, service_class=service_class)

    # ---- connections ----

    @overload
    def connection(
        self, to: EndpointLike, proto: TCP | TLS = ..., parameters: Parameters = ...
    ) -> ByteConnection: ...
    @overload
    def connection(
        self, to: EndpointLike, proto: ProtocolOptions, parameters: Parameters = ...
    ) -> Any: ...
    def connection(
        self,
        to: EndpointLike,
        proto: ProtocolOptions = _TCP,
        parameters: Parameters = _PARAMETERS,
    ) -> Connection:
        """A connection to *to* in SETUP: nothing is on the wire yet.

        Its class follows from what the top protocol of *proto* gives.
        """
        return Build(self, proto, parameters).connection(self.driver, Endpoint.of(to))

    @overload
    async def connect(
        self, to: EndpointLike, proto: TCP | TLS = ..., parameters: Parameters = ...
    ) -> ByteConnection: ...
    @overload
    async def connect(
        self, to: EndpointLike, proto: ProtocolOptions, parameters: Parameters = ...
    ) -> Any: ...
    async def connect(
        self,
        to: EndpointLike,
        proto: ProtocolOptions = _TCP,
        parameters: Parameters = _PARAMETERS,
    ) -> Connection:
        """A connection that is READY, or EstablishmentError."""
        connection: Connection = self.connection(to, proto, parameters)
        try:
            await connection.ready()
        except BaseException:
            connection.abort()
            raise
        return connection

    @overload
    def listen(
        self, proto: TCP | TLS = ..., *, local: EndpointLike = ..., parameters: Parameters = ...,
        backlog: int = ...,
    ) -> Listener[ByteConnection]: ...  # fmt: skip
    @overload
    def listen(
        self, proto: ProtocolOptions, *, local: EndpointLike = ..., parameters: Parameters = ...,
        backlog: int = ...,
    ) -> Listener[Any]: ...  # fmt: skip
    def listen(
        self,
        proto: ProtocolOptions = _TCP,
        *,
        local: EndpointLike = _ANY,
        parameters: Parameters = _PARAMETERS,
        backlog: int = 1024,
    ) -> Listener[Any]:
        """A listener on *local*; bound once ``async with`` was entered."""
        build = Build(self, proto, parameters)
        return build.listener(self.driver, Endpoint.of(local), backlog)

    def datagram_socket(
        self,
        local: EndpointLike = _ANY,
        proto: UDP = _UDP,
        *,
        parameters: Parameters = _PARAMETERS,
    ) -> DatagramSocket:
        """A socket for datagrams of many peers; bound once ``async with`` was entered."""
        return DatagramSocket(self.driver, Endpoint.of(local), Build(self, proto, parameters))


def _loopback() -> Core:
    return Core("nw")


def current_stack() -> Stack:
    """The Stack whose ``async with`` the current task is in."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no nw.Stack is open here") from None


_default: Final[RunVar[tuple[Stack, AsyncGenerator[Stack, None]]]] = RunVar("xsock.nw default")


async def _keep(stack: Stack) -> AsyncGenerator[Stack, None]:
    """Open until the event loop ends: then it closes the generators that are left."""
    stack._open()
    try:
        yield stack
    finally:
        stack.abort()


async def default_stack() -> Stack:
    """The current Stack, or else this event loop's own beside the process's.

    That one is made on first use and closed, with what is open, at the end of the loop.
    """
    try:
        return _current.get()
    except LookupError:
        pass
    try:
        return _default.get()[0]
    except LookupError:
        stack = Stack.host()
        keeper = _keep(stack)
        _default.set((stack, keeper))
        return await anext(keeper)


async def connect(
    host: str, port: int, proto: ProtocolOptions = _TCP, parameters: Parameters = _PARAMETERS
) -> Any:
    """Connect with the current Stack, or with the default_stack().

    READY, or EstablishmentError.
    """
    return await (await default_stack()).connect((host, port), proto, parameters)
