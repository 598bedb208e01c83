"""The ``socket`` module over the stack: every name the running Python has, with its meaning.

Names are copied from the standard module, so a new Python's constants are
here too. What opens sockets or looks up names is this package's; functions of
the standard module that only combine those run here with these names in
their place.
"""

from __future__ import annotations

import _socket
import socket as _stdlib
from types import FunctionType

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from socket import *  # noqa: F403
    from typing import Any

globals().update({name: value for name, value in vars(_stdlib).items() if name[:2] != "__"})

from xsock import _netdb, _wiring  # noqa: E402, F401 (wiring: gives new sockets their stack)
from xsock import _socket as _facade  # noqa: E402

__all__ = list(_stdlib.__all__)


def _rebind(name: str) -> Any:
    """A function of the standard module that finds its names in this one."""
    original = getattr(_stdlib, name, None)
    if not isinstance(original, FunctionType):
        return original
    copy = FunctionType(
        original.__code__, globals(), name, original.__defaults__, original.__closure__
    )
    copy.__kwdefaults__ = original.__kwdefaults__
    copy.__doc__ = original.__doc__
    return copy


socket = _facade.socket  # type: ignore[misc]
globals().update({name: getattr(_netdb, name) for name in _netdb.__all__})
for _name in (
    "create_connection", "create_server", "has_dualstack_ipv6", "fromfd", "getfqdn",
    "socketpair", "_fallback_socketpair",
):  # fmt: skip
    if hasattr(_stdlib, _name):
        globals()[_name] = _rebind(_name)
del _name

close = _socket.close
dup = _socket.dup
