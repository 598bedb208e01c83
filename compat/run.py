"""Runs one test file to its end, however often its process dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
DEADLINE: Final = 30  # seconds a single test may take
PROCESSES: Final = 60  # restarts after which a file is given up

Entry = dict[str, Any]


def isolation() -> list[str]:
    """The command prefix that gives an empty network namespace, or nothing."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        probe = subprocess.run([*prefix, "ip", "link", "set", "lo", "up"], capture_output=True)
        if probe.returncode == 0:
            return prefix
    return []


def _events(path: Path) -> tuple[list[Entry], str | None, bool]:
    """Outcomes so far, the test that was running at the end, and whether all are done."""
    outcomes: list[Entry] = []
    running: str | None = None
    done = False
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if "start" in entry:
            running = entry["start"]
        elif "done" in entry:
            done = True
        else:
            outcomes.append(entry)
            running = None
    return outcomes, running, done


def _process(command: list[str], env: dict[str, str], log: Path, limit: float) -> int:
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return -1
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_file(python: str, name: str, patched: bool, log: Path) -> list[Entry]:
    """Every test of Lib/test/*name*.py of *python*: id, status, cause, inet, seconds.

    A test that runs into its deadline, or takes its process with it, has the status "hang" or
    "crash"; the others go on in a new process.
    """
    env = os.environ | {
        "PYTHONPATH": f"{ROOT / 'compat/inject'}:{ROOT}",
        "XSOCK_COMPAT_PATCH": "1" if patched else "0",
        "XSOCK_LOOPBACK": "stack",
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    with tempfile.TemporaryDirectory(prefix="xsock-compat-") as temp:
        ledger, skip = Path(temp, "ledger"), Path(temp, "skip")
        ledger.touch()
        skip.touch()
        inner = (
            f"ip link set lo up; exec {python} -m compat.inside {name} {ledger} {DEADLINE} {skip}"
        )
        prefix = isolation()
        if not prefix:
            inner = inner.split("; ", 1)[1]
        lost: list[Entry] = []
        for _ in range(PROCESSES):
            code = _process([*prefix, "sh", "-c", inner], env, log, 900)
            outcomes, running, done = _events(ledger)
            if done:
                break
            if running is None and not outcomes and not lost:
                raise RuntimeError(f"{name} could not be started with {python}: see {log}")
            if running is None:
                break
            status = "hang" if code in (1, -1) else "crash"
            lost.append(
                {"id": running, "status": status, "cause": f"process ended with {code}",
                 "inet": True, "seconds": DEADLINE}
            )  # fmt: skip
            settled = {e["id"] for e in outcomes} | {e["id"] for e in lost}
            skip.write_text("\n".join(sorted(settled)))
        return outcomes + lost
