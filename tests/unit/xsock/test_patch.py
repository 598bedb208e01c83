"""patch() and unpatch(), the hooks, and what a patched process finds early."""

from __future__ import annotations

import socket as std
import ssl
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import xsock
from xsock import _patch, _wiring, original

ROOT = Path(__file__).parents[3]


@pytest.fixture
def patched() -> Iterator[_patch.Report]:
    report = xsock.patch(late="ignore", nic="lo")
    stack = _wiring.current()
    yield report
    xsock.unpatch()
    assert stack is not None
    stack.close()


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, text=True, capture_output=True
    )


def test_the_modules_names_are_ours_until_unpatched(patched: _patch.Report) -> None:
    assert std.socket is xsock.socket.socket
    assert std.getaddrinfo is xsock.socket.getaddrinfo
    with (
        std.create_server(("127.0.0.1", 0)) as listener,
        std.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as server,
    ):
        assert "fd=-1" in repr(client)
        assert isinstance(server, xsock.socket.socket)
    xsock.unpatch()
    assert std.socket is original.socket
    assert std.getaddrinfo is original.getaddrinfo
    assert ssl.SSLContext.sslsocket_class is ssl.SSLSocket
    assert "_wrap_socket" not in vars(ssl.SSLContext)


def test_again_is_harmless_but_not_with_settings(patched: _patch.Report) -> None:
    assert xsock.patch() is patched
    with pytest.raises(RuntimeError, match="patched in already"):
        xsock.patch(nic="usernet")


def test_early_names_are_rebound_and_put_back() -> None:
    module = types.ModuleType("early")
    module.Class, module.resolve = std.socket, std.getaddrinfo  # type: ignore[attr-defined]
    sys.modules["early"] = module
    try:
        report = xsock.patch(late="ignore", nic="lo")
        stack = _wiring.current()
        assert module.Class is xsock.socket.socket
        assert "early.resolve is socket.getaddrinfo" in str(report)
        xsock.unpatch()
        assert module.Class is original.socket
        assert stack is not None
        stack.close()
    finally:
        del sys.modules["early"]


def test_a_subclass_made_too_early_is_reported() -> None:
    code = "import socket\nclass Early(socket.socket): pass\nimport xsock\n"
    done = run(code + "xsock.patch(late='error')")
    assert "too late to patch: __main__.Early" in done.stderr
    done = run(code + "print(xsock.patch(late='ignore').unreachable[0])")
    assert done.stdout == "__main__.Early is socket.socket (a subclass of it)\n"
    assert "LatePatchWarning" in run(code + "xsock.patch()").stderr


def test_ssl_imported_later_is_hooked() -> None:
    code = (
        "import sys, xsock; xsock.patch(); assert 'ssl' not in sys.modules\n"
        "import ssl; print('_wrap_socket' in vars(ssl.SSLContext))"
    )
    done = run(code)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_rivals_are_refused() -> None:
    rival = types.ModuleType("gevent.monkey")
    rival.saved = {"socket": 1}  # type: ignore[attr-defined]
    sys.modules["gevent.monkey"] = rival
    try:
        with pytest.raises(RuntimeError, match="gevent has patched the sockets already"):
            xsock.patch()
    finally:
        del sys.modules["gevent.monkey"]


def test_importing_is_cheap() -> None:
    """What takes long to import is imported when it is used."""
    heavy = {"typing", "dataclasses", "ssl", "asyncio", "dns", "anyio", "argparse", "re", "json"}
    done = run(f"import sys, xsock; print(sorted(set(sys.modules) & {heavy!r}))")
    assert done.stdout == "[]\n"


def test_nothing_starts_before_the_first_socket() -> None:
    done = run(
        "import os, xsock; xsock.patch(); from xsock import _wiring\n"
        "import socket; socket.getaddrinfo('192.0.2.1', 80)\n"
        "print(_wiring.current(), len(os.listdir('/proc/self/task')))"
    )
    assert done.stdout == "None 1\n"


def test_sockets_go_through_multiprocessing(patched: _patch.Report) -> None:
    from multiprocessing import reduction

    reducers: Any = reduction.ForkingPickler
    with (
        std.create_server(("127.0.0.1", 0)) as listener,
        std.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        rebuild, arguments = reducers._extra_reducers[type(client)](client)
        with server, rebuild(*arguments) as again:
            again.sendall(b"there")
            assert server.recv(10) == b"there"
            assert again.getpeername() == listener.getsockname()
