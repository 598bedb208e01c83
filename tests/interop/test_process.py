"""A process under ``xsock run`` with signals, fork and exit."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import servers
from tests.helpers.servers import Program
from tests.interop.launch import APPS, LO, Place

CALLS = ["recv", "send", "accept", "connect", "recvfrom", "timeout", "poll", "loop"]
# At once for a person; the rest is a busy machine's scheduling.
AT_ONCE = 0.5


def python_child(pid: int) -> int:
    """The process that runs the program: *pid* itself, or the last of its descendants."""
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[-1])
    return pid


def wait_until_asleep(pid: int) -> None:
    """Return once the main thread of *pid* waits in the kernel."""
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end, "busy for ten seconds"
        os.sched_yield()


@pytest.mark.parametrize("call", CALLS)
def test_interrupt_ends_a_blocking_call(call: str) -> None:
    # Nothing answers a connection request across a partitioned link.
    place = Place("usernet", "10.0.2.15", "10.0.2.2") if call == "connect" else LO
    fault = "partition=on" if call == "connect" else ""
    host = place.peer if call == "connect" else "127.0.0.1"
    with place.start("blocking.py", call, host, "4000", fault=fault) as program:
        program.wait_for("ready")
        pid = python_child(program.process.pid)
        wait_until_asleep(pid)
        sent = time.monotonic()
        os.kill(pid, signal.SIGINT)
        line = program.wait_for("interrupted", 10)
        assert float(line.split()[1]) - sent < AT_ONCE
        assert program.wait(10) == 0, program.output
        assert "Traceback" not in program.output


def test_uncaught_interrupt_ends_the_program() -> None:
    """As without the stack: killed by SIGINT, for the shell to see."""
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 4000)); print('ready'); s.accept()"
    )
    with LO.start(sys.executable, "-c", code) as program:
        program.wait_for("ready")
        pid = python_child(program.process.pid)
        wait_until_asleep(pid)
        os.kill(pid, signal.SIGINT)
        assert program.wait(10) in (-signal.SIGINT, 128 + signal.SIGINT)
        assert program.lines[-1] == "KeyboardInterrupt"


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    """An echo server on the host's loopback."""
    port = servers.free_port()
    command = [sys.executable, str(APPS / "asyncio_echo.py"), "serve", "127.0.0.1", str(port)]
    with Program(*command) as server:
        server.wait_for("serving")
        yield port


def test_forked_child_uses_an_inherited_descriptor(usernet: Place, echo_port: int) -> None:
    out = usernet.run("forking.py", usernet.peer, str(echo_port), "fileno")
    assert out.splitlines() == ["child: echoed", "child: connected", "parent: echoed"]


def test_forked_child_without_a_descriptor_is_told(usernet: Place, echo_port: int) -> None:
    first, *rest = usernet.run("forking.py", usernet.peer, str(echo_port), "plain").splitlines()
    assert first.startswith("child: ")
    assert rest == ["child: connected", "parent: echoed"]


def test_forking_server() -> None:
    """A child for every connection, while other threads talk."""
    assert LO.run("forking_server.py").split() == ["20"]


def test_connections_are_given_to_other_processes() -> None:
    assert LO.run("giving.py").splitlines() == [
        "cat 100000 0",
        "fork from the worker",
        "spawn from the worker",
        "forkserver from the worker",
    ]


def test_exit_drains_what_is_queued(ordinary: Place) -> None:
    """The peer reads only after the program has said that it leaves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        with ordinary.start("leaving.py", ordinary.peer, port) as program:
            peer, _ = listener.accept()
            with peer:
                queued = int(program.wait_for("").strip())
                got = bytearray()
                while piece := peer.recv(1 << 20):
                    got += piece
            assert program.wait(10) == 0, program.output
    assert queued > 0
    assert got == (bytes(range(256)) * 4096)[:queued]


@pytest.mark.root
def test_exit_drains_what_is_queued_over_a_slow_link(over_af_packet: Place) -> None:
    """The stack itself still holds it all when the interpreter ends."""
    place = over_af_packet
    code = (
        "import socket, sys\n"
        f"s = socket.create_server(('{place.peer}', 4001)); print('listens', flush=True)\n"
        "c, _ = s.accept(); n = 0\n"
        "while piece := c.recv(65536): n += len(piece)\n"
        "print('got', n)\n"
    )
    with Program(*place.peer_prefix, sys.executable, "-c", code) as peer:
        peer.wait_for("listens")
        out = place.run("leaving.py", place.peer, "4001", fault="delay=50ms,rate=8mbit")
        assert peer.wait() == 0, peer.output
    assert int(out) > 0
    assert peer.lines[-1] == f"got {int(out)}"


def test_subprocess_has_a_stack_of_its_own(usernet: Place, echo_port: int) -> None:
    """Children are patched through the environment."""
    child = (
        f"import socket; s = socket.create_connection(('{usernet.peer}', {echo_port}))\n"
        "s.sendall(b'hello'); print(s.recv(5), s.getsockname()[0])"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    out = usernet.run(sys.executable, "-c", code)
    assert out.splitlines() == ["b'hello' 10.0.2.15"]
