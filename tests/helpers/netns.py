"""Network namespaces for tests: made by us, gone with the test.

Needs root. Traffic stays between the namespaces: they have no way out.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_serial = itertools.count()


def ip(*args: str, netns: str | None = None) -> str:
    """Run ip(8), inside *netns* if given; its output. CalledProcessError says why not."""
    command = ["ip", *(["-n", netns] if netns else []), *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass
class Namespace:
    """A namespace with lo up; everything started in it dies with it."""

    name: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def run(self, *command: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [*self.prefix, *command], check=True, text=True, **kwargs
        )

    def start(
        self, *command: str, ready: str | None = None, **kwargs: object
    ) -> subprocess.Popen[str]:
        """Start *command*; with *ready*, return once a line of stdout holds it."""
        process: subprocess.Popen[str] = subprocess.Popen(
            [*self.prefix, *command],
            text=True,
            stdout=subprocess.PIPE if ready else subprocess.DEVNULL,
            **kwargs,  # type: ignore[call-overload]
        )
        self.processes.append(process)
        if ready:
            assert process.stdout is not None
            for line in process.stdout:
                if ready in line:
                    return process
            raise RuntimeError(f"{command[0]} ended before it was ready")
        return process


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A new namespace of a name of its own."""
    ns = Namespace(f"xs{os.getpid()}n{next(_serial)}")
    ip("netns", "add", ns.name)
    try:
        ip("link", "set", "lo", "up", netns=ns.name)
        yield ns
    finally:
        for process in ns.processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        ip("netns", "del", ns.name)


def veth(a: Namespace, a_if: str, b: Namespace, b_if: str) -> None:
    """A cable between two namespaces, both ends up, without addresses."""
    ip("link", "add", a_if, "netns", a.name, "type", "veth", "peer", "name", b_if, "netns", b.name)
    for ns, name in ((a, a_if), (b, b_if)):
        ns.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
        ip("link", "set", name, "up", netns=ns.name)


def tap(ns: Namespace, name: str, address: str | None = None) -> None:
    """A persistent TAP device in *ns*, up, with *address* ("10.0.0.1/24") on the kernel's side."""
    ip("tuntap", "add", "dev", name, "mode", "tap", netns=ns.name)
    ns.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")
    if address:
        ip("addr", "add", address, "dev", name, netns=ns.name)
    ip("link", "set", name, "up", netns=ns.name)
