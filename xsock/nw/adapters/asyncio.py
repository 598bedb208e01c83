"""asyncio's streams, transports and protocols over nw, on asyncio's loop and uvloop.

A transport is two tasks on a byte stream: one gives the protocol what comes, the other
sends what could not be taken at once. write() goes straight down where the stream
has ``try_send`` and nothing waits before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute

from xsock.nw._endpoint import Endpoint, EndpointLike
from xsock.nw._listener import Listener
from xsock.nw._options import TCP, ProtocolOptions
from xsock.nw._parameters import Parameters
from xsock.nw._stack import Stack, current_stack

__all__ = ["NWTransport", "Server", "create_connection", "open_connection", "start_server"]

HIGH_WATER: Final = 64 * 1024  # bytes that wait in a transport before it says pause_writing
LIMIT: Final = 64 * 1024  # of a StreamReader, as asyncio has it
RECEIVE: Final = 256 * 1024
_TCP: Final = TCP()
_PARAMETERS: Final = Parameters()
Buffer = bytes | bytearray | memoryview
P = TypeVar("P", bound=asyncio.BaseProtocol)

_EXTRA: Final[dict[str, Any]] = {
    "peername": SocketAttribute.remote_address,
    "sockname": SocketAttribute.local_address,
    "socket": SocketAttribute.raw_socket,
    "ssl_object": TLSAttribute.ssl_object,
    "peercert": TLSAttribute.peer_certificate,
    "cipher": TLSAttribute.cipher,
}


class NWTransport(asyncio.Transport):
    """A transport over *stream*, which belongs to it; *protocol* hears of it in the next turn."""

    _start_tls_compatible = True  # loop.start_tls() asks

    def __init__(
        self, stream: ByteStream, protocol: asyncio.BaseProtocol,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._loop = loop or asyncio.get_running_loop()
        self._stream = stream
        self._try_send: Callable[[Any], int] | None = getattr(stream, "try_send", None)
        self._protocol = protocol
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._is_paused = False  # the protocol was told pause_writing
        self._is_closing = False
        self._has_eof = False  # write_eof() was called
        self._is_lost = False
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._has_work = asyncio.Event()
        self._reader = self._loop.create_task(self._read(), name="nw transport reader")
        self._writer = self._loop.create_task(self._write(), name="nw transport writer")

    def __repr__(self) -> str:
        return f"<NWTransport over {self._stream!r}{' closing' if self._is_closing else ''}>"

    # ---- in ----

    async def _read(self) -> None:
        protocol: Any = self._protocol
        protocol.connection_made(self)
        try:
            while not self._is_closing:
                await self._may_read.wait()
                data = await self._stream.receive(RECEIVE)
                # What came while reading was paused waits: the protocol does not want it yet.
                while not self._may_read.is_set():
                    await self._may_read.wait()
                if self._is_closing:
                    return
                self._feed(data)
        except anyio.EndOfStream:
            self._end_of_stream()
        except anyio.ClosedResourceError:
            self._lose(None)
        except (OSError, anyio.BrokenResourceError) as error:
            self._lose(_as_oserror(error))
        except Exception as error:
            self._fatal(error, "a protocol failed at what it received")

    def _feed(self, data: bytes) -> None:
        protocol: Any = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            protocol.data_received(data)
            return
        at = 0
        while at < len(data):
            room = protocol.get_buffer(len(data) - at)
            with memoryview(room) as view, view.cast("B") as octets:
                size = min(len(octets), len(data) - at)
                if not size:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                octets[:size] = data[at : at + size]
            at += size
            protocol.buffer_updated(size)

    def _end_of_stream(self) -> None:
        protocol: Any = self._protocol
        try:
            keeps_open = protocol.eof_received()
        except Exception as error:
            self._fatal(error, "a protocol failed at the end of its stream")
            return
        if not keeps_open:
            self.close()

    def is_reading(self) -> bool:
        return self._may_read.is_set() and not self._is_closing

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    # ---- out ----

    def write(self, data: Buffer) -> None:
        """Send *data* now or later; never waits."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data: a bytes-like object is wanted, not {type(data).__name__!r}")
        if self._has_eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not len(data) or self._is_lost or self._is_closing:
            return
        if not self._queue and not self._has_work.is_set() and self._try_send is not None:
            try:
                sent = self._try_send(data)
            except (OSError, anyio.BrokenResourceError) as error:
                self._lose(_as_oserror(error))
                return
            except (anyio.BusyResourceError, anyio.ClosedResourceError):
                sent = 0
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        self._queue.append(bytes(data))
        self._size += len(data)
        self._has_work.set()
        if self._size > self._high and not self._is_paused:
            self._is_paused = True
            self._tell("pause_writing")

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    async def _write(self) -> None:
        try:
            while True:
                await self._has_work.wait()
                while self._queue:
                    data = b"".join(self._queue) if len(self._queue) > 1 else self._queue[0]
                    self._queue.clear()
                    await self._stream.send(data)
                    self._size -= len(data)
                    if self._is_paused and self._size <= self._low:
                        self._is_paused = False
                        self._tell("resume_writing")
                self._has_work.clear()
                if self._is_closing:
                    break
                if self._has_eof:
                    with contextlib.suppress(NotImplementedError):
                        await self._stream.send_eof()
            await self._stream.aclose()
            self._lose(None)
        except anyio.ClosedResourceError:
            self._lose(None)
        except (OSError, anyio.BrokenResourceError) as error:
            self._lose(_as_oserror(error))

    def _tell(self, name: str) -> None:
        try:
            getattr(self._protocol, name)()
        except Exception as error:
            self._loop.call_exception_handler({
                "message": f"protocol.{name}() failed", "exception": error,
                "transport": self, "protocol": self._protocol,
            })  # fmt: skip

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._has_eof and not self._is_closing:
            self._has_eof = True
            self._has_work.set()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    def get_write_buffer_size(self) -> int:
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    # ---- life ----

    def close(self) -> None:
        """Send what waits, then close; the protocol hears connection_lost(None)."""
        if not self._is_closing:
            self._is_closing = True
            self._may_read.set()
            self._has_work.set()

    def abort(self) -> None:
        """Close now; what waits is dropped."""
        self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def _fatal(self, error: Exception, message: str) -> None:
        self._loop.call_exception_handler({
            "message": message, "exception": error, "transport": self, "protocol": self._protocol,
        })  # fmt: skip
        self._lose(error)

    def _lose(self, error: BaseException | None) -> None:
        """The end: tasks, stream, and the protocol's last call, once."""
        if self._is_lost:
            return
        self._is_lost = self._is_closing = True
        self._queue.clear()
        self._size = 0
        self._loop.create_task(self._clean_up(error), name="nw transport end")

    async def _clean_up(self, error: BaseException | None) -> None:
        for task in (self._reader, self._writer):
            task.cancel()
        await asyncio.wait((self._reader, self._writer))
        try:
            await anyio.aclose_forcefully(self._stream)
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # it was broken
        finally:
            protocol: Any = self._protocol
            protocol.connection_lost(error)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """ "peername", "sockname", "ssl_object", "peercert", "cipher" and "sslcontext"."""
        if name == "sslcontext":
            tls = self._stream.extra(TLSAttribute.ssl_object, None)
            return default if tls is None else tls.context
        attribute = _EXTRA.get(name)
        return default if attribute is None else self._stream.extra(attribute, default)


