"""From nested protocol options to a connection: which class, and what goes under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xsock.nw._bytes import TCPConnection
from xsock.nw._connection import Connection
from xsock.nw._datagram import DatagramConnection
from xsock.nw._errors import EstablishmentError, NetworkError, NoPath, failed
from xsock.nw._establish import Candidate, establish
from xsock.nw._layered import LayeredBytes, MessageConnection
from xsock.nw._listener import Listener
from xsock.nw._options import TCP, Alternatives, DataMode, ProtocolOptions, candidates_of, stack_of
from xsock.nw._parameters import Parameters
from xsock.nw._path import evaluate
from xsock.nw._report import Attempt
from xsock.nw._sockets import (
    SO_REUSEADDR,
    SOL_SOCKET,
    abort,
    configure,
    dial,
    peer_voucher,
    set_int,
)

if TYPE_CHECKING:
    from xsock.nw._endpoint import Endpoint
    from xsock.nw._loop import Driver
    from xsock.nw._stack import Stack

__all__ = ["Build"]

SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
# Of Parameters: what chooses among interfaces, and needs the path to be judged first.
_RULES: Final = (
    "required_interface", "required_interface_type", "prohibited_interfaces",
    "prohibited_interface_types", "prohibit_expensive", "prohibit_constrained", "local_only",
)  # fmt: skip
_ANY: Final = Parameters()


class Build:
    """What a connection is made from: its stack, protocols and parameters."""

    __slots__ = ("kind", "make", "options", "parameters", "stack")

    def __init__(self, stack: Stack, options: ProtocolOptions, parameters: Parameters) -> None:
        if not isinstance(options, ProtocolOptions):
            raise TypeError(f"protocol options are wanted, not {options!r}")
        if not isinstance(parameters, Parameters):
            raise TypeError(f"Parameters are wanted, not {parameters!r}")
        self.stack = stack
        self.options = options
        self.parameters = parameters
        self.kind, self.make = _class_of(options)

    def connection(self, driver: Driver, to: Endpoint) -> Connection:
        """A connection in SETUP."""
        connection: Connection = self.make(driver, to, self)
        return connection

    def listener(self, driver: Driver, local: Endpoint, backlog: int) -> Listener[Any]:
        """A listener in SETUP."""
        if self.kind != SOCK_STREAM:
            raise TypeError("datagrams have no listener: see Stack.datagram_socket()")

        def prepare(handle: Any, family: int) -> None:
            set_int(handle, SOL_SOCKET, SO_REUSEADDR, 1)
            configure(handle, family, candidates_of(self.options)[0], self.parameters)

        def accept(handle: Any, peer: Endpoint) -> Connection:
            connection = self.make(driver, peer, self)
            connection._came_under = peer_voucher(handle, self.stack.originators)
            connection._accept(handle)
            return connection  # type: ignore[no-any-return]

        return Listener(driver, local, backlog, prepare, accept)

    async def dial(self, connection: Connection) -> tuple[Any, ProtocolOptions]:
        """A socket connected to where *connection* leads, and what to speak over it.

        EstablishmentError if there is none.
        """
        to, parameters = connection.endpoint, self.parameters
        is_plain = to.is_numeric and not isinstance(self.options, Alternatives)
        if is_plain and all(getattr(parameters, n) == getattr(_ANY, n) for n in _RULES):
            return await self._dial_one(connection), self.options
        watch = self.stack.path_watch
        watch.poll()

        async def connect(candidate: Candidate) -> Any:
            return await dial(
                connection._driver,
                candidate.endpoint,
                self.kind,
                candidate.options,
                parameters,
                connection._tag.begin,
            )

        won = await establish(
            self.stack.names, watch.state, to, self.options, parameters, connect, abort,
            attempts=connection._attempts, resolutions=connection._resolutions,
            started=connection._started_at,
        )  # fmt: skip
        return won.value, won.candidate.options

    async def _dial_one(self, connection: Connection) -> Any:
        """An address needs no race."""
        driver, to = connection._driver, connection.endpoint
        started = driver.waits.time()
        error: EstablishmentError | None = None
        try:
            return await dial(
                driver, to, self.kind, self.options, self.parameters, connection._tag.begin
            )
        except NetworkError as why:
            error = failed(why.errno or 0, endpoint=to)
            if isinstance(error, NoPath):
                watch = self.stack.path_watch
                watch.poll()
                error.path = evaluate(watch.state, to, self.parameters)
                error.reason = error.path.reason
            raise error from why
        finally:
            ended = driver.waits.time()
            connection._attempts.append(
                Attempt(to, started - connection._started_at, ended - started, error)
            )
            if error is not None:
                error.attempts = tuple(connection._attempts)


def _class_of(options: ProtocolOptions) -> tuple[int, Any]:
    """The kind of socket, and the class of the connection."""
    top = candidates_of(options)[0]
    layers = [each for each in stack_of(top) if each.produces is not DataMode.PACKET]
    transport = layers[-1]
    if transport.produces is DataMode.DATAGRAM:
        if len(layers) > 1:
            raise TypeError(f"nothing is known of {type(top).__name__} over datagrams")
        return SOCK_DGRAM, DatagramConnection
    if isinstance(top, TCP):
        return SOCK_STREAM, TCPConnection
    if top.produces is DataMode.MESSAGE:
        return SOCK_STREAM, MessageConnection
    return SOCK_STREAM, LayeredBytes
