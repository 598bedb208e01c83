"""Unmodified servers on the stack, with clients of the kernel's side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers import servers
from tests.helpers.servers import blob
from tests.interop.launch import Place

FILES = 200
PORT = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of different sizes, a few larger than a socket buffer."""
    where = tmp_path_factory.mktemp("served")
    for i in range(FILES):
        blob(where / f"f{i}", 1 + i * 997 + (1_000_000 if i % 50 == 0 else 0))
    return where


@contextmanager
def http_server(place: Place, folder: Path) -> Iterator[None]:
    """``python -m http.server`` on the stack."""
    with place.start(
        "-m", "http.server", str(PORT), "--bind", "0.0.0.0", "--directory", str(folder)
    ) as program:
        program.wait_for("Serving HTTP")
        yield
        assert program.process.poll() is None, program.output
        assert "Traceback" not in program.output, program.output


def fetch_all(place: Place, address: str, folder: Path, into: Path) -> None:
    """FILES requests at once by curl; every file has to be the one it names."""
    servers.curl(
        "--parallel", "--parallel-immediate", "--parallel-max", str(FILES), "--max-time", "45",
        "--output", f"{into}/f#1", f"http://{address}/f[0-{FILES - 1}]",
        prefix=place.peer_prefix,
    )  # fmt: skip
    for i in range(FILES):
        assert servers.sha256(into / f"f{i}") == servers.sha256(folder / f"f{i}"), i


@pytest.mark.root
@pytest.mark.servers("curl")
def test_http_server(place: Place, folder: Path, tmp_path: Path) -> None:
    with http_server(place, folder):
        fetch_all(place, f"{place.own}:{PORT}", folder, tmp_path)


@pytest.mark.servers("curl")
def test_http_server_behind_a_forwarded_port(ordinary: Place, folder: Path, tmp_path: Path) -> None:
    """Without privileges: a port of the host leads in."""
    port = servers.free_port()
    forwarded = Place(
        ordinary.nic, ordinary.own, ordinary.peer, ordinary.options, ordinary.prefix,
        env={"XSOCK_FORWARD": f"tcp:127.0.0.1:{port}:{PORT}"},
    )  # fmt: skip
    with http_server(forwarded, folder):
        fetch_all(forwarded, f"127.0.0.1:{port}", folder, tmp_path)
