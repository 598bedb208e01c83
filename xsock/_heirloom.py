"""Connections in a process whose stack does not serve them: after fork(), and after pickling.

The bytes of a connection go through an AF_UNIX pair whose other end the
stack of the other process serves, so the descriptor is all that is needed.
"""

# The standard class is called unbound, and typeshed does not say what it has.
# mypy: disable-error-code="no-any-return,misc,attr-defined"

from __future__ import annotations

import _socket

from xsock import _proxy
from xsock._slots import owned

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

__all__ = ["Heirloom", "bequeath", "inherit"]

SOCK_STREAM: Final = 1
SOL_SOCKET: Final = 1
_base: Any = _socket.socket


class Heirloom:
    """The descriptor of a stream that another process's stack serves, after fork() or pickling.

    Bytes go through it as they are. The names are those it had, and options
    of TCP, which nobody here could set, are accepted and forgotten.
    """

    is_stream: Final = True
    __slots__ = ("far", "near")

    def __init__(self, near: Any, far: Any) -> None:
        self.near = near
        self.far = far

    recv = staticmethod(_base.recv)
    recv_into = staticmethod(_base.recv_into)
    send = staticmethod(_base.send)
    sendall = staticmethod(_base.sendall)
    shutdown = staticmethod(_base.shutdown)

    def recvfrom(self, sock: Any, size: int, flags: int) -> tuple[bytes, Any]:
        """recvfrom(); a stream names nobody."""
        return _base.recv(sock, size, flags), None

    def setsockopt(self, sock: Any, level: int, *rest: Any) -> None:
        """Options of the socket level are the descriptor's own."""
        if level == SOL_SOCKET:
            _base.setsockopt(sock, level, *rest)


def inherit(sock: Any) -> None:
    """In a forked child: a socket that has a relayed descriptor lives on through it."""
    proxy = sock._xs_px
    if proxy is None or not proxy.is_stream or proxy.end >= 0 or sock._xs_so is not None:
        return
    sock._xs_px = Heirloom(*proxy.names)
    sock._xs_h = None
    owned.pop(id(sock), None)


def bequeath(sock: Any) -> None:
    """Before fork(): make sure that a connection can live on in the child."""
    if sock._xs_h is None or sock._xs_kind != SOCK_STREAM or not sock._xs_dialled:
        return
    if sock._xs_px is None:
        _proxy.expose(sock)
    proxy = sock._xs_px
    if proxy is None:  # another thread is closing it
        return
    names = []
    for ask in (sock.getsockname, sock.getpeername):
        try:
            names.append(ask())
        except OSError:
            names.append(None)
    proxy.names = tuple(names)
