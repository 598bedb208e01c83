"""TLS over any byte stream: OpenSSL between two memory buffers, client and server.

Ciphertext is read in large pieces and decrypted record by record; short records that came
together are given out together, long ones as they are. Plain text is encrypted in pieces
of PIECE bytes, each of which goes down in one send. Either way a payload byte is copied
once more than without TLS, by OpenSSL's buffer.

One task may receive and another send. Whoever needs ciphertext reads it for both; the
outbox keeps what was encrypted in order, whoever of them sends it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.tls import TLSAttribute

from xsock.nw._errors import Category, ConnectionBroken, HandshakeError
from xsock.nw._options import TLS, PeerInfo
from xsock.nw._outbox import Buffer, Outbox

__all__ = ["TLSConnection"]

READ: Final = 64 * 1024  # bytes of ciphertext asked for at once
RECORD: Final = 16 * 1024  # bytes of plain text in a record at most, RFC 8446 5.1
LARGE: Final = RECORD // 2  # bytes of a record from which on it is not joined with others
PIECE: Final = 256 * 1024  # bytes encrypted before they are sent: a wake-up less for each
TURN_OPS: Final = 32  # operations that need not wait, between two checkpoints
CLOSE_TIMEOUT: Final = 5.0  # seconds to wait for the peer's close_notify
FAREWELL_MAX: Final = 1024 * 1024  # bytes dropped while waiting for it


@lru_cache(maxsize=16)
def _default_context(server_side: bool, names_peer: bool, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """Made once for each: reading the system's roots takes milliseconds."""
    purpose = ssl.Purpose.CLIENT_AUTH if server_side else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose)
    context.check_hostname = names_peer and not server_side
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def _context_of(options: TLS, server_side: bool, hostname: str | None) -> ssl.SSLContext:
    if options.context is None:
        if server_side:
            raise ValueError("TLS: a server needs a context, with its certificate")
        return _default_context(server_side, bool(hostname), options.alpn)
    if options.alpn:
        options.context.set_alpn_protocols(options.alpn)
    return options.context


