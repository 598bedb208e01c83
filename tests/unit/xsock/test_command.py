"""The command line: what is run, with which environment, and errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xsock
from tests.helpers.clientloop import ClientLoop
from xsock import _control
from xsock.__main__ import main
from xsock.cli.netstat import table
from xsock.cli.run import activated, command_line

ROOT = Path(__file__).parents[3]


def test_what_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command_line(["--", "sh", "-c", "true"])[1:] == ["-c", "true"]
    script = tmp_path / "app.py"
    script.write_text("")
    assert command_line([str(script), "x"]) == [sys.executable, str(script), "x"]
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "sys.argv[0] = 'pytest'" in command_line(["pytest", "-q"])[2]
    with pytest.raises(FileNotFoundError, match="neither a program in PATH"):
        command_line(["no-such-thing"])


def test_the_environment_says_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environ = activated({"nic": "lo", "pcap": "c.pcapng"})
    assert environ["XSOCK_NIC"] == "lo"
    assert environ["XSOCK_PCAP"] == str(Path("c.pcapng").absolute())
    assert environ["PYTHONPATH"].endswith(f"_pth{os.pathsep}/elsewhere")


def xsock_run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xsock", "run", *arguments],
        cwd=ROOT, text=True, capture_output=True, env=os.environ | environ,
    )  # fmt: skip


def test_a_program_and_its_children_are_patched(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the program has one of its own')")
    code = (
        "import socket, subprocess, sys; print(socket.getaddrinfo.__module__, flush=True);"
        "subprocess.run([sys.executable, '-c', 'import socket; "
        "print(socket.getaddrinfo.__module__)'])"
    )
    done = xsock_run(
        "--nic", "lo", "--", sys.executable, "-c", code, PYTHONPATH=f"{tmp_path}:{ROOT}"
    )
    # The first line is the command's, which is not patched.
    own = "the program has one of its own\n"
    assert done.stdout == f"{own}{own}xsock._netdb\n{own}xsock._netdb\n"
    assert done.stderr == ""


def test_the_exit_status_is_the_programs() -> None:
    assert xsock_run("--nic", "lo", "--", "sh", "-c", "exit 7").returncode == 7


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--nic", "tap:t0", "--", "true"], 2, "needs an address"),
        (["--nic", "usernet:x=1", "--", "true"], 2, "usernet: unknown option 'x'"),
        (["--pcap", "/nowhere/c", "--", "true"], 1, "'/nowhere/c'"),
        (["--", "no-such-thing"], 127, "neither a program in PATH"),
        ([], 2, "nothing to run"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], status: int, message: str) -> None:
    done = xsock_run(*arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_netstat_and_ping_ask_a_running_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert main(["netstat"]) == 1
    assert "no stack is running" in capsys.readouterr().err
    with xsock.Stack(nic="lo") as stack, stack.socket() as listener:
        listener.bind(("127.0.0.1", 8080))
        listener.listen()
        listening = _control.Control(stack)
        try:
            assert main(["netstat", "-an"]) == 0
            assert "127.0.0.1.8080" in capsys.readouterr().out
            assert main(["netstat", "-rn"]) == 0
            assert "127.0.0.0/8" in capsys.readouterr().out
            assert main(["netstat", "-s", "-i"]) == 0
            assert "lo0" in capsys.readouterr().out
            assert main(["ping", "-c", "2", "-i", "0", "127.0.0.1"]) == 0
            assert "2 sent, 2 answered" in capsys.readouterr().out
            with pytest.raises(_control.ControlError, match="unknown command"):
                _control.ask(None, "format-disk")
            pid = str(os.getpid())
            assert main(["sysctl", "--pid", pid, "net.inet.tcp.delack=7"]) == 0
            assert stack.core.sysctl["net.inet.tcp.delack"] == 7
            assert main(["sysctl", "--pid", pid, "net.inet.tcp.delack=100000"]) == 1
            assert "is not in 1..499" in capsys.readouterr().err
        finally:
            listening.close()


def test_netstat_shows_the_clients_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with (
        xsock.Stack(nic="lo") as stack,
        stack.socket() as listener,
        stack.socket() as taken,
        ClientLoop(stack) as loop,
    ):
        listener.bind(("127.0.0.1", 8080))
        listener.listen()
        sock = loop.connect("127.0.0.1", 8080)
        port = sock.getsockname()[1]
        taken.bind(("0.0.0.0", 8090))
        listening = _control.Control(stack)
        try:
            assert main(["netstat", "--flows"]) == 0
            lines = [line.split() for line in capsys.readouterr().out.splitlines()]
            ends = ["tcp", f"127.0.0.1.{port}", "127.0.0.1.8080"]
            (mine,) = (row for row in lines if row[:3] == ends)
            assert mine[3:7] == ["client", str(os.getpid()), "attached", "open"]
            assert int(mine[7]) >= 1
            assert int(mine[9]) >= 2
            assert ["tcp", "*.8090", "*.*", "host"] in [row[:4] for row in lines]
            assert main(["netstat", "-s"]) == 0
            assert "fsw.lo0." in capsys.readouterr().out
        finally:
            listening.close()


def test_sysctl_shows_defaults_and_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sysctl", "tcp.delack"]) == 0
    assert "RFC 9293" in capsys.readouterr().out
    assert main(["sysctl", "net.inet.tcp.delack=7"]) == 2
    assert "--pid" in capsys.readouterr().err
    assert main(["sysctl", "--pid", "1", "net.inet.tcp.delack=soon"]) == 2
    assert "not NAME=N" in capsys.readouterr().err


def test_ping_from_a_stack_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", "--nic", "usernet", "-c", "1", "-s", "1000", "10.0.2.2"]) == 0
    assert "1000 bytes from 10.0.2.2" in capsys.readouterr().out


def test_demo(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert main(["demo", "--pcap", str(tmp_path / "demo.pcapng")]) == 0
    out = capfd.readouterr().out
    assert "8388608 bytes fetched, identical" in out
    assert "Flags [S]" in out


def test_tables() -> None:
    assert table(("A", "B"), [("x", 1), ("long", 22)]) == ["A     B", "x     1", "long  22"]
