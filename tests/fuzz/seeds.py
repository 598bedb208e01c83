"""Makes the inputs under corpus/ that are made and not found.

Run from anywhere: ``python tests/fuzz/seeds.py``; the files come out the same
every time. Other files beside them are inputs that once broke something.
"""

from __future__ import annotations

import struct
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
ME, PEER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
MAC, PEER_MAC = bytes(6), bytes([2, 0, 0, 0, 0, 0x99])
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a0000000100000000 01 030307")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of data."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ether(payload: bytes, kind: int = 0x0800) -> bytes:
    """A frame to the stack: fuzz_frame fills the zeros in."""
    return MAC + PEER_MAC + struct.pack("!H", kind) + payload


def ip(
    payload: bytes,
    proto: int,
    *,
    options: bytes = b"",
    frag: int = 0,
    ident: int = 7,
    ttl: int = 64,
    src: bytes = PEER,
    dst: bytes = ME,
) -> bytes:
    """An IPv4 packet; frag is the flags and offset field as it stands."""
    options += b"\0" * (-len(options) % 4)
    size = 20 + len(options)
    head = struct.pack(
        "!BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), ident, frag, ttl, proto, 0
    )
    head += src + dst + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def transport(data: bytes, proto: int, at: int, src: bytes = PEER, dst: bytes = ME) -> bytes:
    """Data with its checksum put in at that offset."""
    pseudo = src + dst + struct.pack("!BBH", 0, proto, len(data))
    return data[:at] + struct.pack("!H", checksum(pseudo + data)) + data[at + 2 :]


def tcp(
    flags: int,
    seq: int,
    ack: int = 0,
    data: bytes = b"",
    options: bytes = b"",
    port: int = 80,
    urgent: int = 0,
) -> bytes:
    """A TCP segment to the listener (or to another port)."""
    options += b"\1" * (-len(options) % 4)
    head = struct.pack(
        "!HHIIBBHHH", 4242, port, seq, ack, 5 + len(options) // 4 << 4, flags, 8192, 0, urgent
    )
    return transport(head + options + data, 6, 16)


def udp(data: bytes, port: int = 53) -> bytes:
    """A UDP datagram to the open port."""
    return transport(struct.pack("!HHHH", 5353, port, 8 + len(data), 0) + data, 17, 6)


def icmp(kind: int, code: int, rest: bytes, data: bytes) -> bytes:
    """An ICMP message."""
    body = struct.pack("!BBH", kind, code, 0) + rest + data
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def arp(operation: int) -> bytes:
    """Who has 10.0.0.1, or 10.0.0.2 is at."""
    return (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + PEER_MAC + PEER + b"\0" * 6 + ME
    ).ljust(46, b"\0")


def records(*frames: bytes, steps: int = 10, trust: bool = False) -> bytes:
    """The input of fuzz_frame: length modulo 1600, time step, frame.

    Bit 0 of the first byte says that checksums are not verified.
    """
    out = b""
    for frame in frames:
        size = next(n for n in range(len(frame), 65536, 1600) if out or (n >> 8 & 1) == trust)
        out += struct.pack("!HB", size, steps) + frame
    return out


