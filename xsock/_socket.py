"""The socket class: a subclass of the standard one whose sockets live on a Stack.

Where a socket stands is in three slots:

- ``_xs_h``: its handle. None: the socket is closed, or belongs to the kernel
  and every method is the standard one.
- ``_xs_so``: the handle again, while data goes straight to the stack. None:
  ask ``_xs_px``, and without that the standard method.
- ``_xs_px``: the stand-in descriptor (see _proxy.py), made by fileno().

A method that moves data is one Python frame and one call into C, which waits
without the GIL. A call ended by a signal is made again with what is left of its
time once the handlers have run. Locals that hold a handle are let go
before an exception leaves, for a traceback must not keep a socket open.
"""

# The standard class is called unbound, and its private methods are part of the contract;
# typeshed has neither.
# mypy: disable-error-code="no-any-return,misc,attr-defined"

from __future__ import annotations

import _socket
import io
import os
import socket as _stdlib
import sys
from _warnings import warn
from time import monotonic_ns as clock

from bsdcore._ffi import ffi, lib
from xsock import _message, _options, _proxy
from xsock._errors import EAGAIN, EINPROGRESS, EINTR, oserror, retry, throw
from xsock._slots import SLOT_SIZE, exiting, free, new_slot, owned

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["open_on", "socket"]

AF_INET: Final = 2
AF_INET6: Final = 10
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
TYPE_BITS: Final = _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
MSG_DONTWAIT: Final = 0x40
MSG_OOB: Final = 1
POLLOUT: Final = 4
ETIMEDOUT_EX: Final = 11  # what connect_ex() answers when its time has run out
# A burst of connections comes up in one go, before the program can run to accept any; the
# short queues that programs ask for (socketserver: 5) would drop most of it.
BACKLOG_MIN: Final = 128
INT_MAX: Final = 2**31 - 1
NULL: Final = ffi.NULL
# Protocols that the stack serves; others are the kernel's.
OURS: Final = frozenset({(SOCK_STREAM, 0), (SOCK_STREAM, 6), (SOCK_DGRAM, 0), (SOCK_DGRAM, 17)})
FAMILIES: Final = {AF_INET: _stdlib.AF_INET, AF_INET6: _stdlib.AF_INET6}
KINDS: Final = {SOCK_STREAM: _stdlib.SOCK_STREAM, SOCK_DGRAM: _stdlib.SOCK_DGRAM}

_gc = ffi.gc
_buffer = ffi.from_buffer
_accept = lib.bsd_accept
_close = lib.bsd_close
_recv = lib.bsd_recv
_send = lib.bsd_send
_sendall = lib.bsd_sendall
_new_socket = lib.bsd_socket
_default_timeout = _socket.getdefaulttimeout
_take, _give = free.pop, free.append
_base: Any = _socket.socket
_audit = sys.audit

# Set by _wiring: answers the Host that new sockets belong to.
default_host: Any = None
# Set by nw._voucher when the first voucher is adopted: answers the one that holds here, and
# makes a socket's sends go under it.
voucher: Any = None
vouch: Any = None
# Options by which a program chooses a socket's class: IP_TOS, IPV6_TCLASS, SO_PRIORITY,
# SO_TRAFFIC_CLASS and SO_NET_SERVICE_TYPE.
CLASS_OPTIONS: Final = frozenset({(0, 1), (41, 67), (1, 12), (1, 0x1086), (1, 0x1116)})


