"""Which address first: destination and source selection of RFC 6724.

Pure functions over numeric addresses. The caller hands in the stack's own addresses; rules for
which a host needs mobility (4) or other knowledge nobody has here take no part.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeVar

__all__ = [
    "POLICY_TABLE", "Policy", "Source", "choose_source", "common_prefix", "interleave", "policy",
    "scope", "sort_destinations",
]  # fmt: skip

T = TypeVar("T")
# Scopes have the numbers of multicast scopes, RFC 4291 2.7.
LINK_LOCAL: Final = 0x2
SITE_LOCAL: Final = 0x5
GLOBAL: Final = 0xE
MAPPED: Final = 0xFFFF << 32  # ::ffff:0:0, where IPv4 is in the IPv6 space


@dataclass(frozen=True, slots=True)
class Policy:
    """A row of the policy table: higher precedence first, sources of an equal label preferred."""

    network: ipaddress.IPv6Network
    precedence: int
    label: int


def _row(network: str, precedence: int, label: int) -> Policy:
    return Policy(ipaddress.IPv6Network(network), precedence, label)


# RFC 6724 2.1, longest prefixes first.
POLICY_TABLE: Final = (
    _row("::1/128", 50, 0),
    _row("::ffff:0:0/96", 35, 4),
    _row("::/96", 1, 3),
    _row("2001::/32", 5, 5),
    _row("2002::/16", 30, 2),
    _row("3ffe::/16", 1, 12),
    _row("fec0::/10", 1, 11),
    _row("fc00::/7", 3, 13),
    _row("::/0", 40, 1),
)


@dataclass(frozen=True, slots=True)
class Source:
    """An address of the stack's own, with its prefix length and interface."""

    address: str
    prefix: int = 64
    interface: str = ""
    is_deprecated: bool = False
    is_temporary: bool = False
    is_tunnel: bool = False  # its interface encapsulates


@lru_cache(maxsize=4096)
def _number(address: str) -> tuple[int, int]:
    """(the address in the IPv6 space, its version)."""
    found = ipaddress.ip_address(address)
    return (int(found) | MAPPED if found.version == 4 else int(found)), found.version


@lru_cache(maxsize=4096)
def policy(address: str, table: tuple[Policy, ...] = POLICY_TABLE) -> Policy:
    """The row for an address."""
    value = ipaddress.IPv6Address(_number(address)[0])
    for row in table:
        if value in row.network:
            return row
    raise ValueError(f"the policy table has no row for {address}")


@lru_cache(maxsize=4096)
def scope(address: str) -> int:
    """How far an address reaches (RFC 6724 3.1 and 3.2): 2 link, 5 site, 14 everywhere."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        if mapped is None:
            return _scope6(found)
        found = mapped
    return LINK_LOCAL if found.is_loopback or found.is_link_local else GLOBAL


def _scope6(found: ipaddress.IPv6Address) -> int:
    if found.is_multicast:
        return (int(found) >> 112) & 0xF
    if found.is_link_local or found.is_loopback:
        return LINK_LOCAL
    return SITE_LOCAL if found.is_site_local else GLOBAL


def common_prefix(source: str, destination: str, limit: int = 128) -> int:
    """Leading bits the two share, at most *limit*; 0 for different families."""
    (a, family), (b, other) = _number(source), _number(destination)
    if family != other:
        return 0
    same = 128 - (a ^ b).bit_length()
    return max(0, min(same - (96 if family == 4 else 0), limit))


def choose_source(
    destination: str,
    sources: Iterable[Source],
    *,
    interface: str | None = None,
    prefer: Literal["default", "temporary", "stable"] = "default",
) -> Source | None:
    """The source for a destination (RFC 6724 5); None if there is none of its family.

    *interface* is where the route leads: others' addresses come after (rule 5), and for
    a destination of this link only they do not come at all.
    """
    family = _number(destination)[1]
    reach = scope(destination)
    label = policy(destination).label
    able = [
        source
        for source in sources
        if _number(source.address)[1] == family
        and not (reach <= LINK_LOCAL and interface and source.interface != interface)
    ]

    def key(source: Source) -> tuple[object, ...]:
        own = scope(source.address)
        return (
            source.address != destination,  # 1
            (0, own) if own >= reach else (1, -own),  # 2
            source.is_deprecated,  # 3
            bool(interface) and source.interface != interface,  # 5
            policy(source.address).label != label,  # 6
            source.is_temporary != (prefer != "stable") if prefer != "default"
            else not source.is_temporary,  # 7
            -common_prefix(source.address, destination, source.prefix),  # 8
        )  # fmt: skip

    return min(able, key=key, default=None)


def sort_destinations(
    destinations: Sequence[T],
    source_for: Callable[[str], Source | None],
    *,
    address_of: Callable[[T], str] = str,
    table: tuple[Policy, ...] = POLICY_TABLE,
) -> list[T]:
    """*destinations* in the order to try them (RFC 6724 6), otherwise as they came (rule 10).

    *source_for* answers the source for an address, None if it cannot be reached.
    """

    def key(item: T) -> tuple[object, ...]:
        address = address_of(item)
        source = source_for(address)
        row, reach = policy(address, table), scope(address)
        if source is None:
            return (True, True, True, True, -row.precedence, True, reach, 0)
        return (
            False,  # 1: something that can be reached
            scope(source.address) != reach,  # 2
            source.is_deprecated,  # 3
            policy(source.address, table).label != row.label,  # 5
            -row.precedence,  # 6
            source.is_tunnel,  # 7
            reach,  # 8
            -common_prefix(source.address, address, source.prefix),  # 9
        )

    return sorted(destinations, key=key)


def interleave(
    items: Sequence[T], family_of: Callable[[T], int], after: int | None = None
) -> list[T]:
    """*items* with families taking turns (RFC 8305 4), each in its order.

    The family of the first item begins; that of the last attempt, *after*, comes
    second.
    """
    queues: dict[int, list[T]] = {}
    for item in items:
        queues.setdefault(family_of(item), []).append(item)
    turns = [iter(queue) for family, queue in sorted(queues.items(), key=lambda q: q[0] == after)]
    if after is None:
        turns = [iter(queue) for queue in queues.values()]
    out: list[T] = []
    while len(out) < len(items):
        for turn in turns:
            out.extend(item for item in [next(turn, None)] if item is not None)
    return out
