"""What a Stack counts and holds, as frozen values."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bsdcore._ffi import check, ffi, lib
from bsdcore.sockets import unpack
from bsdcore.stack import Stack
from bsdcore.sysctl import check_end, text

__all__ = [
    "ArpEntry", "GatewayStats", "Interface", "MemoryStats", "Route", "SocketInfo", "arp",
    "counters", "gateway", "interfaces", "memory", "routes", "sockets",
]  # fmt: skip

# TCPS_* of netinet/tcp_fsm.h, in BSD's order and netstat's spelling.
TCP_STATES = (
    "CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1",
    "CLOSING", "LAST_ACK", "FIN_WAIT_2", "TIME_WAIT",
)  # fmt: skip
Address = tuple[Any, ...]
ARP_STATES = ("incomplete", "reachable", "stale", "permanent")
KINDS = {1: "stream", 2: "dgram", 3: "raw"}


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface. Counters are packets and bytes."""

    name: str
    index: int
    flags: int
    mtu: int
    lladdr: str
    addresses: tuple[str, ...]
    ipackets: int
    ibytes: int
    ierrors: int
    iqdrops: int
    opackets: int
    obytes: int
    oerrors: int
    oqdrops: int


@dataclass(frozen=True, slots=True)
class Route:
    """One route; *expire* is the stack's time in nanoseconds, 0 never."""

    destination: str
    gateway: str
    interface: str
    flags: int
    mtu: int
    use: int
    expire: int


@dataclass(frozen=True, slots=True)
class ArpEntry:
    """A neighbour's link-layer address."""

    host: str
    mac: str
    state: str
    interface: str


@dataclass(frozen=True, slots=True)
class SocketInfo:
    """A line of ``netstat -an``; *state* is empty for what is not TCP."""

    id: int
    protocol: str
    state: str
    local: Address
    remote: Address
    receive_queue: int
    send_queue: int
    receive_limit: int
    send_limit: int
    accept_queue: int
    half_open: int
    backlog: int
    received: int
    sent: int
    retransmits: int
    srtt_ns: int
    cwnd: int
    pid: int
    is_relayed: bool
    timer: str


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Buffers in use by kind, bytes held, allowed and lent, allocations refused."""

    mbufs: int
    cl2k: int
    cl4k: int
    cl16k: int
    cl64k: int
    foreign: int
    bytes: int
    limit: int
    fails: int
    sockets: int
    callouts: int
    lent: int


@dataclass(frozen=True, slots=True)
class GatewayStats:
    """Flows carried on over the host's sockets."""

    tcp_flows: int
    tcp_refused: int
    udp_flows: int
    udp_refused: int
    limited: int
    bytes_out: int
    bytes_in: int
    open: int


def _fetch(stack: Stack, kind: str, call: Callable[..., int]) -> Iterator[Any]:
    """All rows of a list; asks again if it grew meanwhile. A row is good until the next.

    A row is a place within the array and does not keep it: the iteration does.
    """
    room = 64
    while True:
        rows = ffi.new(f"struct {kind}[]", room)
        count = check(call(stack.cdata, rows, room))
        if count <= room:
            for i in range(count):
                yield rows[i]
            return
        room = count + 64


def _name(chars: Any) -> str:
    return str(ffi.string(chars).decode(errors="replace"))


def _mac(octets: Any) -> str:
    return bytes(octets).hex(":")


def interfaces(stack: Stack) -> list[Interface]:
    """The interfaces in the order of their indices."""
    return [
        Interface(
            _name(row.name), row.index, row.flags, row.mtu, _mac(row.lladdr),
            tuple(f"{unpack(row.addrs[i])[0]}/{row.plen[i]}" for i in range(min(row.naddrs, 8))),
            row.ipackets, row.ibytes, row.ierrors, row.iqdrops,
            row.opackets, row.obytes, row.oerrors, row.oqdrops,
        )
        for row in _fetch(stack, "bsd_ifinfo", lib.bsd_if_list)
    ]  # fmt: skip


def routes(stack: Stack) -> list[Route]:
    """The routing table."""
    return [
        Route(
            f"{unpack(row.dst)[0]}/{row.plen}",
            unpack(row.gateway)[0] if row.gateway.family else "link",
            _name(row.ifname), row.flags, row.mtu, row.use, row.expire,
        )
        for row in _fetch(stack, "bsd_rtinfo", lib.bsd_route_list)
    ]  # fmt: skip


def arp(stack: Stack) -> list[ArpEntry]:
    """The neighbours known."""
    return [
        ArpEntry(unpack(row.addr)[0], _mac(row.mac), ARP_STATES[row.state & 3], _name(row.ifname))
        for row in _fetch(stack, "bsd_arpinfo", lib.bsd_arp_list)
    ]


def _protocol(row: Any) -> str:
    if row.family not in (2, 10):
        return f"local-{KINDS.get(row.type, row.type)}"
    name = {1: "tcp", 2: "udp"}.get(row.type, f"raw{row.protocol}")
    return name + ("6" if row.family == 10 else "4")


def _state(number: int) -> str:
    return TCP_STATES[number] if 0 <= number < len(TCP_STATES) else ""


def sockets(stack: Stack) -> list[SocketInfo]:
    """Every socket of the stack."""
    return [
        SocketInfo(
            row.id, _protocol(row), _state(row.state), unpack(row.local), unpack(row.remote),
            row.rcv_cc, row.snd_cc, row.rcv_hiwat, row.snd_hiwat,
            row.qlen, row.incqlen, row.qlimit, row.rxbytes, row.txbytes, row.rexmt,
            row.srtt_ns, row.cwnd, row.pid, bool(row.relay), _name(row.timer),
        )
        for row in _fetch(stack, "bsd_sockinfo", lib.bsd_sock_list)
    ]  # fmt: skip


def counters(stack: Stack) -> dict[str, int]:
    """Every counter by name, drop reasons included."""
    name, value = ffi.new("char const **"), ffi.new("uint64_t *")
    out: dict[str, int] = {}
    index = 0
    while check_end(lib.bsd_stat(stack.cdata, index, name, value)):
        out[text(name[0])] = int(value[0])
        index += 1
    return out


def memory(stack: Stack) -> MemoryStats:
    """What the stack holds of memory."""
    out = ffi.new("struct bsd_memstat *")
    lib.bsd_memstat(stack.cdata, out)
    return MemoryStats(*(getattr(out, name) for name in MemoryStats.__dataclass_fields__))


def gateway(stack: Stack) -> GatewayStats:
    """What a gateway stack has carried."""
    out = ffi.new("struct bsd_gwstats *")
    lib.bsd_gateway_stats(stack.cdata, out)
    return GatewayStats(*(getattr(out, name) for name in GatewayStats.__dataclass_fields__))
