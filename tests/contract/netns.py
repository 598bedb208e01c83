"""A network namespace of the calling thread's own, gone when it is left."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000


def _call(name: str, *args: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def ip(arguments: str) -> None:
    """Run ip(8) in the namespace that the calling thread is in."""
    done = subprocess.run(["ip", *arguments.split()], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {arguments}: {done.stderr}"


def bring_up(*names: str) -> None:
    """Set interfaces up and wait until they pass frames.

    The kernel puts the queue of an interface into service some time after its
    carrier has come, and then calls it operational; what is sent before vanishes
    without an error.
    """
    for name in names:
        ip(f"link set {name} up")
    for _ in range(1000):
        shown = subprocess.run(["ip", "-json", "link", "show"], capture_output=True, text=True)
        links = {link["ifname"]: link for link in json.loads(shown.stdout)}
        if all(_passes(links[name]) for name in names):
            return
    raise AssertionError(f"{', '.join(names)}: still no queue: {links}")


def _passes(link: dict[str, str]) -> bool:
    """Whether what is sent on an interface, as ``ip -json`` shows it, goes out.

    One of a pair shows a queue before it is used; one without a peer has no
    operational state.
    """
    if "link" in link:
        return link["operstate"] == "UP"
    return link.get("qdisc", "noop") != "noop"


@contextmanager
def namespace() -> Iterator[None]:
    """Be in a fresh namespace without IPv6, so that nobody speaks unasked.

    What is opened in it stays in it; children started in it start in it.
    """
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _call("unshare", CLONE_NEWNET)
        try:
            for which in ("all", "default"):
                with open(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6", "w") as knob:
                    knob.write("1")
            yield
        finally:
            _call("setns", before, CLONE_NEWNET)
    finally:
        os.close(before)
