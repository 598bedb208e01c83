"""A drop-in for Python's sockets over a TCP/IP stack of the program's own."""

from __future__ import annotations

from xsock import original, socket

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any

    from xsock._patch import patch, unpatch
    from xsock._wiring import Stack

__all__ = ["Stack", "original", "patch", "socket", "unpatch"]


def __getattr__(name: str) -> Any:
    if name in ("patch", "unpatch"):
        from xsock import _patch as home
    elif name == "Stack":
        from xsock import _wiring as home  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
