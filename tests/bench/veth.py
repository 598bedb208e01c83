"""Over a veth to a standard-socket peer in another namespace: af_packet against the kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.case import ROOT, Bar, Case, work
from tests.helpers.netns import Namespace, ip, namespace, veth

PORT = 5001


@dataclass(frozen=True, slots=True)
class Lab:
    """Our namespace holds x0 without an address (ours) and k0 with one (the kernel's)."""

    near: Namespace
    far: Namespace


@contextmanager
def _lab() -> Iterator[Lab]:
    with namespace() as near, namespace() as far:
        veth(near, "x0", far, "x1")
        veth(near, "k0", far, "k1")
        ip("addr", "add", "10.99.1.1/24", "dev", "x1", netns=far.name)
        ip("addr", "add", "10.99.2.1/24", "dev", "k1", netns=far.name)
        ip("addr", "add", "10.99.2.2/24", "dev", "k0", netns=near.name)
        yield Lab(near, far)


def _measure(lab: Lab, server: list[object], client: str, amount: int, stack: bool) -> float:
    host = "10.99.1.1" if stack else "10.99.2.1"
    name, *rest = server
    peer = lab.far.start(
        sys.executable, "-m", "tests.bench.work", str(name), host, str(PORT), *map(str, rest),
        ready="ready", cwd=ROOT,
    )  # fmt: skip
    env = {"XSOCK_NIC": "af_packet:x0", "XSOCK_ADDR": "10.99.1.2/24"} if stack else {}
    try:
        return work(client, host, PORT, amount, stack=stack, prefix=lab.near.prefix, **env)
    finally:
        peer.wait(30)


def _case(
    name: str, about: str, unit: str, bar: Bar, server: list[object], client: str, amount: int
) -> Case:
    return Case(
        name=name,
        about=about,
        unit=unit,
        bar=bar,
        ours=lambda lab: _measure(lab, server, client, amount, True),
        peer=lambda lab: _measure(lab, server, client, amount, False),
        lab=_lab,
    )


CASES = [
    _case("veth-send", "one flow sent over af_packet", "MiB/s", Bar(0.6),
          ["sink"], "send_to", 1024),
    _case("veth-recv", "one flow received over af_packet", "MiB/s", Bar(0.6),
          ["source", 1024], "recv_from", 1024),
    _case("veth-rr", "64 bytes there and back over af_packet", "us", Bar(1.5, True),
          ["echo"], "rr_to", 5000),
]  # fmt: skip
