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


@pytest.mark.root
def test_the_way_of_a_client_gets_narrow() -> None:
    """A router that says how much fits is heard by the client whose packet it dropped."""
    with namespace() as near, namespace() as mid, namespace() as far:
        veth(near, "x0", mid, "x1")
        veth(mid, "y0", far, "y1")
        ip("addr", "add", f"{PEER}/24", "dev", "x1", netns=mid.name)
        ip("addr", "add", "10.99.3.1/24", "dev", "y0", netns=mid.name)
        ip("addr", "add", "10.99.3.2/24", "dev", "y1", netns=far.name)
        ip("link", "set", "y0", "mtu", "1000", netns=mid.name)
        ip("route", "add", "default", "via", "10.99.3.1", netns=far.name)
        mid.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        far.start(sys.executable, str(APPS / "echo.py"), "10.99.3.2", "6000", ready="ready")
        done = subprocess.run(
            [
                *near.prefix, sys.executable, "-m", "tests.interop.apps.narrow",
                "af_packet:x0", f"{OURS}/24", PEER, "10.99.3.2", "6000",
            ],
            capture_output=True, text=True, cwd=ROOT, env=clean_environment(), check=True,
            timeout=SECONDS,
        )  # fmt: skip
        assert json.loads(done.stdout) == {"same": True, "mtu": 1000, "refused": True}
