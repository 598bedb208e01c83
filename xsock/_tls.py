"""The TLS engine of one socket: OpenSSL between two memory buffers and the stack.

Exactly one record at a time is taken from the socket, never a byte more, so
that what OpenSSL has not asked for keeps the socket readable for pollers, and
plain text that follows unwrap() is not swallowed.

Two threads may use it, one reading and one writing. Three locks: ``_state``
for the SSL object and its buffers, never held while the network is waited
for; ``_sending`` keeps ciphertext in order; ``_filling`` lets one thread wait for a
record on behalf of all. ``_state`` is taken last.
"""

import _ssl
import struct
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from xsock._socket import socket

__all__ = ["Engine"]

HEADER: Final = 5  # bytes of a record's header (RFC 8446 5.1)
RECORD_MAX: Final = 16384 + 2048  # RFC 5246 6.2.3; longer is not TLS
CONTENT_TYPES: Final = range(20, 24)
CHUNK: Final = 65536  # bytes encrypted before they are sent
READ_DEFAULT: Final = 1024
SOL_SOCKET: Final = 1
SO_LINGER: Final = 13
ABORT: Final = struct.pack("ii", 1, 0)
RESETS: Final = (32, 104)  # EPIPE, ECONNRESET
WANTS: Final = {
    _ssl.SSLWantReadError: (_ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)"),
    _ssl.SSLWantWriteError: (_ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)"),
}
DELEGATED: Final = frozenset({
    "cipher", "compression", "context", "get_channel_binding", "get_unverified_chain",
    "get_verified_chain", "getpeercert", "group", "owner", "pending", "selected_alpn_protocol",
    "selected_npn_protocol", "server_hostname", "server_side", "session", "session_reused",
    "shared_ciphers", "verify_client_post_handshake", "version",
})  # fmt: skip


def _want(kind: type[_ssl.SSLError]) -> _ssl.SSLError:
    return kind(*WANTS[kind])


