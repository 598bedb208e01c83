"""How these tests start programs under ``xsock run``: where, over which NIC, at which address."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.helpers.servers import ROOT, Program

APPS: Final = Path(__file__).parent / "apps"
SECONDS: Final = 50.0
# What tests put between the stack and its peer.
BAD_LINK: Final = "loss=1%,delay=20ms,reorder=1%"
GATEWAY: Final = "10.0.2.2"


def clean_environment(**more: str) -> dict[str, str]:
    """Ours without settings of a Stack, with *more*; crashes print where every thread is."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("XSOCK_")}
    return kept | {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1"} | more


@dataclass(frozen=True, slots=True)
class Place:
    """A NIC for programs, and who is at its other end.

    *own* is the stack's address and *peer* the kernel's, as the other side sees them; commands
    of the kernel's side start with *peer_prefix*.
    """

    nic: str
    own: str
    peer: str
    options: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    peer_prefix: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *program: str, pcap: Path | None = None, fault: str = "") -> list[str]:
        """The command line of ``xsock run``; a program that ends in .py is one of ours."""
        more = ["--pcap", str(pcap)] if pcap else []
        more += ["--fault", fault] if fault else []
        return [
            *self.prefix, sys.executable, "-m", "xsock", "run",
            "--nic", self.nic, *self.options, *more, "--", *python(program),
        ]  # fmt: skip

    def run(
        self,
        *program: str,
        pcap: Path | None = None,
        fault: str = "",
        seconds: float = SECONDS,
    ) -> str:
        """Run to the end; what it printed. AssertionError with its errors unless it succeeds."""
        status, out, err = finish(self.command(*program, pcap=pcap, fault=fault), seconds, self.env)
        assert status == 0, f"{program}: exit status {status}\n{out[-2000:]}\n{err[-8000:]}"
        return out

    def start(self, *program: str, pcap: Path | None = None, fault: str = "") -> Program:
        """Start in the background."""
        command = self.command(*program, pcap=pcap, fault=fault)
        return Program(*command, env=clean_environment(**self.env))


# The stack's loopback alone.
LO: Final = Place("lo", "127.0.0.1", "127.0.0.1")


def python(program: Sequence[str]) -> list[str]:
    """*program* with this interpreter before it, unless it names another command."""
    first, *rest = program
    if first.endswith(".py"):
        return [sys.executable, str(APPS / first), *rest]
    if first == "-m":
        return [sys.executable, first, *rest]
    return list(program)


def finish(
    command: Sequence[str], seconds: float, env: dict[str, str] | None = None
) -> tuple[int, str, str]:
    """Exit status, output and errors of *command*; one that hangs says where, and fails."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean_environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler prints every thread's stack
            try:
                out, err = process.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            err = f"still running after {seconds} s\n{err}"
        except BaseException:
            process.kill()
            raise
    return process.returncode, out, err
