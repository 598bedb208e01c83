"""The process's stack and a client stack share a NIC, an address and a space of ports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.helpers.netns import Namespace, ip, namespace, veth
from tests.helpers.servers import ROOT
from tests.interop.launch import APPS, SECONDS, clean_environment

PEER, OURS = "10.99.2.1", "10.99.2.2"


def tcp_counters(ns: Namespace) -> dict[str, int]:
    """The kernel's, by name."""
    text = ns.run("cat", "/proc/net/snmp", capture_output=True).stdout
    lines = [line.split() for line in text.splitlines()]
    names, values = (line[1:] for line in lines if line[0] == "Tcp:")
    return dict(zip(names, map(int, values), strict=True))


@pytest.mark.root
def test_legacy_and_client_at_the_same_time() -> None:
    with namespace() as near, namespace() as far:
        veth(near, "x0", far, "x1")
        ip("addr", "add", f"{PEER}/24", "dev", "x1", netns=far.name)
        echo = subprocess.Popen(
            [*far.prefix, sys.executable, str(APPS / "echo.py"), PEER, "6000", OURS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        ours = subprocess.Popen(
            [
                *near.prefix, sys.executable, "-m", "tests.interop.apps.beside",
                "af_packet:x0", f"{OURS}/24", PEER, "6000",
            ],
            stdout=subprocess.PIPE, text=True, cwd=ROOT, env=clean_environment(),
        )  # fmt: skip
        far.processes += [echo, ours]
        assert echo.stdin
        assert echo.stdout
        assert ours.stdout
        assert ours.stdout.readline() == "listening\n"
        echo.stdin.write("\n")
        echo.stdin.flush()
        assert "same\n" in (echo.stdout.readline(), echo.stdout.readline())
        out, _ = ours.communicate(timeout=SECONDS)
        seen = json.loads(out)
        assert seen["served"]
        assert not set(seen["legacy"]) & set(seen["client"])
        counted = tcp_counters(far)
        # No connection was reset, and none was refused, on either side's behalf.
        assert counted["EstabResets"] == counted["AttemptFails"] == counted["OutRsts"] == 0
        assert counted["PassiveOpens"] == len(seen["legacy"]) + len(seen["client"])
        echo.stdin.close()
        echo.wait(SECONDS)
