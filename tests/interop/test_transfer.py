"""Unmodified programs move files between the stack and nginx or iperf3, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import servers
from tests.helpers.iperf3 import payload
from tests.helpers.servers import Blob, Web
from tests.interop.launch import BAD_LINK, Place

BAD = {"0", "Bad"}  # tshark: tcp.checksum.status, ip.checksum.status


def check_capture(capture: Path, sender: str, size: int) -> None:
    """Nothing in it that tshark objects to, and at least *size* bytes from *sender*."""
    rows = servers.tshark(
        capture, "_ws.malformed", "ip.checksum.status", "tcp.checksum.status", "ip.src", "tcp.len"
    )
    wrong = [(i, row) for i, row in enumerate(rows, 1) if row[0] or BAD.intersection(row[1:3])]
    assert wrong == []
    assert sum(int(row[4]) for row in rows if row[3] == sender) >= size


@pytest.fixture(params=["plain", pytest.param("faults", marks=pytest.mark.slow)])
def link(request: pytest.FixtureRequest) -> tuple[str, Blob]:
    """The faults between stack and peer, and what to move across them."""
    faults = request.param == "faults"
    wanted: Blob = request.getfixturevalue("small" if faults else "large")
    return (BAD_LINK if faults else ""), wanted


def fetched(out: str) -> tuple[int, str]:
    answer = json.loads(out)
    return answer["size"], answer["sha256"]


@pytest.mark.servers("nginx", "tshark")
def test_urllib_fetches_from_the_host(
    ordinary: Place, web: Web, large: Blob, tmp_path: Path
) -> None:
    """Without privileges, and with a capture."""
    capture = tmp_path / "capture.pcapng"
    url = web.url(large.path.name, ordinary.peer)
    assert fetched(ordinary.run("fetch.py", url, pcap=capture)) == (large.size, large.sha256)
    check_capture(capture, ordinary.peer, large.size)


@pytest.mark.servers("nginx")
def test_urllib_fetches_from_the_host_as_we_are(usernet: Place, web: Web, large: Blob) -> None:
    """With whatever privileges the tests have."""
    out = usernet.run("fetch.py", web.url(large.path.name, usernet.peer))
    assert fetched(out) == (large.size, large.sha256)


@pytest.mark.servers("nginx")
def test_urllib_uploads_to_the_host(usernet: Place, web: Web, large: Blob) -> None:
    target = "up/usernet.bin"
    out = usernet.run("upload.py", str(large.path), web.url(target, usernet.peer))
    assert out.split() == ["201"]
    assert servers.sha256(web.root / target) == large.sha256
    (web.root / target).unlink()


@pytest.mark.slow
@pytest.mark.servers("nginx")
def test_urllib_fetches_from_the_host_over_a_bad_link(
    usernet: Place, web: Web, small: Blob
) -> None:
    out = usernet.run("fetch.py", web.url(small.path.name, usernet.peer), fault=BAD_LINK)
    assert fetched(out) == (small.size, small.sha256)


@pytest.mark.root
@pytest.mark.servers("nginx")
def test_urllib_fetches(place: Place, place_web: Web, link: tuple[str, Blob]) -> None:
    fault, file = link
    out = place.run("fetch.py", place_web.url(file.path.name), fault=fault)
    assert fetched(out) == (file.size, file.sha256)


@pytest.mark.root
@pytest.mark.servers("nginx")
def test_urllib_uploads(place: Place, place_web: Web, link: tuple[str, Blob]) -> None:
    fault, file = link
    target = "up/place.bin"
    out = place.run("upload.py", str(file.path), place_web.url(target), fault=fault)
    assert out.split() in (["201"], ["204"])  # 204: it was there
    assert servers.sha256(place_web.root / target) == file.sha256
    (place_web.root / target).unlink()


@pytest.mark.root
@pytest.mark.servers("iperf3")
def test_iperf3_receives(place: Place, link: tuple[str, Blob], tmp_path: Path) -> None:
    fault, file = link
    sink = tmp_path / "received"
    with servers.iperf3(host=place.peer, sink=sink, prefix=place.peer_prefix) as port:
        out = json.loads(
            place.run("-m", "tests.helpers.iperf3", place.peer, str(port), str(file.size),
                      "--sink", str(sink), fault=fault)
        )  # fmt: skip
    assert out["sent"] == out["received"] == file.size
    assert servers.sha256(sink) == out["sha256"] == payload(file.size).hexdigest()


@pytest.mark.root
@pytest.mark.servers("iperf3")
def test_iperf3_sends(place: Place, link: tuple[str, Blob]) -> None:
    """The client compares every byte with what the server was asked to send."""
    fault, file = link
    with servers.iperf3(host=place.peer, prefix=place.peer_prefix) as port:
        out = json.loads(
            place.run("-m", "tests.helpers.iperf3", place.peer, str(port), str(file.size),
                      "--reverse", fault=fault)
        )  # fmt: skip
    assert out["received"] == out["sent"] >= file.size


@pytest.mark.root
@pytest.mark.servers("nginx", "tshark")
def test_captures_are_well_formed(
    place: Place, place_web: Web, small: Blob, tmp_path: Path
) -> None:
    """Super-segments and unfinished checksums of offloads included."""
    capture = tmp_path / "capture.pcapng"
    out = place.run("fetch.py", place_web.url(small.path.name), pcap=capture)
    assert fetched(out) == (small.size, small.sha256)
    check_capture(capture, place.peer, small.size)


@pytest.mark.root
@pytest.mark.servers("nginx")
@pytest.mark.parametrize("offload", ["off", "csum"])
def test_without_offloads(place: Place, place_web: Web, small: Blob, offload: str) -> None:
    """A NIC that does less gets the same bytes across, both ways."""
    less = Place(
        f"{place.nic},offload={offload}", place.own, place.peer, place.options, place.prefix,
        place.peer_prefix,
    )  # fmt: skip
    out = less.run("fetch.py", place_web.url(small.path.name))
    assert fetched(out) == (small.size, small.sha256)
    target = f"up/{offload}.bin"
    less.run("upload.py", str(small.path), place_web.url(target))
    assert servers.sha256(place_web.root / target) == small.sha256
    (place_web.root / target).unlink()
