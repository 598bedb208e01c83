"""ICMP echo from a stack (RFC 792)."""

import os
import struct
from time import monotonic
from typing import Any, Final

from xsock import _resolver
from xsock._wiring import Stack

__all__ = ["checksum", "echo"]

ICMP: Final = 1
SOCK_RAW: Final = 3
AF_INET: Final = 2
ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
HEADER: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~int(total) & 0xFFFF


def echo(stack: Stack, host: str, sequence: int, size: int, timeout: float) -> dict[str, Any]:
    """One request: ``address``, and ``ms`` with ``ttl`` or ``failure``."""
    packed, _ = _resolver.lookup_one(stack.host, host.encode(), AF_INET)
    address = ".".join(map(str, packed))
    identifier = os.getpid() & 0xFFFF
    payload = bytes(i & 0xFF for i in range(size))
    head = HEADER.pack(ECHO, 0, 0, identifier, sequence & 0xFFFF)
    request = HEADER.pack(ECHO, 0, checksum(head + payload), identifier, sequence & 0xFFFF)
    with stack.core.socket(AF_INET, SOCK_RAW, ICMP) as sock:
        start = monotonic()
        sock.sendto(request + payload, address, 0)
        while (left := start + timeout - monotonic()) > 0:
            try:
                packet, source = sock.recvfrom(65536, int(left * 1e9))
            except BlockingIOError:
                break
            answer = _read(packet, identifier, sequence & 0xFFFF)
            if answer is not None:
                ms = (monotonic() - start) * 1e3
                return {"address": address, "from": source[0], "ms": ms} | answer
    return {"address": address, "failure": "no answer"}


def _read(packet: bytes, identifier: int, sequence: int) -> dict[str, Any] | None:
    """What an IPv4 packet says about our request; None if it is about another."""
    start = (packet[0] & 15) * 4 if packet else 0
    if len(packet) < start + HEADER.size:
        return None
    kind, code, _, ident, number = HEADER.unpack_from(packet, start)
    if kind == ECHO_REPLY and (ident, number) == (identifier, sequence):
        return {"ttl": packet[8], "size": len(packet) - start - HEADER.size}
    if kind in (UNREACHABLE, TIME_EXCEEDED):
        inner = packet[start + HEADER.size :]
        at = (inner[0] & 15) * 4 if inner else 0
        if len(inner) < at + HEADER.size:
            return None
        _, _, _, ident, number = HEADER.unpack_from(inner, at)
        if (ident, number) == (identifier, sequence):
            word = "unreachable" if kind == UNREACHABLE else "time exceeded"
            return {"failure": f"{word} (code {code})"}
    return None
