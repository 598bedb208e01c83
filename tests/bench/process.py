"""What the library costs a process that does nothing with it."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
import time
from typing import Any

from tests.bench.case import ROOT, Bar, Case

CONNECTIONS = 10_000
IMPORTS = 20


class _Mallinfo2(ctypes.Structure):
    """glibc's struct mallinfo2 (mallinfo2(3)); all size_t."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        )
    ]


def _allocated() -> int:
    """Bytes that malloc has handed out in this process."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo2
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def idle_memory(_lab: Any) -> float:
    """Bytes of C memory one end of an idle TCP connection costs.

    Both ends are in one stack, so the growth of malloc is shared by twice as many
    sockets as there are connections. Python's handles are made first: they are not counted.
    """
    from bsdcore._ffi import check, ffi, lib

    config = ffi.new("struct bsd_config *", {"virtual_time": 1, "seed": [1, 2, 3, 4]})
    out = ffi.new("struct stack **")
    check(lib.bsd_stack_new(config, out))
    stack = out[0]
    clients = ffi.new("struct socket *[]", CONNECTIONS)
    servers = ffi.new("struct socket *[]", CONNECTIONS)
    listener = ffi.new("struct socket **")
    check(lib.bsd_socket(stack, 2, 1, 0, listener))
    address = ffi.new("struct bsd_addr *", {"family": 2, "port": 80, "addr": [127, 0, 0, 1]})
    check(lib.bsd_bind(listener[0], address))
    check(lib.bsd_listen(listener[0], 1024))
    one, start = ffi.new("struct socket **"), None
    for i in range(-100, CONNECTIONS):  # the first hundred fill the pools
        if i == 0:
            start = _allocated()
        check(lib.bsd_socket(stack, 2, 1, 0, one))
        rc = lib.bsd_connect(one[0], address, 0)
        if rc not in (0, -115):
            check(rc)
        if i >= 0:
            clients[i] = one[0]
        check(lib.bsd_accept(listener[0], 0, one, ffi.NULL))
        if i >= 0:
            servers[i] = one[0]
    assert start is not None
    each = (_allocated() - start) / (2 * CONNECTIONS)
    lib.bsd_stack_free(stack)
    return each


def _import_ms(statement: str) -> float:
    """CPU milliseconds of an interpreter that runs *statement*, the least of several."""
    best = float("inf")
    for _ in range(IMPORTS // 4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, max(cpu, 0.0) * 1e3, (time.perf_counter() - start) * 1e3)
    return best


CASES = [
    Case(
        name="idle-memory",
        about=f"{CONNECTIONS} idle TCP connections, C bytes each",
        unit="bytes",
        bar=Bar(4096, True),
        ours=idle_memory,
        peer=None,
    ),
    Case(
        name="import-time",
        about="import xsock, over a bare interpreter",
        unit="ms",
        bar=Bar(40, True),
        ours=lambda _lab: _import_ms("import xsock") - _import_ms("pass"),
        peer=None,
    ),
]
