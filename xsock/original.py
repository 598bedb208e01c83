"""The kernel's sockets under their old names, whatever patch() has done.

``xsock.original.socket`` is the standard class, ``xsock.original.getaddrinfo``
the host's resolver, and so on: for control sockets, exporters and tests.
"""

from __future__ import annotations

import socket as _stdlib

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from socket import *  # noqa: F403

NAMES = (
    "socket", "create_connection", "create_server", "fromfd", "socketpair", "getaddrinfo",
    "getnameinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getfqdn",
    "if_nameindex", "if_nametoindex", "if_indextoname",
)  # fmt: skip
__all__ = list(NAMES)

# This module is imported before patch() can run, so these are the standard ones.
globals().update({name: getattr(_stdlib, name) for name in NAMES})
