"""The control socket: other processes of the same user look into a running stack.

A kernel AF_UNIX socket named after the process in a directory that only its user
can enter. One request a connection: a line of JSON with ``command`` and its
arguments; the answer is a line of JSON with ``result`` or ``error``.
"""

import atexit
import json
import os
import socket as _stdlib
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from xsock import original
from xsock._wiring import Stack

__all__ = ["Control", "ControlError", "ask", "directory", "running"]

REQUEST_MAX: Final = 65536
TIMEOUT: Final = 10.0  # seconds for one request
UCRED: Final = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, socket(7)


class ControlError(OSError):
    """No stack answers, or it could not do what was asked; one line."""


def directory() -> Path:
    """Where the control sockets of this user are."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        return Path(base, "xsock")
    return Path(f"/tmp/xsock-{os.getuid()}")


def running() -> list[int]:
    """Process ids of the stacks that can be asked."""
    found = []
    for path in directory().glob("*.sock"):
        if path.stem.isdigit() and os.path.exists(f"/proc/{path.stem}"):
            found.append(int(path.stem))
    return sorted(found)


def ask(pid: int | None, command: str, **arguments: Any) -> Any:
    """Ask the stack of process *pid*, or the only one there is."""
    if pid is None:
        pids = running()
        if not pids:
            raise ControlError("no stack is running; start one with: xsock run -- CMD")
        if len(pids) > 1:
            raise ControlError(f"several stacks are running; choose one with --pid: {pids}")
        pid = pids[0]
    path = directory() / f"{pid}.sock"
    with original.socket(_stdlib.AF_UNIX, _stdlib.SOCK_STREAM) as sock:
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(str(path))
        except OSError as error:
            raise ControlError(f"process {pid} has no stack to ask: {error.strerror}") from None
        sock.sendall(json.dumps({"command": command} | arguments).encode() + b"\n")
        answer = json.loads(_line(sock))
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer["result"]


def _line(sock: Any) -> bytes:
    got = b""
    while not got.endswith(b"\n"):
        piece = sock.recv(REQUEST_MAX)
        if not piece:
            break
        got += piece
    return got or b'{"error": "the stack has gone"}'


class Control:
    """Answers requests about one stack from a thread, until it is closed."""

    def __init__(self, stack: Stack) -> None:
        where = directory()
        where.mkdir(mode=0o700, exist_ok=True)
        if where.stat().st_uid != os.getuid():
            raise ControlError(f"{where} belongs to somebody else; set XDG_RUNTIME_DIR")
        self._stack = stack
        self._pid = os.getpid()
        self._path = where / f"{self._pid}.sock"
        self._path.unlink(missing_ok=True)
        self._listener = original.socket(_stdlib.AF_UNIX, _stdlib.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._loop, name="xsock-control", daemon=True)
        self._thread.start()
        atexit.register(self._remove)

    def close(self) -> None:
        """Take no more requests and wait for the one that runs."""
        self._remove()
        atexit.unregister(self._remove)
        self._listener.shutdown(_stdlib.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _remove(self) -> None:
        # A forked child runs this too, and the name is its parent's.
        if os.getpid() == self._pid:
            self._path.unlink(missing_ok=True)

    def _loop(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(TIMEOUT)
                try:
                    _one(sock, self._stack)
                except OSError:
                    continue


def _one(sock: Any, stack: Stack) -> None:
    peer = UCRED.unpack(sock.getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_PEERCRED, UCRED.size))
    if peer[1] not in (0, os.getuid()):
        return
    line = b""
    while not line.endswith(b"\n") and len(line) < REQUEST_MAX:
        piece = sock.recv(REQUEST_MAX)
        if not piece:
            return
        line += piece
    sock.sendall(json.dumps(_answer(stack, line)).encode() + b"\n")


def _answer(stack: Stack, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        command = COMMANDS[request.pop("command")]
        return {"result": command(stack, **request)}
    except KeyError as error:
        return {"error": f"unknown command {error}"}
    except (ValueError, TypeError, OSError, AttributeError) as error:
        return {"error": " ".join(str(error).split())}


def _netstat(stack: Stack, what: str) -> Any:
    from dataclasses import asdict

    from bsdcore import netstat

    core = stack.core
    if what == "counters":
        return netstat.counters(core) | stack.switch.counters()
    if what == "flows":
        flows = [asdict(flow) for flow in stack.switch.netns.flows()]
        return [flow | {"kind": flow["kind"].name, "state": flow["state"].name} for flow in flows]
    if what == "memory":
        return asdict(netstat.memory(core))
    lists: dict[str, Callable[..., list[Any]]] = {
        "sockets": netstat.sockets, "routes": netstat.routes,
        "interfaces": netstat.interfaces, "arp": netstat.arp,
    }  # fmt: skip
    return [asdict(row) for row in lists[what](core)]


def _gateway(stack: Stack) -> Any:
    from dataclasses import asdict

    from bsdcore import netstat

    return None if stack.usernet is None else asdict(netstat.gateway(stack.usernet.stack))


def _ping(stack: Stack, host: str, sequence: int, size: int, timeout: float) -> Any:
    from xsock import _ping

    return _ping.echo(stack, host, sequence, size, timeout)


def _sysctl(stack: Stack, name: str | None = None, value: int = 0) -> Any:
    if name is not None:
        if name not in stack.core.sysctl:
            raise ValueError(f"unknown tunable {name!r}; xsock sysctl lists them")
        stack.core.sysctl[name] = value
    return [row._asdict() for row in stack.core.sysctl.tunables()]


COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "netstat": _netstat,
    "gateway": _gateway,
    "ping": _ping,
    "sysctl": _sysctl,
}