def frame_seeds() -> dict[str, bytes]:
    """Whole frames, alone and as short conversations."""
    syn = ether(ip(tcp(SYN, 1000, options=SYN_OPTIONS), 6))
    sent = ip(struct.pack("!HHII", 999, 4242, 0, 0), 6, src=ME, dst=PEER)
    echo = ether(ip(icmp(8, 0, b"\0\1\0\1", b"time passes"), 1))
    big = udp(bytes(range(256)) * 8)
    v6 = struct.pack("!IHBB", 6 << 28, 16, 58, 64) + b"\0" * 15 + b"\1" + b"\0" * 15 + b"\1"
    echo6 = struct.pack("!BBHHH", 128, 0, 0, 1, 1) + b"12345678"
    fragments = [
        ether(ip(big[i : i + 1024], 17, frag=(i + 1024 < len(big)) << 13 | i // 8))
        for i in range(0, len(big), 1024)
    ]
    return {
        "syn": records(syn),
        "syn_trusted": records(syn, trust=True),
        "handshake": records(
            syn,
            ether(ip(tcp(ACK, 1001, 1), 6)),
            ether(ip(tcp(ACK | PSH, 1001, 1, b"hello"), 6)),
            ether(ip(tcp(ACK | FIN, 1006, 1), 6)),
            trust=True,
        ),
        "rst": records(syn, ether(ip(tcp(RST, 1001), 6)), trust=True),
        "syn_closed": records(ether(ip(tcp(SYN, 1, port=81), 6))),
        "arp_request": records(ether(arp(1), 0x0806)),
        "arp_reply": records(ether(arp(2), 0x0806)),
        "udp": records(ether(ip(udp(b"query"), 17)), ether(ip(udp(b""), 17))),
        "udp_closed": records(ether(ip(udp(b"x", 54), 17))),
        "fragments": records(*fragments),
        "fragments_back": records(*reversed(fragments), *fragments, steps=60),
        "fragments_overlap": records(
            ether(ip(big[:1024], 17, frag=1 << 13)), ether(ip(big[512:1536], 17, frag=64))
        ),
        "options": records(
            ether(ip(udp(b"rr"), 17, options=bytes.fromhex("07270400000000"))),
            ether(ip(udp(b"ts"), 17, options=bytes.fromhex("44240501") + b"\0" * 32)),
            ether(ip(udp(b"lsrr"), 17, options=bytes.fromhex("830b04 0a000002 0a000003"))),
        ),
        "ping": records(ether(ip(icmp(8, 0, b"\0\1\0\1", b"ping" * 10), 1))),
        "unreachable": records(echo, ether(ip(icmp(3, 3, b"\0" * 4, sent), 1)), trust=True),
        "need_frag": records(echo, ether(ip(icmp(3, 4, b"\0\0\x02\x40", sent), 1)), trust=True),
        "time_exceeded": records(echo, ether(ip(icmp(11, 0, b"\0" * 4, sent), 1)), trust=True),
        "parameter": records(echo, ether(ip(icmp(12, 0, b"\x14\0\0\0", sent), 1)), trust=True),
        "redirect": records(echo, ether(ip(icmp(5, 1, bytes([10, 0, 0, 9]), sent), 1)), trust=True),
        "igmp": records(ether(ip(b"\x11\x64\xee\x9b\0\0\0\0", 2, ttl=1))),
        "echo6": records(ether(v6 + transport(echo6, 58, 2, b"\0" * 15 + b"\1", b""), 0x86DD)),
    }


def segment(
    flags: int,
    seq: int = 0,
    ack: int = 0,
    wnd: int = 32,
    data: int = 0,
    act: int = 2,
    options: bytes = b"",
) -> bytes:
    """A record of fuzz_tcp; seq and ack as its int8 offsets, act its last byte."""
    return bytes([flags, seq & 255, ack & 255, wnd, len(options), data, act]) + options


def tcp_seeds() -> dict[str, bytes]:
    """What peers of an established connection do."""
    sack = bytes.fromhex("0101050a") + b"\0\0\0\0" * 2
    return {
        "data": segment(ACK, data=100, act=101) + segment(ACK | PSH, data=50, act=11),
        "hole": segment(ACK, 2, data=100) + segment(ACK, 4, data=80) + segment(ACK, data=190),
        "dupacks": segment(ACK, act=250) + segment(ACK, 0, -2, act=2) * 4 + segment(ACK, act=200),
        "sack": segment(ACK, act=250) + segment(ACK, 0, -2, options=sack) * 4,
        "zero_window": segment(ACK, wnd=0, act=250) * 3 + segment(ACK, act=255),
        "close": segment(ACK | FIN, act=255) + segment(ACK, act=20) * 3,
        "they_close": segment(ACK, act=255) + segment(ACK | FIN, act=9) + segment(ACK, act=90),
        "reset": segment(RST) + segment(RST, 1),
        "rst_near": segment(RST, 2) + segment(SYN | ACK, 0) + segment(SYN, 2),
        "urgent": segment(ACK | URG, data=60) + segment(ACK | URG, data=1, act=3),
        "timers": segment(ACK, act=254) + segment(0, act=255) * 4,
    }


def api(seed: int, *calls: tuple[int, ...]) -> bytes:
    """An input of fuzz_api: its operations by number, see there."""
    return bytes([seed]) + b"".join(bytes(c) for c in calls)


def api_seeds() -> dict[str, bytes]:
    """Conversations of two stacks."""
    listen = ((0, 0, 0, 1), (7, 0, 3, 0), (8, 0, 4, 0))  # stack b, port 1000
    connect = ((0, 1, 0, 0), (9, 1, 1, 0), (2, 0, 20, 0), (2, 0, 20, 0))
    talk = ((11, 1, 0xAF, 0), (2, 0, 9, 0), (10, 0, 1, 0), (13, 2, 0xCF, 0), (11, 2, 0x8F, 0))
    end = ((17, 1, 1, 0), (2, 0, 5, 0), (17, 2, 1, 0), (3, 0, 50, 50))
    udp_pair = ((0, 3, 4, 1), (7, 3, 11, 0), (0, 4, 4, 0), (11, 4, 0x8F, 9), (2, 0, 9, 0))
    relayed = ((21, 1, 1, 0), (6, 1, 0x81, 99), (2, 0, 9, 0), (6, 1, 2, 0), (2, 0, 9, 0))
    return {
        "tcp": api(1, *listen, *connect, *talk, *end),
        "tcp_raw": api(3, *listen, *connect, *talk, *end),
        "tcp_offload": api(7, *listen, *connect, *talk, *talk, *end),
        "tcp_open": api(0, *listen, *connect, *talk),
        "loss": api(1, (5, 0, 0x57, 0), *listen, *connect, (3, 0, 99, 99), *talk, *end),
        "relay": api(1, *listen, *connect, *relayed, *talk, (18, 1, 0, 0), *relayed),
        "relay_early": api(0, *listen, (0, 1, 0, 0), (21, 1, 0x41, 0), *connect[1:], *relayed),
        "udp": api(1, *udp_pair, (13, 3, 0xCF, 1), (18, 3, 0, 0), (11, 4, 1, 9), (2, 0, 9, 0)),
        "token": api(1, *udp_pair[:2], (21, 3, 3, 0), *udp_pair[2:], (6, 3, 2, 0), (21, 3, 128, 0)),
        "local": api(1, (0, 5, 0x80, 0), (11, 5, 0xAF, 0), (13, 6, 0xCF, 0), (18, 5, 0, 0)),
        "message": api(
            1,
            *udp_pair[:3],
            (15, 4, 0x33, 11, 20, *([0] * 8), 0, 0, 0, 0, 1, 0, 0, 0, 64, 0, 0, 0),
            (3, 97, 98, 99, 0, 0),
            (2, 0, 9, 0),
            (15, 3, 0x83, 1, 64, *([0] * 64), 9, *([0] * 9), 0, 0),
        ),
        "options": api(
            1,
            (0, 0, 0, 0),
            *(
                (16, 0, lv | g, n, 4, 1, 0, 0, 0)
                for lv in (0, 1, 2, 4)
                for g in (0, 128)
                for n in range(1, 12)
            ),
        ),
        "tunables": api(1, *((4, 0, n, (n & 1) << 1 | 1) for n in range(60)), *listen, *connect),
    }


def vnet(
    frame: bytes, flags: int = 0, gso: int = 0, size: int = 0, start: int = 0, offset: int = 0
) -> bytes:
    """A record of fuzz_vnet."""
    return (
        struct.pack("!H", len(frame))
        + struct.pack("<BBHHHH", flags, gso, 0, size, start, offset)
        + frame
    )


def vnet_seeds() -> dict[str, bytes]:
    """Frames as kernels hand them over."""
    bulk = bytes(range(256)) * 12
    tso = ether(ip(tcp(ACK | PSH, 1, 1, bulk), 6))
    uso = ether(ip(udp(bulk), 17))
    v6 = struct.pack("!IHBB", 6 << 28, 20 + len(bulk), 6, 64) + b"\xfd" + b"\0" * 15
    tso6 = ether(v6 + b"\xfd" + b"\0" * 14 + b"\1" + tcp(ACK, 1, 1, bulk), 0x86DD)
    seeds = {}
    for mode in (0, 1, 4, 8, 9, 12):
        for piece in (5, 50):
            seeds[f"mode{mode}_{piece}"] = bytes([mode, piece]) + b"".join(
                (
                    vnet(ether(ip(udp(b"query"), 17)), flags=2),
                    vnet(ether(ip(tcp(SYN, 1), 6)), flags=1, start=34, offset=16),
                    vnet(tso, flags=1, gso=1, size=1000, start=34, offset=16),
                    vnet(tso6, flags=1, gso=4, size=900, start=54, offset=16),
                    vnet(uso, flags=1, gso=5, size=512, start=34, offset=6),
                )
            )
    seeds["raw"] = bytes([2, 60]) + vnet(tso[14:], flags=1, gso=1, size=500, start=20, offset=16)
    return seeds


def option(kind: int, ipopt: bytes = b"", opt: bytes = b"", data: int = 1, frag: int = 0) -> bytes:
    """A record of fuzz_options."""
    head = struct.pack("!BBBBH", kind | 0xE0, len(ipopt), len(opt), data, frag)
    return head + ipopt + opt


def option_seeds() -> dict[str, bytes]:
    """Packets with options."""
    rr, ts = bytes.fromhex("01071704") + b"\0" * 20, bytes.fromhex("440c0501") + b"\0" * 8
    sack = bytes.fromhex("0101050a0000000100000002")
    return {
        "to_us": option(0, rr) + option(0, ts) + option(4, rr + ts, data=9),
        "through": option(1, b"\x94\4\0\0", data=200) + option(1, rr, data=90),
        "no_fragment": option(1, data=99, frag=0x4000),
        "fragments": option(0, rr, data=9, frag=0x2000) + option(0, data=9, frag=10),
        "source_route": option(1, bytes.fromhex("8307040a000102")),
        "expires": bytes([1]) + option(1, rr)[1:],
        "syn": option(2, opt=SYN_OPTIONS) + option(3, opt=SYN_OPTIONS[6:16]) + option(3, opt=sack),
        "bad_tcp": option(2, opt=b"\2\0") + option(2, opt=b"\x08\xff") + option(2, opt=b"\x1e\1"),
    }


def switch(*records: tuple[int, int, bytes], loop: bool = False, order: int = 0) -> bytes:
    """Records for fuzz_fsw: what happens, its argument, its bytes."""
    data = b"".join(bytes([what, argument, len(more)]) + more for what, argument, more in records)
    return bytes([order, loop]) + data


def switch_seeds() -> dict[str, bytes]:
    """Flows, fragments, orphans and rubbish through a flowswitch."""
    wire, client, names, run, hop, take = 0, 1, 3, 4, 5, 6
    frag, abort, offload = 2, 64 + 12, 4
    # From byte 6 of the IPv4 header: flags and offset of a fragment.
    pieces = [struct.pack("!H", flags) for flags in (0x2000, 0x2003, 0x0006)]
    gso = struct.pack("=HHHBBI", 20, 16, 4, 1, 1, 0)
    held = [(wire, frag, piece) for piece in pieces]
    sent = [(client, 8, b""), (run, 1, b"")]
    return {
        "flow": switch((wire, 0, b""), *sent, (take, 0, b""), *sent),
        "frags": switch(*held, (take, 0, b""), *reversed(held), (run, 255, b""), (run, 255, b"")),
        "frags-overlap": switch(held[0], (wire, frag, b"\x20\x02"), *held),
        "frags-sent": switch(*((client, frag, piece) for piece in pieces), (run, 1, b"")),
        "orphan": switch(*sent, (wire, 0, b""), (names, abort, b""), (run, 1, b""), (wire, 0, b"")),
        "orphan-closed": switch(*sent, (wire, 0, b""), order=3),
        "loop": switch((wire, 0, b""), *sent, (names, abort, b""), (run, 1, b""), loop=True),
        "offload": switch((client, offload, gso), (run, 1, b"")),
        "offload-loop": switch((client, offload, gso), (run, 1, b""), loop=True),
        "next-hop": switch((hop, 1, b""), *sent * 4, (hop, 0, b""), (take, 0, b""), (hop, 2, b"")),
        "full": switch(*[(client, 8, b"")] * 40, (run, 1, b""), (run, 1, b"")),
        "pieces": switch(*((client, 16 + 32 * cut, b"") for cut in range(8)), (run, 1, b"")),
        "stall": switch(*[(wire, 0, b"")] * 8, *[(run, 100, b"")] * 4),
        "names": switch(*((names, argument, b"\6") for argument in range(0, 256, 4))),
    }


def hostile(*steps: tuple[int, ...], frags: int = 3) -> bytes:
    """An input of fuzz_channel: operations with their arguments, packets of 1 + *frags* buflets."""
    return bytes([frags]) + b"".join(bytes(step) for step in steps)


def word(region: int, at: int, value: int) -> tuple[int, ...]:
    """Operation 0 of fuzz_channel: write a word, *at* words into the region of that number."""
    return (0, region, at, 3, *struct.pack("<I", value))


def channel_seeds() -> dict[str, bytes]:
    """Good traffic over a channel, and each rule that the other end can break."""
    heads, slots, home, packets, buflets, events, schema, advisories = range(8)
    long, short, reply, take, give_back = (3, 200), (3, 5), (4, 200), (5, 3), (6,)
    arm, sync, drain = ((7, 1), (7, 0)), (8, 1), (9,)
    line = 16  # words of a cache line: each head has one
    two = (long, short)
    return {
        "traffic": hostile(*(long, reply, give_back, drain, sync) * 8),
        "traffic_one": hostile(*(short, (4, 9), take, drain, sync) * 8, frags=0),
        "kept": hostile(*(long, short, take, *arm) * 6),
        "tx_head": hostile(*two, word(heads, 0, 8), take),
        "rx_head": hostile(reply, word(heads, line, 99), reply, arm[0], sync),
        "tail": hostile(reply, word(heads, line, 3), *[reply] * 8),
        "around": hostile(*two, sync, arm[1], word(heads, 0, 1), take, take),
        "free_head": hostile(reply, word(heads, 3 * line, 1), sync),
        "free_rubbish": hostile(reply, word(home, 0, 77), word(heads, 3 * line, 1), sync),
        "alloc_head": hostile(*(short, give_back, word(heads, 2 * line, 15)) * 20),
        "event_head": hostile(word(heads, 4 * line, 3), sync, sync, word(events, 0, 9), sync),
        "slot": hostile(*two, word(slots, 0, 12), take),
        "slot_twice": hostile(*two, word(slots, 2, 0), take, take),
        "slot_length": hostile(*two, word(slots, 1, 9), give_back),
        "name": hostile(*two, word(packets, 0, 1), take),
        "unfinished": hostile(*two, word(packets, 2, 0), take, sync, drain),
        "fragments": hostile(*two, word(packets, 2, 1 | 9 << 16), take),
        "offset": hostile(*two, word(packets, 3, 129), take),
        "first": hostile(*two, word(packets, 4, 500), take),
        "next": hostile(*two, word(packets, 5, 6), take),
        "circle": hostile(*two, *(word(buflets, 4 * b + 1, b) for b in range(6)), take),
        "chain": hostile(*two, *(word(buflets, 4 * b + 1, 0) for b in range(6)), take),
        "buflet_offset": hostile(*two, *(word(buflets, 4 * b + 2, 129) for b in range(6)), take),
        "buflet_length": hostile(*two, *(word(buflets, 4 * b + 3, 1) for b in range(6)), take),
        "arms": hostile(*(short, *arm, word(heads, 5 * line, 7), word(heads, 6 * line, 7)) * 4),
        "schema": hostile(*two, word(schema, 3, 0), take, take, take, sync),
        "advisories": hostile(word(advisories, 0, 1), sync, word(advisories, 1, 2), sync),
    }


def main() -> None:
    """Write every seed."""
    for name, seeds in {
        "fuzz_frame": frame_seeds(),
        "fuzz_tcp": tcp_seeds(),
        "fuzz_api": api_seeds(),
        "fuzz_vnet": vnet_seeds(),
        "fuzz_options": option_seeds(),
        "fuzz_fsw": switch_seeds(),
        "fuzz_channel": channel_seeds(),
    }.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed, data in seeds.items():
            (folder / f"seed_{seed}").write_bytes(data)


if __name__ == "__main__":
    main()
