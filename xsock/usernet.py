"""The embedded default NIC: a gateway in this process, which needs no privileges.

    program's Stack 10.0.2.15 --- raw IP pair --- gateway's Stack 10.0.2.2
                                                    |         |
                                             host's sockets   host's loopback

The gateway is a second Stack whose interface takes any address; it ends the
program's flows and carries them on over the host's sockets, in C. In the
manner of slirp, 10.0.2.2 is the host's loopback (unless ``loopback=off``) and
10.0.2.3 port 53 the host's name server. Options, as in ``usernet:loopback=off``:

- ``mtu=BYTES``: of the pair, 65520 by default;
- ``loopback=off``: 10.0.2.2 does not lead to the host;
- ``dns=ADDRESS``: the host's name server, the first of /etc/resolv.conf by default;
- ``flows=N``: how many may be open, 4096 by default.
"""

import ipaddress
import socket as _stdlib
from dataclasses import dataclass
from typing import Any, Final

import nic
from bsdcore._ffi import check, ffi, lib
from bsdcore.sockets import address
from bsdcore.stack import IFF_ANYIP, IFF_PROMISC, IFF_UP, Stack
from xsock import original

__all__ = ["ADDRESS", "GATEWAY", "NAMESERVER", "Forward", "Usernet", "check_options"]

ADDRESS: Final = "10.0.2.15/24"
GATEWAY: Final = "10.0.2.2"
NAMESERVER: Final = "10.0.2.3"
NETWORK: Final = "10.0.2.0/24"
MTU: Final = 65520
QUEUE: Final = 512  # packets each way
FLOWS: Final = 4096
DNS_PORT: Final = 53
PROTOCOLS: Final = {"tcp": _stdlib.SOCK_STREAM, "udp": _stdlib.SOCK_DGRAM}
OPTIONS: Final = ("loopback", "dns", "flows")


@dataclass(frozen=True, slots=True)
class Forward:
    """An inbound port: what arrives at *host*:*port* of the host goes to *to_port* of the Stack."""

    protocol: str
    host: str
    port: int
    to_port: int

    @classmethod
    def parse(cls, text: str) -> "Forward":
        """Read ``[PROTOCOL:][ADDRESS:]PORT[:PORT]``; TCP on 127.0.0.1 by default."""
        pieces = text.split(":")
        protocol = pieces.pop(0) if pieces[0] in PROTOCOLS else "tcp"
        host = "127.0.0.1"
        if pieces and not pieces[0].isdigit():
            host = str(ipaddress.IPv4Address(pieces.pop(0)))
        if not 1 <= len(pieces) <= 2 or not all(piece.isdigit() for piece in pieces):
            raise ValueError("[tcp:|udp:][ADDRESS:]PORT[:PORT] is wanted, as in tcp:8080:80")
        port, to_port = int(pieces[0]), int(pieces[-1])
        if not (0 < port < 65536 and 0 < to_port < 65536):
            raise ValueError("ports are 1 to 65535")
        return cls(protocol, host, port, to_port)


