"""Every port keeps the contract of check_port, alone and inside every wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from nic import (
    Caps,
    FaultSpec,
    Pool,
    Port,
    open_pair,
    open_port,
    wrap_capoff,
    wrap_classq,
    wrap_fault,
    wrap_pcapng,
)
from skywalk import (
    Channel,
    ChannelParams,
    Controller,
    NexusType,
    channel_port,
    open_pipe,
)
from tests.contract.check_port import CHECKS, Link, LinkFactory
from tests.contract.netns import bring_up, ip, namespace

OFF = Caps.SG | Caps.MEMORY | Caps.BROADCAST
CSUM = OFF | Caps.TXCSUM | Caps.RXCSUM
QUEUE = 64

Wrap = Callable[[Port], Port]
Check = Callable[[LinkFactory], None]


def feth(
    link: str = "ethernet",
    caps: Caps | None = None,
    threads: bool = False,
    wrap: Wrap | None = None,
) -> LinkFactory:
    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        near, far = open_pair(link, queue=QUEUE, caps=caps, threads=threads, pools=(pool, pool))
        if wrap is not None:
            near = wrap(near)
        yield Link(near, far, QUEUE, fills=wrap not in (delay, classes, shaped))

    return make


def lo(wrap: Wrap | None = None) -> LinkFactory:
    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        port = open_port("lo", pool)
        if wrap is not None:
            port = wrap(port)
        yield Link(port, port, 1024, fills=wrap is not classes)

    return make


def channel(link: str, *, mapped: bool = False) -> LinkFactory:
    """The two ends of a user pipe; *mapped*: each with a mapping of its own, as two processes
    would have."""
    params = ChannelParams(slots=64, packets=128, buffer=2048, buflets=512, max_frags=33)

    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        ends = open_nexus_pipe(params) if mapped else open_pipe(params)
        near, far = (channel_port(end, pool, link=link) for end in ends)
        yield Link(near, far, 60, fills=True)

    return make


def open_nexus_pipe(params: ChannelParams) -> tuple[Channel, Channel]:
    with Controller() as controller:
        provider = controller.register(NexusType.USER_PIPE, "ports", params, anonymous=True)
        nexus = controller.create(provider)
        return nexus.open(1), nexus.open(0)


def veth(near_options: str, wrap: Wrap | None = None) -> LinkFactory:
    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        with namespace():
            ip("link add near0 type veth peer name far0")
            bring_up("near0", "far0")
            near = open_port(f"af_packet:near0{near_options}", pool)
            if wrap is not None:
                near = wrap(near)
            yield Link(near, open_port("af_packet:far0", pool), 60)

    return make


def tap(options: str, wrap: Wrap | None = None) -> LinkFactory:
    @contextmanager
    def make(pool: Pool) -> Iterator[Link]:
        with namespace():
            near = open_port(f"tap:tap0{options}", pool)
            bring_up("tap0")
            if wrap is not None:
                near = wrap(near)
            # Behind the kernel's side of the wire, where the stack would be.
            yield Link(near, open_port("af_packet:tap0,promisc=on", pool), 60)

    return make


def to_file(port: Port) -> Port:
    return wrap_pcapng(port, "/dev/null")


def no_fault(port: Port) -> Port:
    return wrap_fault(port, FaultSpec(seed=1))


def delay(port: Port) -> Port:
    return wrap_fault(port, FaultSpec(delay=20_000_000, jitter=3_000_000, jitter_dist="normal"))


def classes(port: Port) -> Port:
    return wrap_classq(port)


def shaped(port: Port) -> Port:
    return wrap_classq(port, "rate=50mbit,burst=3028")


def everything(port: Port) -> Port:
    return to_file(no_fault(wrap_capoff(to_file(port), CSUM)))


MEMORY = {
    "lo": lo(),
    "feth": feth(),
    "feth-csum": feth(caps=CSUM),
    "feth-off": feth(caps=OFF),
    "feth-flat": feth(caps=Caps(0)),
    "feth-rawip": feth("rawip"),
    "feth-threads": feth(threads=True),
    "pcapng-feth": feth(wrap=to_file),
    "pcapng-feth-off": feth(caps=OFF, wrap=to_file),
    "pcapng-lo": lo(wrap=to_file),
    "fault-feth": feth(wrap=no_fault),
    "fault-feth-off": feth(caps=OFF, wrap=no_fault),
    "fault-lo": lo(wrap=no_fault),
    "delay-feth": feth(wrap=delay),
    "capoff-feth": feth(wrap=lambda port: wrap_capoff(port, Caps(0))),
    "capoff-feth-csum": feth(wrap=lambda port: wrap_capoff(port, CSUM)),
    "classq-feth": feth(wrap=classes),
    "classq-feth-off": feth(caps=OFF, wrap=classes),
    "classq-feth-rawip": feth("rawip", wrap=classes),
    "classq-lo": lo(wrap=classes),
    "shaped-feth": feth(wrap=shaped),
    "shaped-feth-off": feth(caps=OFF, wrap=shaped),
    "all-feth": feth(wrap=everything),
    "all-feth-threads": feth(threads=True, wrap=everything),
}
MEMORY |= {
    "channel": channel("ethernet"),
    "channel-rawip": channel("rawip"),
    "channel-mapped": channel("ethernet", mapped=True),
}
KERNEL = {
    "af_packet": veth(""),
    "af_packet-off": veth(",offload=off"),
    "af_packet-csum": veth(",offload=csum"),
    "af_packet-ring": veth(",ring=on"),
    "af_packet-promisc": veth(",promisc=on"),
    "pcapng-fault-af_packet": veth("", lambda port: to_file(no_fault(port))),
    "classq-af_packet": veth("", classes),
    "tap": tap(""),
    "tap-off": tap(",offload=off"),
    "pcapng-fault-tap": tap("", lambda port: to_file(no_fault(port))),
}

every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])


@pytest.mark.parametrize("link", MEMORY)
@every_check
def test_in_memory(link: str, check: Check) -> None:
    check(MEMORY[link])


@pytest.mark.root
@pytest.mark.parametrize("link", KERNEL)
@every_check
def test_through_the_kernel(link: str, check: Check) -> None:
    check(KERNEL[link])


def test_a_factory_is_a_context_manager_of_links(tmp_path: Path) -> None:
    """What a new backend's test has to provide, in one line."""
    with Pool() as pool:
        made: AbstractContextManager[Link] = feth(
            wrap=lambda port: wrap_pcapng(port, tmp_path / "x.pcapng")
        )(pool)
        with made as link, link.near, link.far:
            assert link.near.info.kind == "pcapng"
