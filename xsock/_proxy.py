"""Stand-in descriptors: what fileno() answers, and how data moves once it has.

A descriptor that pollers, other processes and C code can use is made when
fileno() is first called, and never unmade:

- A stream gets one end of an AF_UNIX pair; the stack serves the other (a
  relay), from the moment the socket connects. Data then goes through the
  pair in both directions, so bytes keep their order whoever reads or writes
  them. Names, options and errors still come from the stack.
- A datagram socket gets a pair of which only readability counts: there
  is one token in it while the stack has something to read. Data goes to the
  stack directly.
- A listener gets a listening AF_UNIX socket, readable while a token connection
  waits in it. Accepting takes from the stack; the token is thrown away.

Descriptors are found again by inode number, so dup(), detach() and
socket(fileno=...) lead back to the same socket of the stack.
"""

# The standard class is called unbound, and its private methods are part of the contract;
# typeshed has neither.
# mypy: disable-error-code="no-any-return,misc,attr-defined"

from __future__ import annotations

import _socket
import os
import select
import threading
import weakref

from bsdcore._ffi import ffi, lib
from xsock._errors import oserror, throw
from xsock._options import pending_error
from xsock._slots import owned

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = [
    "Donation",
    "Proxy",
    "adopt",
    "check",
    "expose",
    "exposed",
    "to_listener",
]

SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
POLLIN: Final = 1
POLLOUT: Final = 4
FILLER: Final = bytes(65536)  # api.h: what it takes
POLLHUP: Final = 16
MSG_OOB: Final = 1
SHUT_RD: Final = 0
ENOTCONN: Final = 107
ECONNRESET: Final = 104
EPIPE: Final = 32
SO_ACCEPTCONN: Final = 30
SOL_SOCKET: Final = 1
SO_SNDBUF: Final = 7
DETACHED_SWEEP: Final = 64  # look for dead ones when there are this many
TAKE_TOKEN: Final = _socket.MSG_DONTWAIT
_base: Any = _socket.socket


