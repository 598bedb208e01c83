"""The embedded gateway against slirp4netns: the same bytes to and from the host's loopback."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.case import ROOT, Bar, Case, work
from tests.helpers.netns import Namespace, namespace

PORT = 5002
MIB = 512
HOST = "10.0.2.2"  # the gateway: the host's loopback, in both


@contextmanager
def _lab() -> Iterator[Namespace]:
    if shutil.which("slirp4netns") is None:
        raise SystemExit("usernet-bulk: slirp4netns is missing: apt-get install slirp4netns")
    with namespace() as ns:
        holder = ns.start("sh", "-c", "echo ready; exec sleep 600", ready="ready")
        slirp = subprocess.Popen(
            ["slirp4netns", "--configure", "--mtu=65520", "--ready-fd=1", str(holder.pid), "tap0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert slirp.stdout is not None
            slirp.stdout.read(1)
            yield ns
        finally:
            slirp.kill()
            slirp.wait()
            if slirp.stdout:
                slirp.stdout.close()


def _one(ns: Namespace, server: list[str], client: str, stack: bool) -> float:
    peer = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.work", server[0], "127.0.0.1", str(PORT), *server[1:]],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert peer.stdout is not None
        peer.stdout.readline()
        return work(client, HOST, PORT, MIB, stack=stack, prefix=None if stack else ns.prefix)
    finally:
        peer.wait(30)
        peer.stdout.close() if peer.stdout else None


def _both(ns: Namespace, stack: bool) -> float:
    """MiB/s over the two directions together."""
    up = _one(ns, ["sink"], "send_to", stack)
    down = _one(ns, ["source", str(MIB)], "recv_from", stack)
    return 2 / (1 / up + 1 / down)


CASES = [
    Case(
        name="usernet-bulk",
        about="one flow up, then one down, through the gateway; peer slirp4netns",
        unit="MiB/s",
        bar=Bar(1.0),
        ours=lambda ns: _both(ns, True),
        peer=lambda ns: _both(ns, False),
        lab=_lab,
    )
]