def readable(data: Any) -> Any:
    """The bytes of any buffer, for C to read. TypeError as the standard words it."""
    if isinstance(data, str):
        raise TypeError("a bytes-like object is required, not 'str'")
    try:
        return _buffer(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not {type(data).__name__!r}") from None


def writable(data: Any, size: int, name: str) -> tuple[Any, int]:
    """A buffer for C to fill, and how much of it to use."""
    try:
        view = _buffer("char[]", data, True)
    except TypeError:
        raise TypeError(
            f"{name}() argument 1 must be read-write bytes-like object, not {type(data).__name__}"
        ) from None
    if size < 0:
        raise ValueError(f"negative buffersize in {name}")
    if size > len(view):
        raise ValueError("nbytes is greater than the length of the buffer")
    return view, size or len(view)


class socket(_stdlib.socket):
    """A drop-in for :class:`socket.socket`: TCP and UDP on the stack, the rest on the kernel.

    *fileno* adopts a descriptor: one of ours, or any of the kernel's.
    """

    __slots__ = (
        "_xs_chosen", "_xs_dialled", "_xs_family", "_xs_h", "_xs_host", "_xs_kind", "_xs_port",
        "_xs_proto", "_xs_px", "_xs_so", "_xs_tmo", "_xs_to", "_xs_voucher",
    )  # fmt: skip
    _xs_chosen: bool  # the program chose its class; unset until somebody asks
    _xs_dialled: bool  # a connection was begun, or came in
    _xs_family: Any  # None: the kernel's, and so for what follows
    _xs_h: Any
    _xs_host: Any
    _xs_kind: int
    _xs_port: Any  # what _host.claim() answered
    _xs_proto: int
    _xs_px: Any
    _xs_so: Any
    _xs_tmo: int  # nanoseconds; negative for ever
    _xs_to: dict[Any, Any]  # the host's cache of destinations
    _xs_voucher: Any  # the one that what is sent next is tagged with

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None
    ) -> None:
        self._xs_h = self._xs_so = self._xs_px = self._xs_port = self._xs_family = None
        self._xs_voucher = None
        if fileno is None:
            if family == -1:
                family = AF_INET
            if type == -1:
                type = SOCK_STREAM
            if proto == -1:
                proto = 0
            if family in FAMILIES:
                kind = type & ~TYPE_BITS
                if (kind, proto) in OURS:
                    _audit("socket.__new__", self, family, type, proto)
                    self._xs_open(default_host(), family, kind, proto)
                    if type & _socket.SOCK_NONBLOCK:
                        self._xs_tmo = 0
                    return
        elif fileno.__class__ is _proxy.Donation:
            fileno.give(self)
            self._io_refs = 0
            self._closed = False
            return
        super().__init__(family, type, proto, fileno)
        if fileno is not None and _proxy.exposed:
            _proxy.adopt(self, fileno, family, type)

    def _xs_open(self, host: Any, family: int, kind: int, proto: int) -> None:
        """Become a new socket of *host*."""
        try:
            slot = _take()
        except IndexError:
            slot = new_slot()
        result = _new_socket(host.cdata, family, kind, proto, slot.out)
        if result < 0:
            _give(slot)
            throw(result)
        self._xs_h = self._xs_so = owned[id(self)] = _gc(slot.out[0], _close)
        _give(slot)
        self._xs_host = host
        self._xs_family = family
        self._xs_kind = kind
        self._xs_proto = proto
        self._xs_to = host.to[family]
        self._xs_dialled = False
        timeout = _default_timeout()
        self._xs_tmo = -1 if timeout is None else int(timeout * 1e9)
        self._io_refs = 0
        self._closed = False

    def __del__(self, _warn: Any = warn, _exiting: list[bool] = exiting) -> None:
        try:
            if self._xs_h is None:
                super().__del__()
                return
        except AttributeError:
            return
        if _exiting:
            return
        _warn(f"unclosed {self!r}", ResourceWarning, 2, self)
        self._real_close()

    def __repr__(self) -> str:
        if self._xs_h is None:
            return super().__repr__()
        text = (
            f"<{self.__class__.__module__}.{self.__class__.__qualname__}"
            f"{' [closed]' if self._closed else ''} fd={_base.fileno(self)}, "
            f"family={self.family}, type={self.type}, proto={self.proto}"
        )
        if not self._closed:
            for label, ask in (("laddr", self.getsockname), ("raddr", self.getpeername)):
                try:
                    text += f", {label}={ask()}"
                except OSError:
                    continue
        return text + ">"

    # ---- what it is ----

    @property
    def family(self) -> Any:
        """The address family, an AddressFamily."""
        family = self._xs_family
        return super().family if family is None else FAMILIES[family]

    @property
    def type(self) -> Any:
        """The socket type, a SocketKind."""
        return super().type if self._xs_family is None else KINDS[self._xs_kind]

    @property
    def proto(self) -> int:
        """The protocol as it was given."""
        return super().proto if self._xs_family is None else self._xs_proto

    @property
    def timeout(self) -> float | None:
        """The timeout in seconds; None waits for ever."""
        return self.gettimeout()

    def gettimeout(self) -> float | None:
        """The timeout in seconds; None waits for ever, 0.0 never waits."""
        if self._xs_family is None:
            return super().gettimeout()
        return None if self._xs_tmo < 0 else self._xs_tmo / 1e9

    def settimeout(self, value: float | None, /) -> None:
        """Seconds that a call may wait; None for ever, 0 not at all."""
        if self._xs_h is None:
            return super().settimeout(value)
        self._xs_tmo = _options.nanoseconds(value)
        if self._xs_px is not None:
            super().settimeout(value)

    def setblocking(self, flag: bool, /) -> None:
        """True: wait for ever; False: never wait."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """False if the timeout is 0."""
        return super().getblocking() if self._xs_family is None else self._xs_tmo != 0

    def fileno(self) -> int:
        """A descriptor that polls as the socket does; made now if it was not before."""
        if self._xs_h is not None and self._xs_px is None:
            _proxy.expose(self)
        return super().fileno()

    # ---- its life ----

    def _real_close(
        self, _ss: Any = _base, _none: None = None, _owned: dict[int, Any] = owned
    ) -> None:
        # Runs during interpreter shutdown too, hence the names bound above.
        host_port = self._xs_port
        if host_port is not _none:
            self._xs_port = _none
            self._xs_host.release(host_port)
        _owned.pop(id(self), _none)
        if self._xs_h is not _none and self._xs_px is _none:
            self._xs_h = self._xs_so = _none
            return
        # The descriptor goes before the handle: the relay then sends what is in the pair.
        _ss.close(self)
        self._xs_h = self._xs_so = self._xs_px = _none

    def detach(self) -> int:
        """Give the descriptor away: it carries the connection from now on."""
        if self._xs_h is None:
            return super().detach()
        self.fileno()
        proxy = self._xs_px
        if proxy is not None:
            proxy.keep()
        fd = super().detach()
        owned.pop(id(self), None)
        self._xs_h = self._xs_so = self._xs_px = None
        return fd

    def bind(self, address: Any, /) -> None:
        """Name the near end."""
        h = self._xs_h
        if h is None:
            return super().bind(address)
        _audit("socket.bind", self, address)
        addr = self._xs_host.local("bind", self._xs_family, address)
        result = lib.bsd_bind(h, addr)
        if result < 0:
            h = None
            throw(result)
        if self._xs_kind == SOCK_DGRAM and self._xs_port is None:
            self._xs_port = self._xs_host.claim(SOCK_DGRAM, h)

    def listen(self, backlog: int = 128, /) -> None:
        """Take connections; at most *backlog* wait to be accepted."""
        h = self._xs_h
        if h is None:
            return super().listen(backlog)
        if backlog > INT_MAX:
            raise OverflowError("Python int too large to convert to C int")
        if self._xs_px is not None:
            _proxy.check(self)
        result = lib.bsd_listen(h, max(backlog, BACKLOG_MIN))
        if result < 0:
            h = None
            throw(result)
        if self._xs_port is None:
            self._xs_port = self._xs_host.claim(SOCK_STREAM, h)
        if self._xs_px is not None:
            _proxy.to_listener(self)

    def accept(self) -> tuple[Any, Any]:
        """The next connection, a socket, and its peer's address."""
        h = self._xs_h
        if h is None:
            return super().accept()
        tmo = self._xs_tmo
        end = clock() + tmo if tmo > 0 else 0
        try:
            slot = _take()
        except IndexError:
            slot = new_slot()
        while True:
            result = _accept(h, tmo, slot.out, slot.addr)
            if result >= 0:
                break
            h = None
            if result != EINTR:
                _give(slot)
                if self._xs_px is not None:
                    self._xs_px.settle(self)
            tmo = retry(result, end)
            h = self._xs_h
            if h is None:
                throw(-9)
        sock = _base.__new__(socket)
        sock._xs_h = sock._xs_so = owned[id(sock)] = _gc(slot.out[0], _close)
        key = slot.addr_bytes[:]
        _give(slot)
        host = sock._xs_host = self._xs_host
        sock._xs_family = self._xs_family
        sock._xs_kind = SOCK_STREAM
        sock._xs_proto = self._xs_proto
        sock._xs_to = self._xs_to
        sock._xs_px = sock._xs_port = sock._xs_voucher = None
        sock._xs_dialled = True
        sock._io_refs = 0
        sock._closed = False
        timeout = _default_timeout()
        sock._xs_tmo = -1 if timeout is None else int(timeout * 1e9)
        if self._xs_px is not None:
            self._xs_px.settle(self)
        return sock, host.names.get(key) or host.name(key)

    def _accept(self) -> tuple[int, Any]:
        if self._xs_h is None:
            return super()._accept()
        sock, peer = self.accept()
        return sock.detach(), peer

    def connect(self, address: Any, /) -> None:
        """Connect to *address*; a host name is resolved first."""
        if self._xs_h is None:
            return super().connect(address)
        code = self._xs_connect(address)
        if code == ETIMEDOUT_EX and self._xs_tmo > 0:
            raise TimeoutError("timed out")
        if code:
            raise oserror(code)

    def connect_ex(self, address: Any, /) -> int:
        """As connect(), answering the errno instead of raising; names may still raise."""
        if self._xs_h is None:
            return super().connect_ex(address)
        return self._xs_connect(address)

    def _xs_connect(self, address: Any) -> int:
        _audit("socket.connect", self, address)
        if voucher is not None and (held := voucher()) is not self._xs_voucher:
            vouch(self, held)
        try:
            addr = self._xs_to.get(address)
        except TypeError:
            addr = None
        if addr is None:
            addr = self._xs_host.remote("connect", self._xs_family, self._xs_kind, address)
        tmo = self._xs_tmo
        end = clock() + tmo if tmo > 0 else 0
        result = lib.bsd_connect(self._xs_h, addr, tmo)
        if result in (0, EINPROGRESS, EAGAIN, EINTR):
            self._xs_dialled = True
            if self._xs_px is not None:
                self._xs_px.connecting(self)
            if self._xs_kind == SOCK_DGRAM and self._xs_port is None:
                self._xs_port = self._xs_host.claim(SOCK_DGRAM, self._xs_h, False)
        while result == EINTR:
            # The connecting goes on by itself; wait for its end.
            result = lib.bsd_wait(self._xs_h, POLLOUT, retry(EINTR, end))
            if result > 0:
                return _options.pending_error(self._xs_h)
            if result == 0:
                return ETIMEDOUT_EX
        return -int(result)

    def shutdown(self, how: int, /) -> None:
        """Close one direction or both."""
        if self._xs_h is None:
            return super().shutdown(how)
        if self._xs_so is None and self._xs_px is not None:
            return self._xs_px.shutdown(self, how)
        result = lib.bsd_shutdown(self._xs_h, how)
        if result < 0:
            throw(result)

    # ---- names and options ----

    def getsockname(self) -> Any:
        """The near address."""
        if self._xs_h is None:
            return self._xs_inherited("near") or super().getsockname()
        return self._xs_name(lib.bsd_getsockname)

    def getpeername(self) -> Any:
        """The far address; OSError ENOTCONN if there is none."""
        if self._xs_h is None:
            return self._xs_inherited("far") or super().getpeername()
        return self._xs_name(lib.bsd_getpeername)

    def _xs_inherited(self, which: str) -> Any:
        return None if self._xs_px is None else getattr(self._xs_px, which)

    def _xs_name(self, call: Any) -> Any:
        try:
            slot = _take()
        except IndexError:
            slot = new_slot()
        result = call(self._xs_h, slot.addr)
        key = slot.addr_bytes[:]
        _give(slot)
        if result < 0:
            throw(result)
        return self._xs_host.names.get(key) or self._xs_host.name(key)

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        """An option: an integer, or *buflen* bytes of it."""
        if self._xs_h is None:
            return super().getsockopt(level, optname, buflen)
        return _options.get(self._xs_h, level, optname, buflen)

    def setsockopt(self, level: int, optname: int, *value: Any) -> None:
        """Set an option to an integer, to bytes, or to None with a length."""
        if self._xs_h is None:
            if self._xs_px is not None:
                return self._xs_px.setsockopt(self, level, optname, *value)
            return super().setsockopt(level, optname, *value)
        _options.set(self._xs_h, level, optname, *value)
        if (level, optname) in CLASS_OPTIONS:
            self._xs_chosen = True
            if self._xs_voucher is not None:
                vouch(self, self._xs_voucher)
        if self._xs_px is not None:
            self._xs_px.sized(self, level, optname, *value)

    # ---- data ----

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Up to *bufsize* bytes; ``b""`` at the end of the stream."""
        so = self._xs_so
        if so is None:
            proxy = self._xs_px
            return (
                _base.recv(self, bufsize, flags)
                if proxy is None
                else (proxy.recv(self, bufsize, flags))
            )
        tmo, end = self._xs_tmo, 0
        if tmo > 0:
            end, flags = clock() + tmo, flags & ~MSG_DONTWAIT
        if not 0 < bufsize <= SLOT_SIZE:
            so = None
            return _message.recv_unusual(self, bufsize, flags)
        try:
            slot = _take()
        except IndexError:
            slot = new_slot()
        n = _recv(so, slot[0], bufsize, flags, NULL, tmo)
        while n < 0:
            so = None
            if n != EINTR:
                _give(slot)
            tmo = retry(n, end)
            so = self._xs_so
            if so is None:
                return self.recv(bufsize, flags)
            n = _recv(so, slot[0], bufsize, flags, NULL, tmo)
        data: bytes = slot[1][: n if n < bufsize else bufsize]
        _give(slot)
        return data

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """As recv(), with the sender's address; None for a stream."""
        so = self._xs_so
        if so is None:
            proxy = self._xs_px
            return (
                _base.recvfrom(self, bufsize, flags)
                if proxy is None
                else (proxy.recvfrom(self, bufsize, flags))
            )
        tmo, end = self._xs_tmo, 0
        if tmo > 0:
            end, flags = clock() + tmo, flags & ~MSG_DONTWAIT
        if not 0 <= bufsize <= SLOT_SIZE:
            so = None
            return _message.recvfrom_unusual(self, bufsize, flags)
        try:
            slot = _take()
        except IndexError:
            slot = new_slot()
        n = _recv(so, slot[0], bufsize, flags, slot[2], tmo)
        while n < 0:
            so = None
            if n != EINTR:
                _give(slot)
            tmo = retry(n, end)
            so = self._xs_so
            if so is None:
                return self.recvfrom(bufsize, flags)
            n = _recv(so, slot[0], bufsize, flags, slot[2], tmo)
        data = slot[1][: n if n < bufsize else bufsize]
        key = slot[3][:]
        _give(slot)
        host = self._xs_host
        if self._xs_kind == 1:
            return data, None
        return data, host.names.get(key) or host.name(key)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As recv(), into *buffer*; answers how many bytes."""
        so = self._xs_so
        if so is None:
            proxy = self._xs_px
            return (
                _base.recv_into(self, buffer, nbytes, flags)
                if proxy is None
                else (proxy.recv_into(self, buffer, nbytes, flags))
            )
        view, size = writable(buffer, nbytes, "recv_into")
        if size == 0:
            return 0
        tmo, end = self._xs_tmo, 0
        if tmo > 0:
            end, flags = clock() + tmo, flags & ~MSG_DONTWAIT
        n: int = _recv(so, view, size, flags, NULL, tmo)
        while n < 0:
            so = None
            if n != EINTR:
                view = None
            tmo = retry(n, end)
            so = self._xs_so
            if so is None:
                return self.recv_into(buffer, nbytes, flags)
            n = _recv(so, view, size, flags, NULL, tmo)
        return n

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As recvfrom(), into *buffer*."""
        if self._xs_h is None:
            return super().recvfrom_into(buffer, nbytes, flags)
        view, size = writable(buffer, nbytes, "recvfrom_into")
        data, peer = self.recvfrom(size, flags)
        ffi.memmove(view, data, len(data))
        return len(data), peer

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send *data*; answers how much of it was taken."""
        if voucher is not None and (held := voucher()) is not self._xs_voucher:
            vouch(self, held)
        so = self._xs_so
        if so is None:
            proxy = self._xs_px
            return (
                _base.send(self, data, flags) if proxy is None else (proxy.send(self, data, flags))
            )
        view = data if data.__class__ is bytes else readable(data)
        size = len(view)
        tmo, end = self._xs_tmo, 0
        if tmo > 0:
            end, flags = clock() + tmo, flags & ~MSG_DONTWAIT
        n: int = _send(so, view, size, flags, NULL, tmo)
        while n < 0:
            so = None
            if n != EINTR:
                view = None
            tmo = retry(n, end)
            so = self._xs_so
            if so is None:
                return self.send(data, flags)
            n = _send(so, view, size, flags, NULL, tmo)
        return n

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of *data*, within one timeout."""
        if voucher is not None and (held := voucher()) is not self._xs_voucher:
            vouch(self, held)
        so = self._xs_so
        if so is None:
            proxy = self._xs_px
            return (
                _base.sendall(self, data, flags)
                if proxy is None
                else (proxy.sendall(self, data, flags))
            )
        view = data if data.__class__ is bytes else readable(data)
        size = len(view)
        tmo = self._xs_tmo
        end = clock() + tmo if tmo > 0 else 0
        try:
            slot = _take()
        except IndexError:
            slot = new_slot()
        n = _sendall(so, view, size, flags, tmo, slot[5])
        done = slot[5][0]
        _give(slot)
        if n < 0:
            so = view = None
            tmo = retry(n, end)
            return _message.sendall_rest(self, data, flags, done, end)

    def sendto(self, *args: Any) -> int:
        """sendto(data[, flags], address): send one datagram."""
        if len(args) == 2:
            data, address = args
            flags = 0
        elif len(args) == 3:
            data, flags, address = args
        else:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args)} given)")
        if voucher is not None and (held := voucher()) is not self._xs_voucher:
            vouch(self, held)
        so = self._xs_so
        if so is None:
            proxy = self._xs_px
            if proxy is None:
                return _base.sendto(self, *args)
            so = self._xs_h
        view = data if data.__class__ is bytes else readable(data)
        try:
            to = self._xs_to.get(address)
        except TypeError:
            to = None
        if to is None:
            flags = _options.index(flags)
            to = self._xs_host.remote("sendto", self._xs_family, self._xs_kind, address)
        _audit("socket.sendto", self, address)
        tmo, end = self._xs_tmo, 0
        if tmo > 0:
            end, flags = clock() + tmo, flags & ~MSG_DONTWAIT
        n: int = _send(so, view, len(view), flags, to, tmo)
        while n < 0:
            so = None
            if n != EINTR:
                view = None
            tmo = retry(n, end)
            so = self._xs_h
            if so is None:
                throw(-9)
            n = _send(so, view, len(view), flags, to, tmo)
        if self._xs_port is None:
            # It has a port of its own only now.
            self._xs_port = self._xs_host.claim(self._xs_kind, so, False)
        return n

    def sendmsg(self, *args: Any) -> int:
        """sendmsg(buffers[, ancdata[, flags[, address]]]): gather and send."""
        if self._xs_h is None:
            return super().sendmsg(*args)
        if voucher is not None and (held := voucher()) is not self._xs_voucher:
            vouch(self, held)
        return _message.sendmsg(self, *args)

    def recvmsg(self, *args: Any) -> Any:
        """recvmsg(bufsize[, ancbufsize[, flags]]): data, control messages, flags, address."""
        if self._xs_h is None:
            return super().recvmsg(*args)
        return _message.recvmsg(self, *args)

    def recvmsg_into(self, *args: Any) -> Any:
        """recvmsg_into(buffers[, ancbufsize[, flags]]): the same, into buffers."""
        if self._xs_h is None:
            return super().recvmsg_into(*args)
        return _message.recvmsg_into(self, *args)

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: Any = None) -> Any:
        # os.sendfile() would go through a descriptor that the socket may not need.
        if self._xs_h is None:
            return super()._sendfile_use_sendfile(file, offset, count)
        self._check_sendfile_params(file, offset, count)
        try:
            os.fstat(file.fileno())
        except (AttributeError, OSError, io.UnsupportedOperation) as error:
            raise _stdlib._GiveupOnSendfile(error) from error
        return self._sendfile_use_send(file, offset, count)


def open_on(host: Any, family: int, kind: int, proto: int) -> socket:
    """A new socket of *host*, whatever the process's default is."""
    sock = _base.__new__(socket)
    sock._xs_h = sock._xs_so = sock._xs_px = sock._xs_port = sock._xs_voucher = None
    sock._xs_open(host, family, kind, proto)
    return sock


# Programs compare and print this name, and pickle the class by it.
socket.__module__ = "socket"
