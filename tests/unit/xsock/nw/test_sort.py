"""RFC 6724: the examples of its section 10, and what each rule decides."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsock.nw._sort import (
    Source,
    choose_source,
    common_prefix,
    interleave,
    policy,
    scope,
    sort_destinations,
)


def order(destinations: list[str], sources: list[Source]) -> list[str]:
    return sort_destinations(destinations, lambda address: choose_source(address, sources))


def sources(*addresses: str, deprecated: str = "", prefix: int = 128) -> list[Source]:
    return [Source(a, 32 if "." in a else prefix, is_deprecated=a == deprecated) for a in addresses]


@pytest.mark.parametrize(
    ("destination", "own", "expected"),
    [
        # RFC 6724 10.1, default source selection
        ("2001:db8:1::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
        ("ff05::1", ["2001:db8:3::1", "fe80::1"], "2001:db8:3::1"),
        ("2001:db8:1::1", ["2001:db8:1::1", "2001:db8:2::1"], "2001:db8:1::1"),
        ("fe80::1", ["fe80::2", "2001:db8:1::1"], "fe80::2"),
        ("2001:db8:1::1", ["2001:db8:1::2", "2001:db8:3::2"], "2001:db8:1::2"),
        ("2002:c633:6401::1", ["2002:c633:6401::d5e3:7953:13eb:22e8", "2001:db8:1::2"],
         "2002:c633:6401::d5e3:7953:13eb:22e8"),
    ],
)  # fmt: skip
def test_source_examples(destination: str, own: list[str], expected: str) -> None:
    for candidates in (own, own[::-1]):
        chosen = choose_source(destination, sources(*candidates))
        assert chosen is not None
        assert chosen.address == expected


@pytest.mark.parametrize(
    ("own", "destinations"),
    [
        # RFC 6724 10.2, the expected order
        (["2001:db8:1::2", "fe80::1", "169.254.13.78"], ["2001:db8:1::1", "198.51.100.121"]),
        (["fe80::1", "198.51.100.117"], ["198.51.100.121", "2001:db8:1::1"]),
        (["2001:db8:1::2", "fe80::1", "10.1.2.4"], ["2001:db8:1::1", "10.1.2.3"]),
        (["2001:db8:1::2", "fe80::2"], ["fe80::1", "2001:db8:1::1"]),
        (["2002:c633:6401::2", "fe80::2"], ["2002:c633:6401::1", "2001:db8:1::1"]),
        (["2002:c633:6401::2", "2001:db8:1::2", "fe80::2"],
         ["2001:db8:1::1", "2002:c633:6401::1"]),
    ],
)  # fmt: skip
def test_destination_examples(own: list[str], destinations: list[str]) -> None:
    assert order(destinations, sources(*own)) == destinations
    assert order(destinations[::-1], sources(*own)) == destinations


def test_deprecated_sources_come_after() -> None:
    own = sources("fe80::2", "2001:db8:1::2", deprecated="fe80::2")
    # RFC 6724 10.2: the link-local source is deprecated, so the global destination wins.
    assert order(["fe80::1", "2001:db8:1::1"], own) == ["2001:db8:1::1", "fe80::1"]


def test_the_unreachable_comes_last_and_nothing_is_lost() -> None:
    own = sources("192.0.2.7")
    assert order(["2001:db8::1", "192.0.2.1"], own) == ["192.0.2.1", "2001:db8::1"]
    assert order(["2001:db8::1"], []) == ["2001:db8::1"]


def test_equal_destinations_stay_as_they_came() -> None:
    own = [Source("10.0.2.15", 24)]
    servers = [f"198.51.100.{i}" for i in range(20)]
    random.Random(7).shuffle(servers)
    assert order(list(servers), own) == servers


def test_the_own_subnet_comes_first() -> None:
    own = [Source("10.0.2.15", 24)]
    assert order(["198.51.100.1", "10.0.2.3"], own) == ["10.0.2.3", "198.51.100.1"]


def test_tunnels_and_temporary_addresses() -> None:
    tunnel = [Source("2001:db8:1::2", is_tunnel=True), Source("2001:db8:2::2")]
    assert order(["2001:db8:1::1", "2001:db8:2::1"], tunnel) == ["2001:db8:2::1", "2001:db8:1::1"]
    pair = [Source("2001:db8::2"), Source("2001:db8::3", is_temporary=True)]
    for prefer, expected in (("default", "3"), ("temporary", "3"), ("stable", "2")):
        chosen = choose_source("2001:db8:9::1", pair, prefer=prefer)  # type: ignore[arg-type]
        assert chosen is not None
        assert chosen.address == f"2001:db8::{expected}"


def test_the_interface_of_the_route() -> None:
    own = [Source("192.0.2.7", 24, "en0"), Source("192.0.2.8", 24, "en1")]
    chosen = choose_source("198.51.100.1", own, interface="en1")
    assert chosen is not None
    assert chosen.interface == "en1"
    link = [Source("fe80::1", 64, "en0")]
    assert choose_source("fe80::9", link, interface="en1") is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", 2), ("169.254.1.1", 2), ("10.0.0.1", 14), ("192.0.2.1", 14), ("::1", 2),
     ("fe80::1", 2), ("fec0::1", 5), ("fc00::1", 14), ("2001:db8::1", 14), ("ff02::1", 2),
     ("ff05::1", 5), ("ff0e::1", 14), ("::ffff:127.0.0.1", 2)],
)  # fmt: skip
def test_scope(address: str, expected: int) -> None:
    assert scope(address) == expected


@pytest.mark.parametrize(
    ("address", "precedence", "label"),
    [("::1", 50, 0), ("2001:db8::1", 40, 1), ("192.0.2.1", 35, 4), ("2002::1", 30, 2),
     ("2001::1", 5, 5), ("fd00::1", 3, 13), ("::192.0.2.1", 1, 3), ("fec0::1", 1, 11),
     ("3ffe::1", 1, 12)],
)  # fmt: skip
def test_policy(address: str, precedence: int, label: int) -> None:
    assert (policy(address).precedence, policy(address).label) == (precedence, label)


def test_common_prefix() -> None:
    assert common_prefix("2001:db8::", "2001:db8:8000::") == 32
    assert common_prefix("10.0.0.1", "10.0.0.2", 24) == 24
    assert common_prefix("10.0.0.1", "10.0.0.1") == 32
    assert common_prefix("10.0.0.1", "::1") == 0


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(st.lists(addresses, max_size=12), st.lists(addresses, max_size=6))
def test_sorting_is_a_stable_permutation(destinations: list[str], own: list[str]) -> None:
    found = order(destinations, sources(*own))
    assert sorted(found) == sorted(destinations)
    assert order(found, sources(*own)) == found
    reachable = [choose_source(a, sources(*own)) is not None for a in found]
    assert reachable == sorted(reachable, reverse=True)


@given(st.lists(st.tuples(st.sampled_from([2, 10]), st.integers())), st.sampled_from([None, 2, 10]))
def test_families_take_turns(items: list[tuple[int, int]], after: int | None) -> None:
    found = interleave(items, lambda item: item[0], after)
    assert sorted(found) == sorted(items)
    for family in (2, 10):
        assert [i for i in found if i[0] == family] == [i for i in items if i[0] == family]
    few = min(sum(i[0] == family for i in items) for family in (2, 10))
    for one, two in zip(found[: 2 * few : 2], found[1 : 2 * few : 2], strict=True):
        assert one[0] != two[0]
    if few and after is not None:
        assert found[0][0] != after
