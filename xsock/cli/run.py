"""Run a Python program, or anything that starts one, on a TCP/IP stack of its own.

    xsock run -- python app.py
    xsock run --nic tap:tap0 --addr 10.0.0.2/24 -- uvicorn app:app

The program is not modified. Its children are covered too: the settings travel in
environment variables (XSOCK_*). Interpreters started with -S, -I or -E
are not, because they ignore both of the ways in.
"""

import argparse
import os
import shutil
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from xsock.cli import UnknownProgram
from xsock.cli._settings import add_settings, settings

__all__ = ["activated", "add_arguments", "command_line", "run"]

HOOK = Path(__file__).resolve().parent.parent / "_pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_settings(parser)
    parser.add_argument("cmd", nargs=argparse.REMAINDER, metavar="-- CMD ...")


def activated(given: dict[str, Any], config: str | None = None) -> dict[str, str]:
    """The environment in which every Python process is patched, with these settings."""
    environ = dict(os.environ)
    environ |= {f"XSOCK_{name.upper()}": str(value) for name, value in given.items()}
    if config is not None:
        environ["XSOCK_CONFIG"] = str(Path(config).absolute())
    if "pcap" in given:
        environ["XSOCK_PCAP"] = str(Path(given["pcap"]).absolute())
    environ.setdefault("XSOCK_CONTROL", "on")
    environ["XSOCK_PATCH"] = "1"
    environ["XSOCK_MAIN_PID"] = str(os.getpid())
    paths = [str(HOOK), *filter(None, [environ.get("PYTHONPATH")])]
    environ["PYTHONPATH"] = os.pathsep.join(paths)
    return environ


def command_line(cmd: list[str]) -> list[str]:
    """What to execute: a program of PATH, a script, or an installed console script."""
    if cmd and cmd[0] == "--":
        cmd = cmd[1:]
    if not cmd:
        raise ValueError("run: nothing to run; write: xsock run [options] -- CMD ...")
    name = cmd[0]
    found = shutil.which(name)
    if found is not None:
        return [found, *cmd[1:]]
    if name.endswith((".py", ".pyz")) and Path(name).is_file():
        return [sys.executable, *cmd]
    for script in entry_points(group="console_scripts"):
        if script.name == name:
            module, _, attribute = script.value.partition(":")
            code = (
                f"import sys; from {module} import {attribute.partition('.')[0]}; "
                f"sys.argv[0] = {name!r}; sys.exit({attribute}())"
            )
            return [sys.executable, "-c", code, *cmd[1:]]
    raise UnknownProgram(
        f"run: {name!r} is neither a program in PATH, a script nor a console script"
    )


def run(given: argparse.Namespace) -> int:
    """Become the program."""
    chosen = settings(given)
    environ = activated(chosen, given.config)
    _check(environ, chosen)
    command = command_line(given.cmd)
    sys.stdout.flush()
    os.execve(command[0], command, environ)


def _check(environ: dict[str, str], chosen: dict[str, Any]) -> None:
    """Fail here, in one line, rather than in the program's first socket."""
    from xsock import _config
    from xsock._wiring import Stack

    Stack(_config.load(environ, **chosen)).close()
