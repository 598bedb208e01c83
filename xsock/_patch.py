"""patch(): make this package the sockets of the whole process, and take it back.

Only what opens sockets or looks up names is replaced: the class, the name
functions, and the ssl hook when ssl is there. Everything else of the
standard module finds the new class by itself, because it looks its names up
when called. Names that other modules had imported before are rebound where
they can be reached; the Report says which, and which could not.
"""

import socket as _stdlib
import sys
import threading
import warnings
from typing import Any, Final, NamedTuple

from xsock import _netdb, original
from xsock._socket import socket

__all__ = ["LatePatchWarning", "Report", "is_patched", "patch", "unpatch"]

REPLACED: Final = ("socket", *_netdb.__all__)
# Programs that patch the same names; both cannot work in one process.
RIVALS: Final = {"gevent.monkey": "saved", "eventlet.patcher": "already_patched"}
POLICIES: Final = ("warn", "error", "ignore")


class LatePatchWarning(RuntimeWarning):
    """Something still holds the standard socket class and could not be rebound."""


class Finding(NamedTuple):
    """A name found bound to a standard object: where, and which."""

    module: str
    name: str
    object: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name} is socket.{self.object}"


class Report(NamedTuple):
    """What patch() did."""

    replaced: tuple[str, ...]
    rebound: tuple[Finding, ...]
    unreachable: tuple[Finding, ...]

    def __str__(self) -> str:
        lines = [f"replaced in socket: {', '.join(self.replaced)}"]
        lines += [f"rebound: {finding}" for finding in self.rebound]
        lines += [f"NOT rebound: {finding}" for finding in self.unreachable]
        return "\n".join(lines)


_lock: Final = threading.RLock()
_undo: list[tuple[Any, str, Any]] = []
_report: Report | None = None


def is_patched() -> bool:
    """True between patch() and unpatch()."""
    return _report is not None


def patch(*, late: str = "warn", **settings: Any) -> Report:
    """Replace the process's sockets; answers what was found and done.

    *settings* are those of :class:`xsock.Stack`; without any the environment
    decides. *late* says what to do about early names that could not be
    rebound: ``warn``, ``error`` (RuntimeError, nothing patched) or ``ignore``.
    Again is harmless, unless settings are given: then RuntimeError.
    """
    global _report
    if late not in POLICIES:
        raise ValueError(f"late is one of {', '.join(POLICIES)}, not {late!r}")
    with _lock:
        if _report is not None:
            if settings:
                raise RuntimeError("xsock is patched in already; unpatch() first")
            return _report
        _refuse_rivals()
        if settings:
            from xsock import _wiring

            _wiring.run_with(_wiring.Stack(**settings))
        originals = {name: getattr(_stdlib, name) for name in REPLACED}
        unreachable = tuple(_unreachable())
        if unreachable and late == "error":
            raise RuntimeError(f"xsock: too late to patch: {unreachable[0]}")
        rebound = tuple(_rebind(originals))
        for name in REPLACED:
            _set(_stdlib, name, getattr(_netdb, name, socket))
        _hook_modules()
        _report = Report(REPLACED, rebound, unreachable)
    if unreachable and late == "warn":
        for finding in unreachable:
            warnings.warn(f"xsock: {finding}", LatePatchWarning, stacklevel=2)
    return _report


def unpatch() -> None:
    """Put every replaced name back. Sockets made meanwhile stay what they are."""
    global _report
    with _lock:
        if _report is None:
            return
        from xsock import _hooks

        _hooks.remove()
        while _undo:
            owner, name, value = _undo.pop()
            setattr(owner, name, value)
        _report = None


def _set(owner: Any, name: str, value: Any) -> None:
    _undo.append((owner, name, getattr(owner, name)))
    setattr(owner, name, value)


def _hook_modules() -> None:
    from xsock import _hooks

    _hooks.install()


def _refuse_rivals() -> None:
    for module, sign in RIVALS.items():
        if getattr(sys.modules.get(module), sign, None):
            raise RuntimeError(f"xsock: {module.partition('.')[0]} has patched the sockets already")


def _others() -> list[tuple[str, dict[str, Any]]]:
    """The namespaces of modules that are neither ours nor the standard socket."""
    return [
        (name, vars(module))
        for name, module in list(sys.modules.items())
        if isinstance(getattr(module, "__dict__", None), dict)
        and module is not _stdlib
        and name.partition(".")[0] not in ("xsock", "bsdcore", "nic", "_socket")
    ]


def _rebind(originals: dict[str, Any]) -> list[Finding]:
    """Give modules that imported a standard name the new one."""
    news = {id(value): (name, getattr(_netdb, name, socket)) for name, value in originals.items()}
    found = []
    for module, names in _others():
        owner = sys.modules.get(module)
        # The base of SSLSocket is fixed; ssl keeps the name that goes with it.
        if module in ("ssl", "uvloop.loop"):
            continue
        for name, value in list(names.items()):
            if id(value) in news:
                _set(owner, name, news[id(value)][1])
                found.append(Finding(module, name, news[id(value)][0]))
    return found


def _unreachable() -> list[Finding]:
    """Classes made from the standard class before us: their sockets stay the kernel's."""
    found = []
    pending = list(original.socket.__subclasses__())
    while pending:
        cls = pending.pop()
        if cls is socket or cls.__module__.partition(".")[0] in ("xsock", "ssl"):
            continue
        found.append(Finding(cls.__module__, cls.__qualname__, "socket (a subclass of it)"))
        pending += cls.__subclasses__()
    return found
