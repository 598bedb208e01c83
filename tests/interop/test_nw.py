"""nw connections beside an unmodified program, on one NIC of one process, against nginx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.netns import ip, namespace, veth
from tests.helpers.servers import Blob, Certificate, Web, nginx
from tests.interop.launch import Place

OURS, PEER = "10.98.7.2", "10.98.7.1"


@pytest.fixture
def cable(tmp_path: Path, content: Path) -> Iterator[tuple[Place, Web, Certificate]]:
    """Two namespaces: a NIC of ours in one, nginx with TLS in the other."""
    work = tmp_path / "nginx"
    work.mkdir()
    certificate = Certificate.make(tmp_path, PEER)
    with namespace() as near, namespace() as far:
        veth(near, "x0", far, "x1")
        ip("addr", "add", f"{PEER}/24", "dev", "x1", netns=far.name)
        place = Place("af_packet:x0", OURS, PEER, ("--addr", f"{OURS}/24"), tuple(near.prefix))
        with nginx(work, content, host=PEER, certificate=certificate, prefix=far.prefix) as web:
            yield place, web, certificate


@pytest.mark.root
@pytest.mark.servers("nginx")
@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_nw_and_httpx_and_requests_at_once(
    cable: tuple[Place, Web, Certificate], large: Blob, loop: str
) -> None:
    place, web, certificate = cable
    name = large.path.name
    out = place.run(
        "nw_fetch.py", web.tls_url(name), str(certificate.authority), PEER, str(web.tls_port),
        name, loop, seconds=55,
    )  # fmt: skip
    hashes = json.loads(out)
    assert hashes == dict.fromkeys(("nw", "httpx", "requests"), large.sha256)
