"""Addresses: written by programs, read by the stack, and back; and where loopback leads."""

from __future__ import annotations

import ipaddress
import socket as std
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsdcore import Stack
from xsock._addr import format_address, host_bytes, parse_address, read_key
from xsock._host import CACHE_MAX, Host

GATEWAY = b"\x0a\x00\x02\x02"
ports = st.integers(0, 65535)


def nobody(name: bytes, family: int) -> tuple[bytes, int]:
    raise AssertionError(f"asked for {name!r}")


@given(st.ip_addresses(v=4), ports)
def test_ipv4_there_and_back(host: ipaddress.IPv4Address, port: int) -> None:
    addr, numeric = parse_address("connect", std.AF_INET, (str(host), port), nobody)
    assert numeric
    assert format_address(read_key(addr)) == (str(host), port)


@given(st.ip_addresses(v=6), ports, st.integers(0, 0xFFFFF), st.integers(0, 2**32 - 1))
def test_ipv6_there_and_back(host: ipaddress.IPv6Address, port: int, flow: int, scope: int) -> None:
    given_address = (str(host), port, flow, scope)
    addr, _ = parse_address("connect", std.AF_INET6, given_address, nobody)
    packed = std.inet_ntop(std.AF_INET6, host.packed)
    assert format_address(read_key(addr)) == (packed, port, flow, scope)


@pytest.mark.parametrize(
    ("host", "packed"),
    [("", "0.0.0.0"), ("<broadcast>", "255.255.255.255"), (b"1.2.3.4", "1.2.3.4")],
)
def test_special_hosts(host: str | bytes, packed: str) -> None:
    addr, _ = parse_address("bind", std.AF_INET, (host, 1), nobody)
    assert format_address(read_key(addr)) == (packed, 1)


def test_names_are_resolved_and_not_kept() -> None:
    answer = parse_address("bind", std.AF_INET, ("a.name", 1), lambda *_: (b"\1\2\3\4", 0))
    assert format_address(read_key(answer[0])) == ("1.2.3.4", 1)
    assert not answer[1]


def test_text_that_is_not_ascii_goes_by_idna() -> None:
    assert host_bytes("bücher.example") == b"xn--bcher-kva.example"
    with pytest.raises(TypeError, match="encoding of hostname failed"):
        host_bytes("\ud800")


@pytest.fixture
def core() -> Iterator[Stack]:
    with Stack() as made:
        yield made


def led(host: Host, address: tuple[str, int], kind: int = 1) -> str:
    return str(format_address(read_key(host.remote("connect", std.AF_INET, kind, address)))[0])


def test_loopback_modes(core: Stack) -> None:
    for mode, with_it, without in (
        ("stack", "127.0.0.1", "127.0.0.1"),
        ("host", "10.0.2.2", "127.0.0.1"),
        ("both", "10.0.2.2", "127.0.0.1"),
    ):
        assert led(Host(core, mode, GATEWAY), ("127.0.0.1", 80)) == with_it
        assert led(Host(core, mode, None), ("127.0.0.1", 80)) == without
        assert led(Host(core, mode, GATEWAY), ("192.0.2.1", 80)) == "192.0.2.1"


def test_both_prefers_a_port_that_is_ours(core: Stack) -> None:
    host = Host(core, "both", GATEWAY)
    with core.socket(std.AF_INET, std.SOCK_STREAM) as sock:
        sock.bind("127.0.0.1", 8080)
        assert led(host, ("127.0.0.1", 8080)) == "10.0.2.2"
        claim = host.claim(1, sock.handle)
        assert claim is not None
        assert led(host, ("127.0.0.1", 8080)) == "127.0.0.1"
        assert led(host, ("127.0.0.1", 8080), kind=2) == "10.0.2.2"
        host.release(claim)
        assert led(host, ("127.0.0.1", 8080)) == "10.0.2.2"


def test_a_redirected_peer_keeps_the_name_it_was_called_by(core: Stack) -> None:
    host = Host(core, "host", GATEWAY)
    there = host.remote("sendto", std.AF_INET, 2, ("127.0.0.1", 53))
    assert host.name(read_key(there)) == ("127.0.0.1", 53)
    six = host.remote("sendto", std.AF_INET6, 2, ("::1", 53))
    assert format_address(read_key(six))[0] == "::ffff:10.0.2.2"
    assert host.name(read_key(six)) == ("::1", 53, 0, 0)


def test_caches_are_bounded(core: Stack) -> None:
    host = Host(core)
    for port in range(CACHE_MAX + 10):
        host.remote("sendto", std.AF_INET, 2, ("192.0.2.1", port))
        host.name(read_key(host.to[std.AF_INET]["192.0.2.1", port]))
    assert len(host.to[std.AF_INET]) <= CACHE_MAX
    assert len(host.names) <= CACHE_MAX
