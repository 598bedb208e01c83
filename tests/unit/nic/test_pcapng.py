"""A capture as other people's programs read it: tshark finds nothing wrong with it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nic import FaultSpec, Port, open_pair, wrap_fault, wrap_pcapng
from tests.contract.frames import build, ethernet

EPOCH_NS = 1_700_000_000 * 10**9
MS = 10**6
KINDS = [(4, 6), (4, 17), (6, 6), (6, 17)]
FIELDS = [
    "frame.time_epoch",
    "frame.interface_name",
    "frame.packet_flags_direction",
    "frame.packet_flags_reception_type",
    "frame.len",
    "frame.cap_len",
    "frame.comment",
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "_ws.malformed",
    "_ws.expert.severity",
]
WARNING = 0x00600000  # PI_WARN of Wireshark's expert information
GOOD = 1


def tshark(path: Path) -> list[dict[str, Any]]:
    """What tshark, told to verify every checksum, says of each packet."""
    command = ["tshark", "-r", str(path), "-T", "json", "-n"]
    for layer in ("ip", "tcp", "udp"):
        command += ["-o", f"{layer}.check_checksum:TRUE"]
    for field in FIELDS:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def numbers(packet: dict[str, Any], field: str) -> list[int]:
    """A field's values, which some versions of tshark write in hexadecimal."""
    return [int(value, 0) for value in packet.get(field, [])]


def traffic(near: Port, far: Port, link: str) -> int:
    """Every kind of packet with its work left to do, whole and super, both ways."""
    sent = 0
    for version, proto in KINDS:
        for gso, size in ((0, 0), (0, 1), (0, 999), (1400, 1401), (1400, 60000)):
            if proto == 17 and size == 0:
                continue  # a datagram of nothing is no more than its header
            for source, sink in ((near, far), (far, near)):
                head = b""
                if link == "ethernet":
                    head = ethernet(sink.info.mac, source.info.mac, version)
                frame = build(head, version, proto, bytes(size), gso_size=gso, number=1 + sent)
                source.send(frame.data, MS * sent, frame.todo)
                while sink.recv(MS * sent) is not None:
                    pass
                sent += 1
    return sent


@pytest.mark.servers("tshark")
@pytest.mark.parametrize("link", ["ethernet", "rawip"])
def test_tshark_finds_no_fault(tmp_path: Path, link: str) -> None:
    path = tmp_path / "x.pcapng"
    near, far = open_pair(link)
    with wrap_pcapng(near, path, name="near0", epoch_offset_ns=EPOCH_NS) as near, far:
        near.comment("the first of them: ünïcode")
        sent = traffic(near, far, link)
        assert near.capture_statistics().packets == sent
    packets = tshark(path)
    assert len(packets) == sent
    for number, packet in enumerate(packets):
        assert "_ws.malformed" not in packet
        assert packet["frame.interface_name"] == ["near0"]
        assert packet["frame.time_epoch"] == [f"1700000000.{number * MS:09d}"]
        assert numbers(packet, "frame.packet_flags_direction") == [2 - number % 2]
        assert packet["frame.cap_len"] == packet["frame.len"]
        for layer in ("ip", "tcp", "udp"):
            assert numbers(packet, f"{layer}.checksum.status") in ([], [GOOD])
        assert max(numbers(packet, "_ws.expert.severity"), default=0) <= WARNING
        if link == "ethernet":
            assert numbers(packet, "frame.packet_flags_reception_type") == [1]
    comments = [packet.get("frame.comment") for packet in packets]
    assert comments == [["the first of them: ünïcode"]] + [None] * (sent - 1)


@pytest.mark.servers("tshark")
def test_tshark_sees_what_the_faults_did(tmp_path: Path) -> None:
    """A capture inside the fault shows the wire, one outside shows what the stack meant."""
    near, far = open_pair(queue=1024)
    near = wrap_pcapng(near, tmp_path / "wire.pcapng")
    near = wrap_fault(near, FaultSpec(corrupt=0.5, dup=0.2, seed=9))
    near = wrap_pcapng(near, tmp_path / "meant.pcapng")
    head = ethernet(far.info.mac, near.info.mac, 4)
    with near, far:
        for number in range(100):
            frame = build(head, 4, 6, bytes(800), number=number)
            near.send(frame.data, number * MS, frame.todo)
        faults = near.fault_statistics("tx")
    meant, wire = tshark(tmp_path / "meant.pcapng"), tshark(tmp_path / "wire.pcapng")
    assert len(meant) == 100
    assert all(numbers(packet, "tcp.checksum.status") == [GOOD] for packet in meant)
    assert len(wire) == 100 + faults.duplicated
    bad = [
        packet
        for packet in wire
        if numbers(packet, "tcp.checksum.status") != [GOOD]
        or numbers(packet, "ip.checksum.status") != [GOOD]
    ]
    # A bit of the Ethernet header is covered by no checksum of ours.
    assert 0.9 * faults.corrupted <= len(bad) <= faults.corrupted


@pytest.mark.servers("tshark")
def test_a_short_capture_keeps_lengths(tmp_path: Path) -> None:
    near, far = open_pair()
    with wrap_pcapng(near, tmp_path / "x.pcapng", snaplen=96) as near, far:
        head = ethernet(far.info.mac, near.info.mac, 6)
        frame = build(head, 6, 6, bytes(5000), gso_size=1000)
        near.send(frame.data, 0, frame.todo)
    (packet,) = tshark(tmp_path / "x.pcapng")
    assert (packet["frame.cap_len"], packet["frame.len"]) == (["96"], [str(len(frame.data))])
    assert "_ws.malformed" not in packet