def _as_oserror(error: BaseException) -> BaseException:
    """asyncio's programs expect an OSError."""
    if isinstance(error, OSError):
        return error
    if isinstance(error.__cause__, OSError):
        return error.__cause__
    reset = ConnectionResetError("the connection broke")
    reset.__cause__ = error
    return reset


# ---- what asyncio has under these names ----


async def create_connection(
    protocol_factory: Callable[[], P], to: EndpointLike, proto: ProtocolOptions = _TCP, *,
    stack: Stack | None = None, parameters: Parameters = _PARAMETERS,
) -> tuple[NWTransport, P]:  # fmt: skip
    """Connect to *to* by the current stack, and give the connection to a protocol."""
    stack = current_stack() if stack is None else stack
    stream = await stack.connect(Endpoint.of(to), proto, parameters)
    protocol = protocol_factory()
    transport = NWTransport(stream, protocol)
    await asyncio.sleep(0)  # connection_made
    return transport, protocol


async def open_connection(
    to: EndpointLike, proto: ProtocolOptions = _TCP, *, stack: Stack | None = None,
    parameters: Parameters = _PARAMETERS, limit: int = LIMIT,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:  # fmt: skip
    """Connect to *to*; a reader and a writer, as asyncio.open_connection() has them."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_connection(
        lambda: protocol, to, proto, stack=stack, parameters=parameters
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class Server:
    """What start_server() makes: in ``async with``, or until close()."""

    def __init__(self, listener: Listener[Any], make: Callable[[], asyncio.BaseProtocol]) -> None:
        self.listener = listener
        self._make = make
        self._transports: set[NWTransport] = set()
        self._task = asyncio.get_running_loop().create_task(self._accept(), name="nw server")

    async def _accept(self) -> None:
        while True:
            try:
                stream = await self.listener.accept()
            except anyio.ClosedResourceError:
                return
            NWTransport(stream, self._make())

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.listener.port

    def is_serving(self) -> bool:
        return not self._task.done()

    def close(self) -> None:
        """Take no more connections; those that there are go on."""
        self.listener.abort()
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Until it takes no more."""
        await asyncio.wait((self._task,))

    async def serve_forever(self) -> None:
        """Until cancelled, which closes it."""
        try:
            await asyncio.shield(self._task)
        finally:
            self.close()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()


async def start_server(
    client_connected_cb: Callable[
        [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None
    ],
    local: EndpointLike, proto: ProtocolOptions = _TCP, *, stack: Stack | None = None,
    parameters: Parameters = _PARAMETERS, backlog: int = 1024, limit: int = LIMIT,
) -> Server:  # fmt: skip
    """Listen on *local*; *client_connected_cb* gets a reader and a writer of each connection."""
    stack = current_stack() if stack is None else stack
    loop = asyncio.get_running_loop()
    listener = stack.listen(proto, local=local, parameters=parameters, backlog=backlog)
    listener.start()

    def make() -> asyncio.BaseProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        callback: Any = client_connected_cb
        return asyncio.StreamReaderProtocol(reader, callback, loop=loop)

    return Server(listener, make)
