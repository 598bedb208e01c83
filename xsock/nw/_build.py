"""From nested protocol options to a connection: which class, and what goes under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from xsock.nw._bytes import TCPConnection
from xsock.nw._connection import Connection
from xsock.nw._endpoint import Endpoint
from xsock.nw._errors import EstablishmentError, NameResolutionError, NetworkError, failed
from xsock.nw._listener import Listener
from xsock.nw._options import TCP, ProtocolOptions, candidates_of
from xsock.nw._report import Attempt
from xsock.nw._sockets import SO_REUSEADDR, SOL_SOCKET, configure, dial, set_int

if TYPE_CHECKING:
    from xsock.nw._loop import Driver
    from xsock.nw._parameters import Parameters
    from xsock.nw._stack import Stack

__all__ = ["Build"]

SOCK_STREAM: Final = 1


class Build:
    """What a connection is made from: its stack, protocols and parameters."""

    __slots__ = ("options", "parameters", "stack")

    def __init__(self, stack: Stack, options: ProtocolOptions, parameters: Parameters) -> None:
        if not isinstance(options, ProtocolOptions):
            raise TypeError(f"protocol options are wanted, not {options!r}")
        self.stack = stack
        self.options = options
        self.parameters = parameters

    def connection(self, driver: Driver, to: Endpoint) -> Connection:
        """A connection in SETUP."""
        top = candidates_of(self.options)[0]
        if isinstance(top, TCP):
            return TCPConnection(driver, to, self)
        raise NotImplementedError(type(top).__name__)

    def listener(self, driver: Driver, local: Endpoint, backlog: int) -> Listener[Any]:
        """A listener in SETUP."""

        def make(handle: Any, peer: Endpoint) -> Connection:
            connection = TCPConnection(driver, peer, self)
            connection._adopt(handle)
            return connection

        def prepare(handle: Any, family: int) -> None:
            set_int(handle, SOL_SOCKET, SO_REUSEADDR, 1)
            configure(handle, family, self.options, self.parameters)

        return Listener(driver, local, backlog, prepare, make)

    async def dial(self, connection: Connection) -> Any:
        """A socket connected to where *connection* leads; EstablishmentError."""
        driver, to = connection._driver, connection.endpoint
        if not to.is_numeric:
            raise NameResolutionError(endpoint=to)
        started = driver.waits.time()
        error: EstablishmentError | None = None
        try:
            return await dial(driver, to, SOCK_STREAM, self.options, self.parameters)
        except NetworkError as why:
            error = failed(why.errno or 0, endpoint=to)
            raise error from why
        finally:
            ended = driver.waits.time()
            connection._attempts.append(
                Attempt(to, started - connection._started_at, ended - started, error)
            )
            if error is not None:
                error.attempts = tuple(connection._attempts)
