"""Pickling sockets through multiprocessing: the descriptor goes, as for any socket.

The other process has a descriptor whose other end this process's stack serves.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from xsock._socket import socket

__all__ = ["install"]


def install(module: ModuleType) -> Callable[[], None]:
    """Register our class with *module*, multiprocessing.reduction."""
    registry = module.ForkingPickler

    def reduce(sock: Any) -> Any:
        return _rebuild, (
            module.DupFd(sock.fileno()), int(sock.family), int(sock.type), sock.proto
        )  # fmt: skip

    registry.register(socket, reduce)
    return lambda: registry._extra_reducers.pop(socket, None) and None


def _rebuild(dup: Any, family: int, kind: int, proto: int) -> socket:
    fd = dup.detach()
    return socket(family, kind, proto, fileno=fd)
