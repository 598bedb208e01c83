"""Frames to send and eyes to look at what came: IPv4 and IPv6, TCP and UDP.

Frames are built by hand here, with or without their last work done, and judged
by scapy, so that no mistake of ours confirms itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from nic import Gso, Offload

TCP_HEADER, UDP_HEADER = 20, 8
PORTS = (61001, 61002)  # nobody's protocol, so nobody dissects the payload
ADDRESS = {
    4: (bytes((10, 9, 0, 1)), bytes((10, 9, 0, 2))),
    6: (bytes.fromhex("fd" + "00" * 14 + "01"), bytes.fromhex("fd" + "00" * 14 + "02")),
}


def ones_sum(data: bytes) -> int:
    """The Internet checksum's sum, RFC 1071, not complemented."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame and what is left to do to it."""

    data: bytes
    todo: Offload


def ethernet(dst: bytes, src: bytes, version: int) -> bytes:
    return dst + src + (b"\x08\x00" if version == 4 else b"\x86\xdd")


def build(
    link: bytes, version: int, proto: int, payload: bytes, *, gso_size: int = 0, number: int = 0
) -> Frame:
    """A packet behind *link* (an Ethernet header, or nothing) with its checksum left to do."""
    src, dst = ADDRESS[version]
    l4len = (TCP_HEADER if proto == 6 else UDP_HEADER) + len(payload)
    pseudo = ones_sum(src + dst + struct.pack("!II", l4len, proto))
    if proto == 6:
        head = struct.pack("!HHIIBBHHH", *PORTS, 1 + number, 0, 0x50, 0x10, 512, pseudo, 0)
        offset, gso = 16, Gso.TCPV4 if version == 4 else Gso.TCPV6
    else:
        head = struct.pack("!HHHH", *PORTS, l4len, pseudo)
        offset, gso = 6, Gso.UDP_L4
    if version == 4:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + l4len, number & 0xFFFF, 0x4000, 64, proto, 0)
        ip += src + dst
        ip = ip[:10] + struct.pack("!H", 0xFFFF ^ ones_sum(ip)) + ip[12:]
    else:
        ip = struct.pack("!IHBB", 0x60000000, l4len, proto, 64) + src + dst
    todo = Offload(
        csum=True,
        csum_start=len(link) + len(ip),
        csum_offset=offset,
        gso=gso if gso_size else Gso.NONE,
        gso_size=gso_size,
    )
    return Frame(link + ip + head + payload, todo)


def finished(frame: Frame) -> bytes:
    """The bytes of *frame* with its checksum done, as an interface without offloads sends it."""
    data, at = frame.data, frame.todo.csum_start + frame.todo.csum_offset
    total = 0xFFFF ^ ones_sum(data[frame.todo.csum_start :])
    return data[:at] + struct.pack("!H", total or 0xFFFF) + data[at + 2 :]


def parse(data: bytes, link: str) -> Any:
    """What scapy makes of a frame."""
    if link == "ethernet":
        return Ether(data)
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def is_sound(data: bytes, link: str) -> bool:
    """Whether scapy, building the same packet anew, gets the same checksums and lengths."""
    fresh = parse(data, link)
    for layer, fields in ((IP, ("chksum", "len")), (IPv6, ("plen",)), (TCP, ("chksum",))):
        if layer in fresh:
            for field in fields:
                delattr(fresh[layer], field)
    if UDP in fresh:
        del fresh[UDP].chksum, fresh[UDP].len
    return bytes(fresh) == data


def payload_of(data: bytes, link: str) -> bytes:
    """The bytes behind the transport header."""
    packet = parse(data, link)
    return bytes((packet[TCP] if TCP in packet else packet[UDP]).payload)


def sequence_of(data: bytes, link: str) -> int:
    """TCP's sequence number, or 0 for UDP."""
    packet = parse(data, link)
    return int(packet[TCP].seq) if TCP in packet else 0
