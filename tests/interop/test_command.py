"""What ``xsock run`` says when it cannot: one line on stderr, and no traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers import servers
from tests.interop.launch import GATEWAY, finish, python

SOCKET = ("-c", "import socket; socket.socket(); print('made')")
USAGE, FAILURE = 2, 1


def xsock(
    *words: str, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> tuple[int, str, str]:
    return finish([*prefix, sys.executable, "-m", "xsock", *words], 20, env)


def complaint(result: tuple[int, str, str], status: int) -> str:
    """The one line; AssertionError if there is more, or another exit status."""
    got, out, err = result
    assert got == status, result
    assert out == "", result
    assert err.startswith("xsock: "), result
    assert len(err.splitlines()) == 1, result
    return err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--nic", "carrier-pigeon"], "carrier-pigeon"),
        (["--nic", "tap"], "tap"),
        (["--nic", "tap:"], "tap"),
        (["--nic", "tap:t0,colour=red", "--addr", "10.0.0.2/24"], "colour"),
        (["--nic", "lo,mtu=1"], "mtu"),
        (["--nic", "tap:t0"], "--addr"),
        (["--nic", "lo", "--addr", "10.0.0.300/24"], "10.0.0.300"),
        (["--nic", "lo", "--addr", "10.0.0.3"], "prefix length"),
        (["--gateway", "nowhere"], "nowhere"),
        (["--fault", "loss=1"], "loss"),
        (["--fault", "los=1%"], "los"),
        (["--dns", "10.0.2"], "10.0.2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_malformed_options(options: list[str], named: str) -> None:
    line = complaint(xsock("run", *options, "--", sys.executable, *SOCKET), USAGE)
    assert named in line


@pytest.mark.parametrize(
    ("variable", "text"),
    [("XSOCK_NIC", "carrier-pigeon"), ("XSOCK_FAULT", "loss=200%"), ("XSOCK_NICK", "lo")],
)
def test_malformed_environment(variable: str, text: str) -> None:
    line = complaint(xsock("run", "--", sys.executable, *SOCKET, env={variable: text}), USAGE)
    assert variable in line


def test_malformed_file(tmp_path: Path) -> None:
    file = tmp_path / "xsock.toml"
    file.write_text("nic = 'lo\n")
    env = {"XSOCK_CONFIG": str(file)}
    assert str(file) in complaint(xsock("run", "--", sys.executable, *SOCKET, env=env), USAGE)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["af_packet", "tap"])
def test_absent_interface(kind: str, lowered: tuple[str, ...]) -> None:
    options = ["--nic", f"{kind}:absent0", "--addr", "10.97.0.2/24"]
    prefix: tuple[str, ...] = ()
    if kind == "tap":  # opening one that is absent makes it; that needs the privilege
        prefix = lowered
    result = xsock("run", *options, "--", sys.executable, *SOCKET, prefix=prefix)
    assert "absent0" in complaint(result, FAILURE)


@pytest.mark.parametrize("nic", ["af_packet:lo", "tap:tap9"])
def test_missing_privilege(nic: str, lowered: tuple[str, ...]) -> None:
    options = ["--nic", nic, "--addr", "10.97.0.2/24"]
    result = xsock("run", *options, "--", sys.executable, *SOCKET, prefix=lowered)
    line = complaint(result, FAILURE)
    assert nic.partition(":")[2] in line
    assert "CAP_NET" in line


def test_unwritable_capture() -> None:
    result = xsock("run", "--pcap", "/proc/nowhere/x.pcapng", "--", sys.executable, *SOCKET)
    assert "/proc/nowhere/x.pcapng" in complaint(result, FAILURE)


def test_unknown_program() -> None:
    result = xsock("run", "--nic", "lo", "--", "no-such-program")
    assert "no-such-program" in complaint(result, 127)  # as env(1) answers


def test_nothing_to_run() -> None:
    assert xsock("run", "--nic", "lo")[0] == USAGE


def test_forwarded_port_in_use() -> None:
    """The host has it already; the program never starts."""
    with servers.Program(
        *python(["asyncio_echo.py", "serve", "127.0.0.1", str(port := servers.free_port())])
    ) as holder:
        holder.wait_for("serving")
        env = {"XSOCK_FORWARD": f"tcp:127.0.0.1:{port}:80"}
        result = xsock("run", "--", sys.executable, *SOCKET, env=env)
    line = complaint(result, FAILURE)
    assert str(port) in line
    assert "in use" in line


def test_address_in_use_is_the_programs_error() -> None:
    """Within the stack: the exception a kernel would cause."""
    code = (
        "import socket\n"
        "one = socket.create_server(('127.0.0.1', 4000))\n"
        "try: socket.create_server(('127.0.0.1', 4000))\n"
        "except OSError as error: print(error.errno, error.strerror)\n"
    )
    status, out, err = xsock("run", "--nic", "lo", "--", sys.executable, "-c", code)
    assert (status, err) == (0, "")
    assert out.startswith("98 Address already in use")


def test_exit_status_is_the_programs() -> None:
    for code, status in (("raise SystemExit(7)", 7), ("1/0", 1), ("pass", 0)):
        assert xsock("run", "--nic", "lo", "--", sys.executable, "-c", code)[0] == status


def test_connection_refused_by_the_host() -> None:
    """A refusal is one, not a timeout."""
    code = (
        "import socket\n"
        f"try: socket.create_connection(('{GATEWAY}', {servers.free_port()}), 10)\n"
        "except OSError as error: print(type(error).__name__)\n"
    )
    status, out, err = xsock("run", "--", sys.executable, "-c", code)
    assert (status, out.split(), err) == (0, ["ConnectionRefusedError"], "")
