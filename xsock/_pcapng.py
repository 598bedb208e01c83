"""Reads a capture back for display: packets of a pcapng file as lines of text."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bsdcore._ffi import ffi, lib

__all__ = ["Packet", "describe", "packets"]

SECTION, INTERFACE, ENHANCED = 0x0A0D0D0A, 1, 6
LINK_ETHERNET: Final = 1
BLOCK: Final = struct.Struct("<II")
PACKET: Final = struct.Struct("<IIIII")  # interface, time high, time low, captured, original
LINE_MAX: Final = 256


class Packet(NamedTuple):
    """*time* is in nanoseconds; *link* 0 Ethernet, 1 raw IP."""

    time: int
    link: int
    data: bytes


def packets(path: Path) -> Iterator[Packet]:
    """The packets of a file that nic wrote: little-endian, nanoseconds. Stops at a torn end."""
    data = path.read_bytes()
    links: list[int] = []
    at = 0
    while at + BLOCK.size <= len(data):
        kind, length = BLOCK.unpack_from(data, at)
        if length < 12 or length % 4 or at + length > len(data):
            return
        body = data[at + BLOCK.size : at + length - 4]
        at += length
        if kind == INTERFACE and len(body) >= 2:
            links.append(0 if int.from_bytes(body[:2], "little") == LINK_ETHERNET else 1)
        elif kind == ENHANCED and len(body) >= PACKET.size:
            interface, high, low, captured, _ = PACKET.unpack_from(body)
            frame = body[PACKET.size : PACKET.size + captured]
            if interface < len(links):
                yield Packet(high << 32 | low, links[interface], frame)


def describe(packet: Packet) -> str:
    """One line, as tcpdump would say it."""
    line = ffi.new("char[]", LINE_MAX)
    lib.bsd_describe(packet.data, len(packet.data), packet.link, line, LINE_MAX)
    return str(ffi.string(line).decode(errors="replace"))
