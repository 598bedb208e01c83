"""A drop-in for Python's sockets over a TCP/IP stack of the program's own."""

from typing import TYPE_CHECKING, Any

from xsock import original, socket
from xsock._patch import patch, unpatch

if TYPE_CHECKING:
    from xsock._wiring import Stack

__all__ = ["Stack", "original", "patch", "socket", "unpatch"]


def __getattr__(name: str) -> Any:
    if name == "Stack":
        from xsock._wiring import Stack

        return Stack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
