"""Places to run programs in, and what real servers there serve."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.netns import ip, namespace, tap, veth
from tests.helpers.servers import Blob, Certificate, Web, blob, nginx, redis
from tests.interop.launch import GATEWAY, Place

MB = 1_000_000
# Ways for root to start a program that has no privileges but can still read its files,
# in the host's network namespace: as another uid, or at least without capabilities.
LOWERED = (
    ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--"),
    ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"),
)


@pytest.fixture(scope="session")
def lowered() -> tuple[str, ...]:
    """What goes before a command so that it runs as an ordinary user's; nothing for those."""
    if os.geteuid() != 0:
        return ()
    why = ""
    for prefix in LOWERED:
        probe = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
        if probe.returncode == 0:
            return prefix
        why = probe.stderr.strip()
    pytest.skip(f"root cannot lower its privileges here: {why}")


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that web servers serve."""
    return tmp_path_factory.mktemp("content")


@pytest.fixture(scope="session")
def large(content: Path) -> Blob:
    return blob(content / "large.bin", 100 * MB)


@pytest.fixture(scope="session")
def small(content: Path) -> Blob:
    """What crosses a bad link in a few seconds."""
    return blob(content / "small.bin", 3 * MB)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    return Certificate.make(folder, GATEWAY, "localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def web(
    tmp_path_factory: pytest.TempPathFactory, content: Path, certificate: Certificate
) -> Iterator[Web]:
    """An nginx on the host's loopback."""
    work = tmp_path_factory.mktemp("nginx")
    with nginx(work, content, certificate=certificate) as server:
        yield server


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server on the host's loopback."""
    with redis(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def usernet() -> Place:
    """The embedded default, with the privileges of whoever runs the tests."""
    return Place(nic="usernet", own="10.0.2.15", peer=GATEWAY)


@pytest.fixture
def ordinary(lowered: tuple[str, ...]) -> Place:
    """The embedded default, for an ordinary user whoever runs the tests."""
    return Place(nic="usernet", own="10.0.2.15", peer=GATEWAY, prefix=lowered)


@pytest.fixture(scope="module")
def over_tap() -> Iterator[Place]:
    """The kernel's side of a TAP device is the peer."""
    with namespace() as ns:
        tap(ns, "t0", "10.98.1.1/24")
        prefix = tuple(ns.prefix)
        yield Place("tap:t0", "10.98.1.2", "10.98.1.1", ("--addr", "10.98.1.2/24"), prefix, prefix)


@pytest.fixture(scope="module")
def over_af_packet() -> Iterator[Place]:
    """A cable to a namespace where the peer is; our end of it has no address of the kernel's."""
    with namespace() as near, namespace() as far:
        veth(near, "x0", far, "x1")
        ip("addr", "add", "10.99.1.1/24", "dev", "x1", netns=far.name)
        yield Place(
            "af_packet:x0", "10.99.1.2", "10.99.1.1", ("--addr", "10.99.1.2/24"),
            tuple(near.prefix), tuple(far.prefix),
        )  # fmt: skip


@pytest.fixture(scope="module", params=["tap", "af_packet"])
def place(request: pytest.FixtureRequest) -> Place:
    """Each privileged place in turn."""
    found: Place = request.getfixturevalue(f"over_{request.param}")
    return found


@pytest.fixture(scope="module")
def place_web(
    place: Place, tmp_path_factory: pytest.TempPathFactory, content: Path
) -> Iterator[Web]:
    """An nginx on the kernel's side of *place*."""
    with nginx(
        tmp_path_factory.mktemp("nginx"), content, host=place.peer, prefix=place.peer_prefix
    ) as server:
        yield server
