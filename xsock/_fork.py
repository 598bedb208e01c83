"""fork() and exit: the stack held still while forking, dead in the child, drained at exit.

A kernel goes on sending after a process has ended; a stack inside the
process cannot. So at exit what is queued is sent first, for at most
``linger`` seconds (XSOCK_LINGER).
"""

import atexit
import gc
import os
from typing import Any, Final

from bsdcore._ffi import ffi, lib
from bsdcore.stack import Stack
from xsock import _heirloom, _wiring
from xsock._socket import socket

__all__ = ["guard"]

OPEN_STATES: Final = (4, 5)  # TCPS_ESTABLISHED, TCPS_CLOSE_WAIT: bsdcore/netinet/tcp_fsm.h
SHUT_WR: Final = 1

_guarded = False


def guard() -> None:
    """Register the hooks, once, when the first Stack is made."""
    global _guarded
    if _guarded:
        return
    _guarded = True
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
    atexit.register(_at_exit)


def _stacks() -> "list[_wiring.Stack]":
    stack = _wiring.current()
    return [] if stack is None else [stack]


def _sockets(stack: "_wiring.Stack") -> list[Any]:
    """Every socket of *stack* that the program still holds."""
    return [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), socket) and getattr(thing, "_xs_host", None) is stack.host
    ]


def _before() -> None:
    for stack in _stacks():
        for sock in _sockets(stack):
            try:
                _heirloom.bequeath(sock)
            except OSError:
                continue  # it stays behind
        # Who holds a client's lock may be about to take the stack's.
        _held[:] = stack.clients
        for client in _held:
            client.fork_prepare()
        stack.core.fork_prepare()
        if stack.usernet is not None:
            stack.usernet.stack.fork_prepare()


def _in_parent() -> None:
    for stack in _stacks():
        if stack.usernet is not None:
            stack.usernet.stack.fork_parent()
        stack.core.fork_parent()
        for client in _held:
            client.fork_parent()
        _held.clear()


def _in_child() -> None:
    for stack in _stacks():
        if stack.usernet is not None:
            stack.usernet.stack.fork_child()
        stack.core.fork_child()
        for client in _held:
            client.fork_child()
        # Kept referenced: inherited sockets still point into it.
        _orphans.append(stack)
        for sock in _sockets(stack):
            _heirloom.inherit(sock)
    _wiring.forget()


_orphans: "list[_wiring.Stack]" = []
_held: "list[Stack]" = []  # stacks of event loops, between _before and what follows


def _has_open(stack: "_wiring.Stack") -> bool:
    """Some connection has not been shut down.

    Asked without bsdcore.netstat: importing it now would compile its dataclasses,
    which makes the interpreter forget that Ctrl-C is what ended the program.
    """
    room = lib.bsd_sock_list(stack.core.cdata, ffi.NULL, 0)
    rows = ffi.new("struct bsd_sockinfo[]", max(room, 1))
    count = lib.bsd_sock_list(stack.core.cdata, rows, room)
    return any(rows[i].state in OPEN_STATES for i in range(min(count, room)))


def _say_goodbye(stack: "_wiring.Stack") -> None:
    """End what the program left open, as a kernel would for it."""
    if not _has_open(stack):
        return
    for sock in _sockets(stack):
        if sock._xs_h is not None:
            lib.bsd_shutdown(sock._xs_h, SHUT_WR)


def _at_exit() -> None:
    for stack in _stacks():
        if stack.pid == os.getpid():
            _say_goodbye(stack)
            stack.drain()
            if stack.usernet is not None:
                # The other half of the way out: what the gateway still has to give to the host.
                stack.usernet.stack.drain(stack.config.linger)
            stack.flush_capture()
