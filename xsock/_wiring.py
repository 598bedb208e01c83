"""The composition root: ports, wrappers and a stack from a configuration, and the default one.

Nothing is made by importing this. The process's default Stack is made, and
its thread started, by the first socket that needs it.
"""

from __future__ import annotations

import os
import threading

from xsock import _socket
from xsock._host import Host

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any, Final

    import bsdcore.stack
    from xsock._client import ClientParts
    from xsock._config import Config
    from xsock._switch import Switch

__all__ = ["Stack", "current", "default", "forget", "run_with"]

LO_MTU: Final = 65535
_lock = threading.RLock()
_default: Stack | None = None


class Stack:
    """A host of this process: its TCP/IP stack and the NIC under it, as configured.

    Keyword arguments are the settings of _config.Config, as values or as
    text: ``Stack(nic="lo")``, ``Stack(nic="tap:tap0", addr="10.0.0.2/24")``. What
    is not given comes from the environment. Close it, or use it in a with statement.
    """

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        from xsock import _assemble, _config

        self.config = _config.load(**settings) if config is None else config
        self._parts = _assemble.Parts(self.config)
        self.core = self._parts.stack
        self.usernet = self._parts.usernet
        self.host: Host = self._parts.host
        self.pid = os.getpid()
        self.control: Any = None

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def socket(self, family: int = 2, type: int = 1, proto: int = 0) -> _socket.socket:
        """A socket of this Stack; families that are not IP's raise OSError."""
        if family not in (_socket.AF_INET, _socket.AF_INET6):
            raise OSError(97, "Address family not supported by protocol")
        return _socket.open_on(self.host, int(family), int(type) & ~_socket.TYPE_BITS, proto)

    def client(self, doorbell: int) -> ClientParts:
        """A stack for an event loop to run, beside this one. *doorbell*: see ClientParts.

        Close it before this Stack.
        """
        from xsock._client import ClientParts

        return ClientParts(self._parts, doorbell)

    @property
    def switch(self) -> Switch:
        """The flowswitches under it, and the namespace of ports that it shares with its clients."""
        made: Switch = self._parts.switch
        return made

    @property
    def clients(self) -> tuple[bsdcore.stack.Stack, ...]:
        """The stacks of event loops beside this one."""
        return tuple(client.stack for client in self._parts.clients)

    def drain(self, timeout: float | None = None) -> int:
        """Wait until what was sent is acknowledged; how many connections still have some."""
        return self.core.drain(self.config.linger if timeout is None else timeout)

    def flush_capture(self) -> None:
        """Write what the capture holds to its file."""
        self._parts.flush_capture()

    def close(self) -> None:
        """Reset what is still open and free all of it."""
        global _default
        if self.control is not None:
            self.control.close()
        self._parts.close()
        with _lock:
            if _default is self:
                _default = None


def default() -> Stack:
    """The process's Stack, made now if there is none."""
    global _default
    with _lock:
        if _default is None:
            from xsock import _fork

            _default = Stack()
            _fork.guard()
            if _default.config.control:
                from xsock import _control

                _default.control = _control.Control(_default)
        return _default


def current() -> Stack | None:
    """The process's Stack, if it has been made."""
    return _default


def forget() -> None:
    """In a forked child: the parent's Stack is not ours."""
    global _default, _lock
    _lock = threading.RLock()
    _default = None


def run_with(stack: Stack | None) -> None:
    """Make *stack* the one that new sockets belong to; None: the next makes its own."""
    global _default
    with _lock:
        _default = stack


def _default_host() -> Host:
    stack = _default
    return (default() if stack is None else stack).host


_socket.default_host = _default_host