class TLSConnection(anyio.abc.ByteStream):
    """A byte stream inside TLS over *stream*, which belongs to it; made by wrap()."""

    def __init__(
        self, stream: anyio.abc.ByteStream, context: ssl.SSLContext, *, server_side: bool,
        hostname: str | None, standard_compatible: bool, close_timeout: float,
    ) -> None:  # fmt: skip
        self.stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side,
            server_hostname=None if server_side else hostname or None,
        )  # fmt: skip
        self._read = self._object.read
        self._outbox = Outbox(stream)
        if self._outbox.can_try:
            self.try_send = self._try_send
            self.wait_send_capacity = self._wait_send_capacity
        self._standard_compatible = standard_compatible
        self._close_timeout = close_timeout
        self._is_reading = False
        self._writing = anyio.ResourceGuard("writing to")
        self._plain: bytes = b""  # decrypted and not yet received
        self._ops = 0
        self._is_dry = False  # no whole record is here, and none came since that was seen
        self._is_filling = False  # somebody reads ciphertext
        self._filled: anyio.Event | None = None  # for who waits until that is over
        self._at_eof = False  # the peer said close_notify
        self._has_said_bye = False
        self._is_closed = False
        self._error: BaseException | None = None

    @classmethod
    async def wrap(
        cls, stream: anyio.abc.ByteStream, options: TLS | None = None, *,
        server_side: bool = False, hostname: str | None = None,
        close_timeout: float = CLOSE_TIMEOUT,
    ) -> TLSConnection:  # fmt: skip
        """Shake hands over *stream*. HandshakeError if that fails; *stream* is closed then.

        *hostname* is the peer's, unless the options name one; they need not say what is
        below. ALPN names are set on the context.
        """
        try:
            options = TLS() if options is None else options
            name = hostname if options.server_hostname is None else options.server_hostname
            made = cls(
                stream, _context_of(options, server_side, name), server_side=server_side,
                hostname=name, standard_compatible=options.standard_compatible,
                close_timeout=close_timeout,
            )  # fmt: skip
            await made._handshake()
            if options.verify is not None and not await options.verify(made._peer()):
                raise HandshakeError(message="verify refused the peer")
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
        return made

    def _peer(self) -> PeerInfo:
        tls = self._object
        return PeerInfo(
            tls.getpeercert(True), tls.server_hostname, tls.version(), tls.selected_alpn_protocol()
        )

    async def _handshake(self) -> None:
        try:
            await self._run(self._object.do_handshake)
            await self._flush()
        except ssl.SSLError as error:
            code = getattr(error, "verify_code", 0) or error.errno or 0
            why = getattr(error, "verify_message", "") or error.reason or str(error)
            raise HandshakeError(code, f"TLS handshake: {why}") from error
        except anyio.EndOfStream:
            raise HandshakeError(message="TLS handshake: the peer ended") from None
        except (OSError, anyio.BrokenResourceError) as error:
            raise HandshakeError(message=f"TLS handshake: {error}") from error

    # ---- the two buffers ----

    def _collect(self) -> None:
        if self._outgoing.pending:
            self._outbox.put(self._outgoing.read())

    async def _flush(self) -> None:
        self._collect()
        if self._outbox.size:
            await self._outbox.flush()

    async def _fill(self) -> None:
        """Until there is more ciphertext; EndOfStream if there is none any more."""
        if self._is_filling:
            if self._filled is None:
                self._filled = anyio.Event()
            await self._filled.wait()
            return
        self._is_filling = True
        try:
            self._incoming.write(await self.stream.receive(READ))
            self._is_dry = False
        finally:
            self._is_filling = False
            if self._filled is not None:
                self._filled.set()
                self._filled = None

    async def _run(self, step: Callable[..., Any], *args: Any) -> Any:
        """Do *step* until it needs nothing more from the peer."""
        while True:
            try:
                return step(*args)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                await self._flush_alert()
                raise
            await self._flush()
            await self._fill()

    async def _flush_alert(self) -> None:
        """It tells the peer why; nothing waits for it."""
        self._collect()
        try:
            if not self._outbox.flush_nowait():
                with anyio.move_on_after(1):
                    await self._outbox.flush()
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._outbox.forget()

    async def _give_way(self) -> None:
        """What need not wait gives others a turn now and then, and the first time."""
        if not self._ops % TURN_OPS:
            await anyio.lowlevel.checkpoint()
        self._ops += 1

    def _check(self) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        if self._error is not None:
            raise ConnectionBroken(message=f"TLS: {self._error}") from self._error

    # ---- in ----

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Bytes, of several records if they are here. EndOfStream: the peer said close_notify.

        Without standard_compatible an end without it is one, too; otherwise ConnectionBroken.
        """
        if max_bytes < 1:
            raise ValueError("max_bytes must be a positive integer")
        if self._is_reading:
            raise anyio.BusyResourceError("reading from")
        self._ops += 1
        if self._ops % TURN_OPS and not self._is_closed and (data := self._decrypt(max_bytes)):
            return data
        self._is_reading = True
        try:
            return await self._receive(max_bytes)
        finally:
            self._is_reading = False

    async def _receive(self, max_bytes: int) -> bytes:
        """The same when it has to wait, or it is time for others."""
        if self._plain or not self._is_dry:
            await anyio.lowlevel.checkpoint()
        while True:
            if self._is_closed:
                raise anyio.ClosedResourceError
            data = self._decrypt(max_bytes)
            if data:
                return data
            if self._at_eof:
                await anyio.lowlevel.checkpoint()
                raise anyio.EndOfStream
            if self._error is not None:
                await self._flush_alert()
                self._check()
            if self._outgoing.pending or self._outbox.size:
                await self._flush()
            await self._fill_or_end()

    async def _fill_or_end(self) -> None:
        """More ciphertext, or the end of a stream whose peer has not said close_notify."""
        try:
            await self._fill()
        except anyio.EndOfStream:
            if self._standard_compatible:
                self._error = ConnectionBroken(
                    message="the stream was cut: no close_notify",
                    domain="tls", category=Category.SECURITY,
                )  # fmt: skip
            else:
                self._at_eof = True

    def _decrypt(self, max_bytes: int) -> bytes:
        """What is here, of as many records as fit; nothing if a record is not complete."""
        plain = self._plain
        if plain:
            self._plain = plain[max_bytes:]
            return plain[:max_bytes]
        if self._is_dry or self._at_eof or self._error is not None:
            return b""
        parts: list[bytes] = []
        read, pending, room = self._read, self._object.pending, max_bytes
        try:
            while room:
                data = read(room if room < RECORD else RECORD)
                if not data:
                    self._at_eof = True
                    break
                parts.append(data)
                if not self._incoming.pending:
                    self._is_dry = not pending()
                    break
                if len(data) >= LARGE:
                    break
                room -= len(data)
        except ssl.SSLWantReadError:
            self._is_dry = True
        except ssl.SSLZeroReturnError:
            self._at_eof = True
        except ssl.SSLError as error:
            self._error = error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def is_readable(self) -> bool:
        """A receive() would not wait, or only for the rest of a record."""
        here = bool(self._plain) or self._incoming.pending > 0 or self._object.pending() > 0
        return here or self._at_eof or bool(getattr(self.stream, "is_readable", False))

    # ---- out ----

    async def send(self, item: Buffer) -> None:
        """Encrypt and send all of *item*.

        Cancelled in the middle it has sent some of it, as any stream; the connection can go on
        only over a stream that keeps count (see Outbox).
        """
        with self._writing:
            await self._give_way()
            self._check_sendable()
            if len(item) <= PIECE and type(item) is bytes:
                await self._send_piece(item)
                return
            with memoryview(item) as view, view.cast("B") as octets:
                for at in range(0, len(octets), PIECE):
                    with octets[at : at + PIECE] as piece:
                        await self._send_piece(piece)

    async def _send_piece(self, piece: Buffer) -> None:
        try:
            if piece:
                self._object.write(piece)
        except ssl.SSLWantReadError:
            await self._run(self._object.write, piece)  # TLS 1.2 renegotiates
        except ssl.SSLError as error:
            self._error = error
            self._check()
        self._collect()
        await self._outbox.flush()

    def _check_sendable(self) -> None:
        self._check()
        if self._has_said_bye:
            raise anyio.ClosedResourceError

    def _try_send(self, data: Buffer) -> int:
        """Encrypt and queue what fits now; how many bytes of plain text that were."""
        with self._writing:
            self._check_sendable()
            if not self._outbox.flush_nowait():
                return 0
            with memoryview(data) as view, view.cast("B") as octets, octets[:PIECE] as piece:
                size = len(piece)
                if size:
                    self._object.write(piece)
            self._collect()
            self._outbox.flush_nowait()
            return size

    async def _wait_send_capacity(self, count: int = 1) -> None:
        """Until try_send() would take something."""
        with self._writing:
            self._check_sendable()
            await self._flush()
            await self.stream.wait_send_capacity(1)  # type: ignore[attr-defined]

    async def send_eof(self) -> None:
        """Say close_notify; receiving goes on, although a TLS 1.2 peer may end at once."""
        with self._writing:
            await anyio.lowlevel.checkpoint_if_cancelled()
            self._check()
            self._say_bye()
            await self._flush()

    def _say_bye(self) -> None:
        """Put close_notify in the outbox.

        OpenSSL looks for the peer's at once, and data there instead of it would be an
        error; so everything that came before is taken out of its way.
        """
        if self._has_said_bye:
            return
        self._has_said_bye = True
        while self._object.pending():
            self._plain += self._object.read(self._object.pending())
        held = self._incoming.read()
        try:
            self._object.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if not self._at_eof:
                self._error = error
        finally:
            self._incoming.write(held)
            self._is_dry = False
        self._collect()

    async def aclose(self) -> None:
        """Say close_notify, hear the peer's (for some seconds at most), and close.

        Without standard_compatible, or cancelled: close the stream below at once.
        """
        if self._is_closed:
            await anyio.lowlevel.checkpoint()
            return
        self._is_closed = True
        try:
            if self._standard_compatible and self._error is None and not self._outbox.error:
                with anyio.move_on_after(self._close_timeout):
                    self._say_bye()
                    await self._flush()
                    await self._hear_bye()
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._outbox.forget()
        finally:
            self._plain = b""
            await self.stream.aclose()

    async def _hear_bye(self) -> None:
        """Closing with something unread would reset the connection, and with it what was sent."""
        dropped = 0
        while not self._at_eof and self._error is None and dropped < FAREWELL_MAX:
            data = self._decrypt(READ)
            dropped += len(data)
            if not data and not self._at_eof and self._error is None:
                await self._fill()

    # ---- attributes ----

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        tls = self._object
        return {
            **self.stream.extra_attributes,
            TLSAttribute.alpn_protocol: tls.selected_alpn_protocol,
            TLSAttribute.channel_binding_tls_unique: tls.get_channel_binding,
            TLSAttribute.cipher: tls.cipher,
            TLSAttribute.peer_certificate: lambda: tls.getpeercert(False),
            TLSAttribute.peer_certificate_binary: lambda: tls.getpeercert(True),
            TLSAttribute.server_side: lambda: tls.server_side,
            TLSAttribute.shared_ciphers: lambda: tls.shared_ciphers() if tls.server_side else None,
            TLSAttribute.standard_compatible: lambda: self._standard_compatible,
            TLSAttribute.ssl_object: lambda: tls,
            TLSAttribute.tls_version: tls.version,
        }