class Proxy:
    """The stand-in of one socket; shared by the objects that dup() makes."""

    __slots__ = (
        "__weakref__", "_lock", "end", "facts", "handle", "inode", "is_stream", "names",
    )  # fmt: skip

    def __init__(self, sock: Any, fd: int) -> None:
        self.handle = sock._xs_h
        self.end = -1  # our end of a pair that no relay serves yet
        self.is_stream = sock._xs_kind == SOCK_STREAM
        self.facts = (sock._xs_host, sock._xs_family, sock._xs_kind, sock._xs_proto)
        self.names: tuple[Any, ...] = (None, None)  # near and far, when last written down
        self._lock = threading.Lock()
        self.inode = os.fstat(fd).st_ino
        exposed[self.inode] = self

    # ---- life ----

    def keep(self) -> None:
        """The descriptor outlives the object: remember what it stands for."""
        if len(_detached) >= DETACHED_SWEEP:
            for inode, proxy in list(_detached.items()):
                if lib.bsd_poll(proxy.handle) & POLLHUP:
                    _detached.pop(inode, None)
        _detached[self.inode] = self

    def __del__(self) -> None:
        if self.end >= 0:
            os.close(self.end)

    def connecting(self, sock: Any) -> None:
        """A connect() has begun or is done: data goes through the pair from now on."""
        if self.is_stream and self.end >= 0:
            end, self.end = self.end, -1
            self._fill(sock)
            # Calls that wait on the socket itself are ended by this and made again: they
            # must find that data goes through the pair now.
            sock._xs_so = None
            result = lib.bsd_relay(self.handle, end, lib.BSD_RELAY_PAIR)
            if result < 0:
                throw(result)
        elif not self.is_stream:
            self.settle(sock)

    def _fill(self, sock: Any) -> None:
        """Keep the application's end from polling writable until the socket is connected."""
        if not lib.bsd_poll(self.handle) & POLLOUT:
            try:
                _base.send(sock, FILLER, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return

    def sized(self, sock: Any, level: int, name: int, *value: Any) -> None:
        """After setsockopt(): what the pair holds is also sent and not yet gone."""
        # Not before connecting, when the pair must take the filler.
        if level == SOL_SOCKET and name == SO_SNDBUF and self.is_stream and self.end < 0:
            _base.setsockopt(sock, level, name, *value)

    # ---- tokens ----

    def settle(self, sock: Any) -> None:
        """After taking something from the stack: take the token too, if nothing is left."""
        if self.is_stream and sock._xs_so is None:
            return
        if lib.bsd_poll(self.handle) & POLLIN:
            return
        with self._lock:
            try:
                if self.is_stream:
                    self._take_connection(sock)
                else:
                    _base.recv(sock, 1, TAKE_TOKEN)
            except OSError:
                return
        lib.bsd_token_ack(self.handle)

    @staticmethod
    def _take_connection(sock: Any) -> None:
        poller = select.poll()
        poller.register(_base.fileno(sock), POLLIN)
        if not poller.poll(0):
            raise BlockingIOError
        fd, _ = _base._accept(sock)
        os.close(fd)

    # ---- data of a relayed stream: the pair's, with the stack's errors ----

    def _failed(self, error: OSError) -> OSError:
        if error.errno not in (ECONNRESET, EPIPE):
            return error
        code = pending_error(self.handle)
        return oserror(code) if code else error

    def _check_end(self) -> None:
        """The pair has ended; if that was a failure, raise it."""
        code = pending_error(self.handle)
        if code:
            raise oserror(code)

    def recv(self, sock: Any, size: int, flags: int) -> bytes:
        """recv()."""
        if not self.is_stream:
            return self._datagram(sock, "recv", size, flags)
        if flags & MSG_OOB:
            return self._direct(sock, "recv", size, flags)
        try:
            data: bytes = _base.recv(sock, size, flags)
        except OSError as error:
            raise self._failed(error) from None
        if not data and size:
            self._check_end()
        return data

    def recvfrom(self, sock: Any, size: int, flags: int) -> tuple[bytes, Any]:
        """recvfrom()."""
        if not self.is_stream:
            answer: tuple[bytes, Any] = self._datagram(sock, "recvfrom", size, flags)
            return answer
        return self.recv(sock, size, flags), None

    def recv_into(self, sock: Any, buffer: Any, size: int, flags: int) -> int:
        """recv_into()."""
        if not self.is_stream:
            return int(self._datagram(sock, "recv_into", buffer, size, flags))
        if flags & MSG_OOB:
            return int(self._direct(sock, "recv_into", buffer, size, flags))
        try:
            n: int = _base.recv_into(sock, buffer, size, flags)
        except OSError as error:
            raise self._failed(error) from None
        if not n:
            self._check_end()
        return n

    def send(self, sock: Any, data: Any, flags: int) -> int:
        """send()."""
        if not self.is_stream or flags & MSG_OOB:
            return int(self._direct(sock, "send", data, flags))
        try:
            return _base.send(sock, data, flags)
        except OSError as error:
            raise self._failed(error) from None

    def sendall(self, sock: Any, data: Any, flags: int) -> None:
        """sendall()."""
        if not self.is_stream or flags & MSG_OOB:
            return self._direct(sock, "sendall", data, flags)
        try:
            return _base.sendall(sock, data, flags)
        except OSError as error:
            raise self._failed(error) from None

    def sendmsg(self, sock: Any, views: list[Any], control: bytes, flags: int) -> int:
        """sendmsg() on a stream; control messages mean nothing there."""
        try:
            return _base.sendmsg(sock, [ffi.buffer(view) for view in views], [], flags)
        except OSError as error:
            raise self._failed(error) from None

    def recvmsg(self, sock: Any, views: list[Any], flags: int) -> Any:
        """recvmsg_into() on a stream; the pair's own names must not be seen."""
        try:
            n, _, out, _ = _base.recvmsg_into(sock, [ffi.buffer(view) for view in views], 0, flags)
        except OSError as error:
            raise self._failed(error) from None
        if not n:
            self._check_end()
        return n, [], out, None

    def shutdown(self, sock: Any, how: int) -> None:
        """Half-closes travel through the pair, behind the data."""
        peer = ffi.new("struct bsd_addr *")
        result = lib.bsd_getpeername(self.handle, peer)
        if result < 0:
            throw(result)
        _base.shutdown(sock, how)

    def _direct(self, sock: Any, name: str, *args: Any) -> Any:
        """Call the method as if there were no descriptor."""
        sock._xs_so = self.handle
        try:
            return getattr(sock, name)(*args)
        finally:
            sock._xs_so = None

    def _datagram(self, sock: Any, name: str, *args: Any) -> Any:
        try:
            return self._direct(sock, name, *args)
        finally:
            self.settle(sock)


# By inode number of the application's end.
exposed: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()
_detached: dict[int, Proxy] = {}
_making: Final = threading.Lock()


def _install(sock: Any, fd: int) -> None:
    """Make *fd* the descriptor of the C object, labelled with the family programs expect."""
    _base.__init__(sock, sock._xs_family, sock._xs_kind, sock._xs_proto, fd)
    _base.settimeout(sock, sock.gettimeout())


def expose(sock: Any) -> None:
    """Make the stand-in descriptor of *sock*."""
    with _making:
        if sock._xs_px is not None or sock._xs_h is None:
            return
        if sock._xs_kind == SOCK_DGRAM:
            _expose_datagram(sock)
        elif _is_listening(sock._xs_h):
            _expose_listener(sock)
        else:
            _expose_stream(sock)


def _is_listening(handle: Any) -> bool:
    value, length = ffi.new("int *"), ffi.new("size_t *", 4)
    lib.bsd_getsockopt(handle, SOL_SOCKET, SO_ACCEPTCONN, value, length)
    return bool(value[0])


def _expose_stream(sock: Any) -> None:
    app, ours = _pair(_socket.SOCK_STREAM)
    _install(sock, app)
    proxy = Proxy(sock, app)
    proxy.end = ours
    sock._xs_px = proxy
    if sock._xs_dialled:
        proxy.connecting(sock)


def _expose_datagram(sock: Any) -> None:
    app, ours = _pair(_socket.SOCK_DGRAM)
    _install(sock, app)
    proxy = Proxy(sock, app)
    result = lib.bsd_token(sock._xs_h, lib.BSD_TOKEN_DGRAM, ours, ffi.NULL, 0)
    if result < 0:
        os.close(ours)
        throw(result)
    sock._xs_px = proxy
    sock._xs_so = None


def _expose_listener(sock: Any) -> None:
    fd, name = _listener()
    _install(sock, fd)
    sock._xs_px = Proxy(sock, fd)
    _serve_listener(sock, name)


def to_listener(sock: Any) -> None:
    """listen() on a socket whose descriptor is out already: put a listener behind the number."""
    proxy = sock._xs_px
    if proxy.end < 0:
        return
    fd, name = _listener()
    number = _base.fileno(sock)
    os.dup2(fd, number, inheritable=os.get_inheritable(number))
    os.close(fd)
    _base.settimeout(sock, sock.gettimeout())
    sock._xs_px = Proxy(sock, number)
    _serve_listener(sock, name)


def _serve_listener(sock: Any, name: bytes) -> None:
    result = lib.bsd_token(sock._xs_h, lib.BSD_TOKEN_LISTEN, -1, name[1:], len(name) - 1)
    if result < 0:
        throw(result)


def _pair(kind: int) -> tuple[int, int]:
    """Two descriptors: the application's, and ours, which does not block."""
    app, ours = _socket.socketpair(_socket.AF_UNIX, kind)
    ours.setblocking(False)
    return app.detach(), ours.detach()


def _listener() -> tuple[int, bytes]:
    """A listening AF_UNIX descriptor and the abstract name the kernel chose for it."""
    with_name = _base(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with_name.bind("")
    with_name.listen(1)
    name = with_name.getsockname()
    return with_name.detach(), bytes(name)


def check(sock: Any) -> None:
    """OSError EBADF if somebody has closed the descriptor behind the object's back."""
    os.get_inheritable(_base.fileno(sock))


def adopt(sock: Any, fd: int, wanted_family: int, wanted_kind: int) -> None:
    """*sock* was made from *fd*; if that is one of ours, be that socket.

    Somebody who asks for another family or type than the socket has gets
    the bare descriptor, as the standard class would give it.
    """
    inode = os.fstat(fd).st_ino
    proxy = exposed.get(inode)
    if proxy is None:
        return
    host, family, kind, proto = proxy.facts
    if wanted_family not in (-1, family) or wanted_kind not in (-1, kind):
        return
    _detached.pop(inode, None)
    timeout = _base.gettimeout(sock)
    # Made by family, not by label: the object must say what the program expects.
    number = _base.detach(sock)
    _base.__init__(sock, family, kind, proto, number)
    _base.settimeout(sock, timeout)
    sock._xs_h = owned[id(sock)] = proxy.handle
    sock._xs_px = proxy
    relayed = (proxy.is_stream and proxy.end < 0) and not _is_listening(proxy.handle)
    sock._xs_so = None if relayed or not proxy.is_stream else proxy.handle
    sock._xs_host, sock._xs_family, sock._xs_kind, sock._xs_proto = host, family, kind, proto
    sock._xs_to = host.to[family]
    sock._xs_tmo = -1 if timeout is None else int(timeout * 1e9)
    sock._xs_dialled = relayed


_STATE: Final = (
    "h", "so", "px", "host", "family", "kind", "proto", "port", "to", "tmo", "dialled",
)  # fmt: skip


class Donation(int):
    """A fileno that hands a whole socket to the object made from it, without a descriptor."""

    donor: Any

    def give(self, sock: Any) -> None:
        """Move the donor's state to *sock*; the donor is closed afterwards."""
        donor = self.donor
        for name in _STATE:
            setattr(sock, f"_xs_{name}", getattr(donor, f"_xs_{name}"))
        owned[id(sock)] = sock._xs_h
        owned.pop(id(donor), None)
        if donor._xs_px is not None:
            _base.__init__(
                sock, sock._xs_family, sock._xs_kind, sock._xs_proto, _base.detach(donor)
            )
            _base.settimeout(sock, sock.gettimeout())
        donor._xs_h = donor._xs_so = donor._xs_px = donor._xs_port = None
        donor._closed = True
