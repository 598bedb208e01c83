"""Show the main job: an unmodified program fetches a file from a server of this host.

The program is plain urllib; its TCP is not the host's but a stack's inside its
own process, and its way out the embedded gateway. Needs no privileges.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from xsock.cli._settings import add_settings, settings
from xsock.cli.netstat import SHOW

__all__ = ["add_arguments", "run"]

MEGABYTES: Final = 8
HEAD, TAIL = 6, 4  # packets of the trace shown at each end
PROGRAM: Final = """\
import hashlib, sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as reply:
    body = reply.read()
print(len(body), hashlib.sha256(body).hexdigest(), flush=True)
sys.stdin.readline()
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_settings(parser)


@contextmanager
def _server(folder: str) -> Iterator[int]:
    """A web server on the host's own sockets; its port."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("XSOCK_")}
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1",
               "--directory", folder, "0"]  # fmt: skip
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            yield int(words[words.index("port") + 1])
        finally:
            process.terminate()


def run(given: argparse.Namespace) -> int:
    """0 if every byte arrived."""
    chosen = settings(given)
    capture = Path(chosen.setdefault("pcap", str(_capture()))).absolute()
    content = os.urandom(1 << 20) * MEGABYTES
    with tempfile.TemporaryDirectory(prefix="xsock-demo-") as folder:
        Path(folder, "file").write_bytes(content)
        with _server(folder) as port:
            ok = _fetch(chosen, given.config, f"http://127.0.0.1:{port}/file", content)
    _trace(capture)
    return 0 if ok else 1


def _capture() -> Path:
    return Path(tempfile.gettempdir(), f"xsock-demo-{os.getpid()}.pcapng")


def _fetch(chosen: dict[str, Any], config: str | None, url: str, content: bytes) -> bool:
    from xsock.cli.run import activated

    command = [sys.executable, "-c", PROGRAM, url]
    environ = activated(chosen, config)
    del environ["XSOCK_MAIN_PID"]  # it captures to the file itself, not as a child of ours
    print(f"$ xsock run --pcap {chosen['pcap']} -- python fetch.py {url}")
    with subprocess.Popen(
        command, env=environ,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        answer = process.stdout.readline().split()
        if len(answer) != 2:
            return False
        ok = answer == [str(len(content)), hashlib.sha256(content).hexdigest()]
        print(f"{answer[0]} bytes fetched, {'identical' if ok else 'NOT IDENTICAL'}")
        _show(process.pid)
        process.stdin.write("\n")
    return ok and process.returncode == 0


def _show(pid: int) -> None:
    from xsock._control import ask

    for title, what in (("sockets", "sockets"), ("interfaces", "interfaces")):
        print(f"\n{title} of the program's stack:")
        print("\n".join(SHOW[what](ask(pid, "netstat", what=what))))
    gateway = ask(pid, "gateway")
    if gateway is not None:
        print("\ngateway: " + ", ".join(f"{name} {value}" for name, value in gateway.items()))
    counters = ask(pid, "netstat", what="counters")
    print("\ncounters of TCP that are not 0:")
    chosen = [f"{value:>10}  {name}" for name, value in counters.items()
              if value and name.startswith("tcp")]  # fmt: skip
    print("\n".join(chosen[:20]))


def _trace(path: Path) -> None:
    from xsock._pcapng import describe, packets

    seen = list(packets(path))
    print(f"\npackets, {len(seen)} in all:")
    first = seen[0].time if seen else 0
    shown = seen if len(seen) <= HEAD + TAIL else [*seen[:HEAD], None, *seen[-TAIL:]]
    for packet in shown:
        if packet is None:
            print("      ...")
        else:
            print(f"{(packet.time - first) / 1e9:10.6f} {describe(packet)}")
    print(f"\nThe capture is {path}; read it with: tshark -r {path}")
