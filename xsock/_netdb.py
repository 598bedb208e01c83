"""The name functions of the socket module, as the module has them; the work is in _resolver.

Imported with the package, so it imports nothing that takes time.
"""

from __future__ import annotations

import _socket
import operator
import os
import socket as _stdlib
import sys

from bsdcore._ffi import ffi, lib
from xsock import _socket as _facade

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo",
    "if_indextoname", "if_nameindex", "if_nametoindex",
]  # fmt: skip


def _resolver() -> Any:
    from xsock import _resolver as module

    return module


def getaddrinfo(
    host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Any]:
    """(family, type, proto, canonical name, address) for each way to reach *host* and *port*."""
    sys.audit("socket.getaddrinfo", host, port, family, type, proto)
    rows = _resolver().getaddrinfo(_facade.default_host, host, port, family, type, proto, flags)
    return [
        (_stdlib.AddressFamily(f) if f in _FAMILIES else f, _stdlib.SocketKind(t), p, name, address)
        for f, t, p, name, address in rows
    ]


_FAMILIES = frozenset((_socket.AF_INET, _socket.AF_INET6))


def getnameinfo(sockaddr: Any, flags: int, /) -> tuple[str, str]:
    """(host, service) for an address."""
    if not isinstance(sockaddr, tuple):
        del sockaddr  # the traceback holds this frame
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    sys.audit("socket.getnameinfo", sockaddr)
    answer: tuple[str, str] = _resolver().getnameinfo(_facade.default_host, sockaddr, flags)
    return answer


def gethostbyname(host: Any, /) -> str:
    """The first IPv4 address of *host*."""
    sys.audit("socket.gethostbyname", host)
    return str(_resolver().gethostbyname(_facade.default_host, host))


def gethostbyname_ex(host: Any, /) -> tuple[str, list[str], list[str]]:
    """(name, aliases, IPv4 addresses) of *host*."""
    sys.audit("socket.gethostbyname", host)
    answer: tuple[str, list[str], list[str]] = _resolver().gethostbyname_ex(
        _facade.default_host, host
    )
    return answer


def gethostbyaddr(host: Any, /) -> tuple[str, list[str], list[str]]:
    """(name, aliases, addresses) of an address."""
    sys.audit("socket.gethostbyaddr", host)
    answer: tuple[str, list[str], list[str]] = _resolver().gethostbyaddr(_facade.default_host, host)
    return answer


def _interfaces() -> list[tuple[int, str]]:
    stack = _facade.default_host().cdata
    room = 16
    while True:
        rows = ffi.new("struct bsd_ifinfo[]", room)
        count = lib.bsd_if_list(stack, rows, room)
        if count <= room:
            return [(rows[i].index, ffi.string(rows[i].name).decode()) for i in range(count)]
        room = count


def if_nameindex() -> list[tuple[int, str]]:
    """(index, name) of the stack's interfaces."""
    return _interfaces()


def if_nametoindex(oname: Any, /) -> int:
    """The index of an interface of the stack."""
    name = os.fsdecode(oname)
    for index, known in _interfaces():
        if known == name:
            return index
    raise OSError("no interface with this name")


def if_indextoname(index: int, /) -> str:
    """The name of an interface of the stack."""
    wanted = operator.index(index)
    if wanted < 0:
        raise OverflowError("can't convert negative value to unsigned int")
    if wanted >= 2**64:
        raise OverflowError("Python int too large to convert to C unsigned long")
    for known, name in _interfaces():
        if known == wanted:
            return name
    raise OSError(6, "No such device or address")