class Engine:
    """What SSLSocket calls ``_sslobj``. Errors are those of the C object."""

    _head: bytes
    _left: int
    _object: Any
    _owed: int
    _records: int
    _unsent: bytes

    def __init__(self, wrap_bio: Callable[[Any, Any], Any], sock: socket) -> None:
        own = self.__dict__
        incoming, outgoing = _ssl.MemoryBIO(), _ssl.MemoryBIO()
        own["_incoming"], own["_outgoing"] = incoming, outgoing
        own["_object"] = wrap_bio(incoming, outgoing)
        own["_socket"] = weakref.ref(sock)
        own["_state"] = threading.RLock()
        own["_sending"] = threading.Lock()
        own["_filling"] = threading.Lock()
        own["_head"] = b""  # of the record that is coming in
        own["_left"] = 0  # bytes of its body still to come
        own["_records"] = 0  # counts deliveries, so that a waiter sees that it was overtaken
        own["_unsent"] = b""
        own["_owed"] = 0  # plain bytes encrypted by a write() that could not send them all

    def __getattr__(self, name: str) -> Any:
        if name in DELEGATED:
            return getattr(self.__dict__["_object"], name)
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in DELEGATED:
            setattr(self._object, name, value)
        else:
            self.__dict__[name] = value

    # ---- what SSLSocket calls ----

    def do_handshake(self) -> None:
        """Until both sides agree, or an SSLError says why not."""
        message = "The handshake operation timed out"
        end = self._deadline()
        self._run(self._object.do_handshake, message, end)
        try:
            self._flush(message, end)
        except OSError as error:
            # OpenSSL forgives a peer that has gone before its session tickets.
            if error.errno not in RESETS:
                raise
            self._forget_output()

    def read(self, size: int = READ_DEFAULT, buffer: Any = None) -> Any:
        """Decrypted bytes, or how many were put into *buffer*."""
        step = self._object.read
        args = (size,) if buffer is None else (size, buffer)
        return self._run(lambda: step(*args), "The read operation timed out", self._deadline())

    def write(self, data: Any) -> int:
        """Encrypt and send; answers how much of *data* was taken.

        As in OpenSSL, after SSLWantWriteError the same call is to be made again.
        """
        message = "The write operation timed out"
        end = self._deadline()
        self._flush(message, end)
        owed, self._owed = self._owed, 0
        if owed:
            return owed
        with memoryview(data) as view, view.cast("B") as octets:
            waits = self._alive().gettimeout() != 0
            total = len(octets) if waits else min(len(octets), CHUNK)
            done = 0
            while True:
                done += self._encrypt(octets[done : min(done + CHUNK, total)], message, end)
                try:
                    self._flush(message, end)
                except _ssl.SSLWantWriteError:
                    self._owed = done
                    raise
                if done >= total:
                    return done

    def _encrypt(self, octets: memoryview, message: str, end: float | None) -> int:
        with octets:
            return int(self._run(lambda: self._object.write(octets), message, end))

    def shutdown(self) -> Any:
        """Say goodbye and hear it back; answers the socket, for plain text again."""
        end = self._deadline()
        self._run(self._object.shutdown, "The read operation timed out", end)
        self._flush("The write operation timed out", end)
        return self._alive()

    def forget_tickets(self) -> None:
        """Before closing: take the session tickets that have come after the handshake.

        A socket closed with something unread resets the connection, and a server would
        see that as a failure although its client had read all there was for it.
        Unread data of the program's still resets it.
        """
        if self._object.version() != "TLSv1.3" or not self._filling.acquire(blocking=False):
            return
        try:
            sock = self._alive()
            sock.settimeout(0)
            left = self._plain_left()
            while left is None:
                self._take("")
                left = self._plain_left()
            if left:
                sock.setsockopt(SOL_SOCKET, SO_LINGER, ABORT)
        except (OSError, ValueError):
            return  # nothing more is there, or the end
        finally:
            self._filling.release()

    def _plain_left(self) -> bool | None:
        """The program has data left to read; False: the stream ended; None: ask the network."""
        with self._state:
            try:
                return self._object.pending() > 0 or bool(self._object.read(1))
            except _ssl.SSLWantReadError:
                return None

    # ---- the loop ----

    def _alive(self) -> socket:
        sock: socket | None = self._socket()
        if sock is None:
            raise _ssl.SSLError("Underlying socket connection gone")
        return sock

    def _deadline(self) -> float | None:
        timeout = self._alive().gettimeout()
        return monotonic() + timeout if timeout else None

    def _run(self, step: Callable[[], Any], message: str, end: float | None) -> Any:
        """Do *step* until it needs nothing more from the network."""
        while True:
            with self._state:
                seen = self._records
                try:
                    return step()
                except _ssl.SSLWantReadError:
                    pass
                except BaseException:
                    # An alert tells the peer why; it goes before we leave.
                    self._flush_quietly(end)
                    raise
            self._flush(message, end, waits=False)
            self._fill(seen, message, end)

    # ---- out ----

    def _forget_output(self) -> None:
        with self._state:
            self._outgoing.read()
        self._unsent = b""

    def _flush_quietly(self, end: float | None) -> None:
        try:
            self._flush("", end)
        except OSError:
            self._forget_output()

    def _flush(self, message: str, end: float | None, waits: bool = True) -> None:
        """Send what is encrypted. Not *waits*: leave it to a thread that is sending already."""
        while self._outgoing.pending or self._unsent:
            if not self._sending.acquire(blocking=waits):
                return
            try:
                self._send_all(message, end)
            finally:
                self._sending.release()

    def _send_all(self, message: str, end: float | None) -> None:
        sock = self._alive()
        while True:
            if not self._unsent:
                with self._state:
                    self._unsent = self._outgoing.read()
                if not self._unsent:
                    return
            data = self._unsent
            try:
                sent = socket.send(sock, data)
            except BlockingIOError:
                raise _want(_ssl.SSLWantWriteError) from None
            except TimeoutError:
                raise TimeoutError(message) from None
            except OSError:
                self._unsent = b""
                raise
            self._unsent = data[sent:] if sent < len(data) else b""
            if self._unsent and end is not None and monotonic() > end:
                raise TimeoutError(message)

    # ---- in ----

    def _fill(self, seen: int, message: str, end: float | None) -> None:
        """Wait for a record, or for another thread to have brought one."""
        with self._filling:
            while self._records == seen:
                if end is not None and monotonic() > end:
                    raise TimeoutError(message)
                self._take(message)

    def _take(self, message: str) -> None:
        """Take the next piece of the current record, and no more, to the SSL object."""
        want = self._left or HEADER - len(self._head)
        try:
            data = socket.recv(self._alive(), want)
        except BlockingIOError:
            raise _want(_ssl.SSLWantWriteError if self._unsent else _ssl.SSLWantReadError) from None
        except TimeoutError:
            raise TimeoutError(message) from None
        with self._state:
            if not data:
                self._incoming.write_eof()
                self._records += 1
                return
            self._incoming.write(data)
            if self._left:
                self._left -= len(data)
                self._records += self._left == 0
                return
            self._head += data
            if len(self._head) == HEADER:
                self._begin(self._head)
                self._head = b""

    def _begin(self, head: bytes) -> None:
        """A header is complete: what follows it?"""
        length = int.from_bytes(head[3:], "big")
        if head[0] in CONTENT_TYPES and head[1] == 3 and 0 < length <= RECORD_MAX:
            self._left = length
        else:
            # Not TLS, or empty: OpenSSL has enough to say what is wrong.
            self._records += 1
