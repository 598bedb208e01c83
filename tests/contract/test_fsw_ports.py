"""HOST ports keep the contract of check_port over every kind of DEV; CLIENT ports where it applies.

A CLIENT port sends only what its owner has reserved, so its links go through a
pair of clients that own the ports of the frames that the checks send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nic import Caps, Pool, Port, open_pair, open_port, wrap_capoff
from skywalk.flowswitch import Flowswitch, Netns, OwnerKind
from tests.contract.check_port import CHECKS, Link, LinkFactory
from tests.contract.frames import PORTS

QUEUE = 64
Check = Callable[[LinkFactory], None]


def host(caps: Caps | None = None, *, threads: bool = False, clients: int = 0) -> LinkFactory:
    """HOST over one end of a pair, the other end far away."""

    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        near, far = open_pair(
            "ethernet", queue=QUEUE, caps=caps, threads=threads, pools=(pool, pool)
        )
        netns = Netns()
        switch = Flowswitch(netns, near, host_pool=pool)
        owners = [netns.owner(OwnerKind.CLIENT) for _ in range(clients)]
        ports = [switch.client(owner, pool) for owner in owners]
        try:
            yield Link(switch.host, far, QUEUE, fills=True)
        finally:
            for port in ports:
                port.close()
            for owner in owners:
                owner.close()
            switch.close()
            netns.close()

    return make


def lo_host(clients: int) -> LinkFactory:
    """HOST over lo: the port itself is its far end."""

    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        netns = Netns()
        switch = Flowswitch(netns, open_port("lo", pool), loop=True, host_pool=pool, host_ring=1024)
        owners = [netns.owner(OwnerKind.CLIENT) for _ in range(clients)]
        ports = [switch.client(owner, pool) for owner in owners]
        try:
            yield Link(switch.host, switch.host, 1024, fills=True)
        finally:
            for port in ports:
                port.close()
            for owner in owners:
                owner.close()
            switch.close()
            netns.close()

    return make


def clients() -> LinkFactory:
    """Two CLIENT ports over lo; each owns one of the ports that the checks use."""

    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        netns = Netns()
        switch = Flowswitch(netns, open_port("lo", pool), loop=True, host_pool=pool)
        owners = [netns.owner(OwnerKind.CLIENT, pid) for pid in (1, 2)]
        for proto in (6, 17):
            owners[0].reserve(proto, "::", PORTS[0])
            owners[1].reserve(proto, "::", PORTS[1])
        near, far = (switch.client(owner, pool) for owner in owners)
        try:
            yield Link(near, far, 512)
        finally:
            near.close()
            far.close()
            for owner in owners:
                owner.close()
            switch.close()
            netns.close()

    return make


def wrapped() -> LinkFactory:
    """A wrapper does not mind what it stands in front of."""

    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        with host()(pool) as link:
            near: Port = wrap_capoff(link.near, Caps(0))
            yield Link(near, link.far, QUEUE, fills=True)

    return make


LINKS = {
    "host": host(),
    "host-clients": host(clients=2),
    "host-threads": host(threads=True, clients=1),
    "host-flat": host(Caps(0)),
    "host-csum": host(Caps.SG | Caps.TXCSUM | Caps.RXCSUM),
    "lo-host": lo_host(0),
    "lo-host-clients": lo_host(2),
    "capoff-host": wrapped(),
}
# A client drops what is not its own, and what lies about its offloads, where
# other ports refuse it; and it sends nothing back that is not from its port.
CLIENT_CHECKS = [
    check
    for check in CHECKS
    if check.__name__ not in ("check_both_ways", "check_bad_offloads_are_refused")
]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_host(link: str, check: Check) -> None:
    check(LINKS[link])


@pytest.mark.parametrize("check", CLIENT_CHECKS, ids=lambda check: check.__name__[6:])
def test_client(check: Check) -> None:
    check(clients())