def host_nameservers(path: str = "/etc/resolv.conf") -> list[str]:
    """The name servers of the host, in order; none if the file is missing."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split()
                if len(words) >= 2 and words[0] == "nameserver":
                    host = words[1].partition("%")[0]
                    try:
                        found.append(str(ipaddress.ip_address(host)))
                    except ValueError:
                        continue
    except OSError:
        return []
    return found


def check_options(spec: nic.NicSpec) -> dict[str, str]:
    """The options of a usernet specification; ValueError names the wrong one."""
    options = dict(spec.extra)
    for key, value in options.items():
        if key not in OPTIONS:
            allowed = ", ".join(("mtu", *OPTIONS))
            raise ValueError(f"usernet: unknown option {key!r}; allowed: {allowed}")
        if key == "loopback" and value not in ("on", "off"):
            raise ValueError(f"usernet: loopback={value}: allowed: on, off")
        if key == "flows" and not (value.isdigit() and int(value) > 0):
            raise ValueError(f"usernet: flows={value}: a positive number is wanted")
        if key == "dns":
            ipaddress.ip_address(value)
    return options


class Usernet:
    """The gateway of one Stack: made with open(), closed with the Stack."""

    def __init__(self, stack: Stack, options: dict[str, str]) -> None:
        self.stack = stack
        self._pool: Any = None
        self._nameserver: str | None = None
        self.loops_back = options.get("loopback", "on") != "off"
        self._forwarded: set[tuple[str, int]] = set()

    @classmethod
    def open(cls, spec: nic.NicSpec) -> tuple["Usernet", nic.Port]:
        """A gateway and the port that leads to it. ValueError for options it does not have."""
        options = check_options(spec)
        mtu = spec.mtu or MTU
        near, far = nic.open_pair("rawip", mtu=mtu, queue=QUEUE, threads=True)
        stack = Stack("usernet")
        raw, pool = far.release()
        self = cls(stack, options)
        self._pool = pool
        try:
            stack.attach(raw, "gw0")
            stack.add_address("gw0", f"{GATEWAY}/24")
            stack.set_flags("gw0", IFF_UP | IFF_PROMISC | IFF_ANYIP)
            self._start(options)
        except BaseException:
            self.close()
            near.close()
            raise
        return self, near

    def _start(self, options: dict[str, str]) -> None:
        servers = [options["dns"]] if "dns" in options else host_nameservers()
        self._nameserver = servers[0] if servers else None
        rules: list[tuple[str, int, str | None, int]]
        rules = [(NAMESERVER, DNS_PORT, servers[0], DNS_PORT)] if servers else []
        rules.append((NAMESERVER, 0, None, 0))
        rules.append((GATEWAY, 0, "127.0.0.1" if self.loops_back else None, 0))
        maps = ffi.new("struct bsd_gwmap[]", len(rules) + 2)
        for row, (match, port, to, to_port) in zip(maps, rules, strict=False):
            self._rule(row, match, port, 32, to, to_port)
        # Nothing of the virtual network or the program's own loopback leaves the host.
        self._rule(maps[len(rules)], "10.0.2.0", 0, 24, None, 0)
        self._rule(maps[len(rules) + 1], "127.0.0.0", 0, 8, None, 0)
        flows = int(options.get("flows", FLOWS))
        check(lib.bsd_gateway_start(self.stack.cdata, maps, len(rules) + 2, flows))
        self.stack.start()

    @staticmethod
    def _rule(row: Any, match: str, port: int, length: int, to: str | None, to_port: int) -> None:
        row.match = address(match, port)[0]
        row.plen = length
        if to is not None:
            row.to = address(to, to_port)[0]

    def has_nameserver(self) -> bool:
        """Whether the host knows a way to its name server now. Sends nothing."""
        if self._nameserver is None:
            return False
        family = _stdlib.AF_INET6 if ":" in self._nameserver else _stdlib.AF_INET
        with original.socket(family, _stdlib.SOCK_DGRAM) as probe:
            return probe.connect_ex((self._nameserver, DNS_PORT)) == 0

    def forward(self, rule: Forward) -> None:
        """Carry what arrives at a port of the host into the Stack. OSError if it is taken."""
        if (rule.protocol, rule.port) in self._forwarded:
            return
        sock = original.socket(_stdlib.AF_INET, PROTOCOLS[rule.protocol])
        with sock:
            if rule.protocol == "tcp":
                sock.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_REUSEADDR, 1)
            try:
                sock.bind((rule.host, rule.port))
            except OSError as error:
                reason = f"cannot forward {rule.protocol} {rule.host}:{rule.port}"
                raise OSError(error.errno, f"{reason}: {error.strerror}") from None
            if rule.protocol == "tcp":
                sock.listen(128)
            sock.setblocking(False)
            to = address(ADDRESS.partition("/")[0], rule.to_port)
            check(lib.bsd_gateway_forward(self.stack.cdata, sock.detach(), to))
        self._forwarded.add((rule.protocol, rule.port))

    def close(self) -> None:
        """Reset what is still open and free the gateway."""
        self.stack.close()
        if self._pool is not None:
            self._pool.drop()
