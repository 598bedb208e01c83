"""Pickling sockets through multiprocessing: the descriptor goes, as for any socket.

The other process has a descriptor whose other end this process's stack serves.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from xsock._heirloom import Heirloom
from xsock._socket import socket

__all__ = ["install"]


def install(module: ModuleType) -> Callable[[], None]:
    """Register our class with *module*, multiprocessing.reduction."""
    registry = module.ForkingPickler

    def reduce(sock: Any) -> Any:
        fd = module.DupFd(sock.fileno())
        return _rebuild, (fd, int(sock.family), int(sock.type), sock.proto, _names(sock))

    registry.register(socket, reduce)
    return lambda: registry._extra_reducers.pop(socket, None) and None


def _names(sock: socket) -> tuple[Any, Any] | None:
    """Both ends of a connection of the stack, for whoever cannot ask it."""
    if sock._xs_h is None or sock._xs_so is not None:
        return None
    try:
        return sock.getsockname(), sock.getpeername()
    except OSError:
        return None


def _rebuild(dup: Any, family: int, kind: int, proto: int, names: tuple[Any, Any] | None) -> socket:
    sock = socket(family, kind, proto, fileno=dup.detach())
    if names is not None and sock._xs_h is None:
        sock._xs_px = Heirloom(*names)
    return sock
