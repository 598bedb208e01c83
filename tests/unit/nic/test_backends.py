"""From a specification to a port of the host, and what is said when it cannot be."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from nic import Caps, NicError, SpecError, open_port, open_ports
from tests.contract.netns import bring_up, namespace


def message(spec: str) -> str:
    """What a user reads when *spec* cannot be opened."""
    with pytest.raises(NicError) as caught:
        open_port(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_one_call_cannot_open() -> None:
    for spec, why in (
        ("usernet", "usernet: is composed of ports by xsock"),
        ("feth", r"feth: is two ports; open_pair\(\) makes them"),
        ("tap:t0,queues=2", r"has 2 queues; open_ports\(\) opens them all"),
        ("nonsense", "unknown interface kind"),
    ):
        with pytest.raises(SpecError, match=why):
            open_port(spec)


def test_lo_has_the_mtu_it_is_given() -> None:
    with open_port("lo") as port:
        assert port.info.mtu == 65535
        assert port.info.link == "rawip"
    with open_port("lo:mtu=1280") as port:
        assert port.info.mtu == 1280


# What is imported is imported before privileges go: its directory may be ours alone.
UNPRIVILEGED = """
import os, sys
from nic import NicError, open_port
if os.getuid() == 0:
    os.setgroups([])
    os.setresuid(65534, 65534, 65534)
for spec in sys.argv[1:]:
    try:
        open_port(spec).close()
    except NicError as error:
        print(error)
"""


def test_missing_privilege_says_what_would_help() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, "af_packet:lo", "tap:xs0"],
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    help_ = "(run as root), or use --nic usernet, which needs nothing"
    assert said[0] == f"af_packet:lo: not permitted; needs CAP_NET_RAW {help_}"
    if os.path.exists("/dev/net/tun"):
        assert said[1] == f"tap:xs0: not permitted; needs CAP_NET_ADMIN {help_}"
    else:
        assert said[1].startswith("tap:xs0: /dev/net/tun is missing; load the module")


@pytest.mark.root
def test_an_absent_interface_is_named_with_those_there_are() -> None:
    with namespace():
        for port in open_ports("tap:there0,queues=2"):
            assert message("af_packet:absent0") == (
                "af_packet:absent0: no such interface; there are: lo, there0"
            )
            port.close()


@pytest.mark.root
def test_a_name_that_is_taken() -> None:
    with namespace():
        assert message("tap:lo") == (
            "tap:lo: an interface of that name exists and is no tap; choose another name"
        )
        with open_port("tap:t0"):
            assert message("tap:t0").startswith("tap:t0: in use by another program")
            assert message("tun:t0").startswith("tun:t0: an interface of that name exists")


@pytest.mark.root
def test_a_tap_is_what_its_spec_says() -> None:
    with namespace():
        with open_port("tap:t0,mtu=9000,offload=csum") as port:
            info = port.info
            assert (info.name, info.mtu, info.link) == ("t0", 9000, "ethernet")
            assert Caps.TXCSUM in info.caps
            assert Caps.TSO4 not in info.caps
            assert info.fd >= 0
        with open_port("tun:t1") as port:
            assert (port.info.link, port.info.mtu) == ("rawip", 1500)
        assert message("tap:t0,mtu=65535") == "tap:t0: cannot set mtu=65535: Invalid argument"
        queues = open_ports("tap:t2,queues=3")
        assert len({port.fileno() for port in queues}) == 3
        assert len({id(port.pool) for port in queues}) == 3
        for port in queues:
            port.close()


@pytest.mark.root
def test_af_packet_is_what_its_spec_says() -> None:
    with namespace(), open_port("tap:t0") as kernel:
        bring_up("t0")
        with open_port("af_packet:t0,mac=02:00:00:00:00:09,ring=on,fanout=3/hash") as port:
            assert port.info.mac == bytes.fromhex("020000000009")
            assert port.info.mtu == kernel.info.mtu
        with open_port("af_packet:t0,offload=off") as port:
            assert port.info.mac == kernel.info.mac or port.info.mac[0] & 1 == 0
            assert not port.info.caps & (Caps.TXCSUM | Caps.RXCSUM | Caps.TSO4 | Caps.LRO)


@pytest.mark.root
def test_what_failed_to_open_is_not_left_open() -> None:
    with namespace():
        assert "cannot set mtu" in message("tap:t0,mtu=65535")
        with open_port("tap:t0"), pytest.raises(NicError) as caught:
            open_ports("tap:t0,queues=4")
        assert caught.value.errno in (errno.EBUSY, errno.EINVAL)
        queues = open_ports("tap:t0,queues=4")
        assert len(queues) == 4
        for port in queues:
            port.close()
