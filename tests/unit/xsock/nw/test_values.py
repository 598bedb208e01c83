"""Endpoints, options, parameters and contexts: checked, hashable, and their repr is code."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsock.nw import _context, _endpoint, _options, _parameters, _voucher
from xsock.nw._context import ContentContext
from xsock.nw._endpoint import AF_INET, AF_INET6, Endpoint, EndpointKind
from xsock.nw._options import (
    IP,
    TCP,
    TLS,
    TLV,
    UDP,
    Alternatives,
    DataMode,
    Framed,
    Keepalive,
    LengthPrefixed,
    Lines,
    SecurityLevel,
    layer,
    mode_of,
    security_of,
    stack_of,
)
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._voucher import QoS, ServiceClass, Voucher


class Framer:
    """A framer only by name: the options do not look inside."""

    def __init__(self, key: int = 0) -> None:
        self.key = key


NAMES = {
    **vars(_endpoint), **vars(_options), **vars(_parameters), **vars(_context), **vars(_voucher),
    "Framer": Framer,
}  # fmt: skip


# ---- endpoints ----


@pytest.mark.parametrize(
    ("text", "kind", "name", "port", "interface"),
    [
        ("example.com:443", EndpointKind.HOST, "example.com", 443, None),
        ("192.0.2.1:80", EndpointKind.ADDRESS, "192.0.2.1", 80, None),
        ("[::1]:80", EndpointKind.ADDRESS, "::1", 80, None),
        ("[fe80::1%en0]:80", EndpointKind.ADDRESS, "fe80::1", 80, "en0"),
        ("[2001:DB8:0::1]:0", EndpointKind.ADDRESS, "2001:db8::1", 0, None),
        ("https://example.com/x", EndpointKind.URL, "example.com", 443, None),
        ("http://[::1]:8080/", EndpointKind.URL, "::1", 8080, None),
        ("bücher.example:1", EndpointKind.HOST, "xn--bcher-kva.example", 1, None),
    ],
)
def test_parse(text: str, kind: EndpointKind, name: str, port: int, interface: str | None) -> None:
    found = Endpoint.parse(text)
    assert (found.kind, found.name, found.port, found.interface) == (kind, name, port, interface)
    assert eval(repr(found), dict(NAMES)) == found


@pytest.mark.parametrize(
    "text",
    ["", "example.com", "example.com:", "[::1", "[::1]80", "a:b", "a:-1", "a:65536", "::1",
     "a b:1", "a..b:1", f"{'x' * 64}:1", "gopher://x/", "https:///x", "a\0b:1", ":80"],
)  # fmt: skip
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        Endpoint.parse(text)


@given(st.text(max_size=40))
def test_parse_never_fails_otherwise(text: str) -> None:
    try:
        found = Endpoint.parse(text, 1)
    except ValueError:
        return
    assert eval(repr(found), dict(NAMES)) == found
    if found.kind is not EndpointKind.URL:
        assert Endpoint.parse(str(found)).replace(interface=None) == found.replace(interface=None)


def test_a_host_that_is_an_address() -> None:
    found = Endpoint.host("127.0.0.1", 80)
    assert found == Endpoint.address("127.0.0.1", 80)
    assert found.is_numeric
    assert found.family == AF_INET
    assert Endpoint.address("", 80) == Endpoint.address("::", 80)
    assert Endpoint.address("::", 80).family == AF_INET6
    assert Endpoint.host("a.example", 80).family is None
    assert not Endpoint.host("a.example", 80).is_numeric


def test_scopes() -> None:
    scoped = Endpoint.address("fe80::1%en0", 80)
    assert scoped == Endpoint.address("fe80::1", 80, interface="en0")
    assert scoped.sockaddr == ("fe80::1%en0", 80)
    assert str(scoped) == "[fe80::1%en0]:80"
    # An interface that is no scope says where to go, and is no part of the address.
    assert Endpoint.address("192.0.2.1", 80, interface="en0").sockaddr == ("192.0.2.1", 80)
    with pytest.raises(ValueError, match="en1"):
        Endpoint.address("fe80::1%en0", 80, interface="en1")


def test_of() -> None:
    point = Endpoint.host("a.example", 1)
    assert Endpoint.of(point) is point
    assert Endpoint.of(("a.example", 1)) == Endpoint.of("a.example:1") == point
    assert Endpoint.of(("", 1)) == Endpoint.address("::", 1)
    wrong: Any = 7
    with pytest.raises(TypeError, match="endpoint"):
        Endpoint.of(wrong)
    assert point.with_port(2).port == 2


# ---- options ----

EVERY = [
    IP(version=6, df=True), TCP(), TCP(IP(hop_limit=3), no_delay=True, keepalive=Keepalive(5)),
    UDP(IP(hop_limit=3)), TLS(), TLS(alpn=("h2",)), TLV(TLS(), type_bytes=2), Lines(),
    LengthPrefixed(bytes=2, byteorder="little"), Framed(Framer), Framed(Framer, UDP(), key=3),
    Alternatives(TCP(IP(version=6)), TCP(IP(version=4))), Parameters(), TLV.Metadata(7),
    Parameters(required_interface_type=InterfaceType.WIRED, prohibited_interfaces=("en1",)),
    ContentContext(), ContentContext("x", priority=1.0, metadata=(TLV.Metadata(7),)),
    Voucher(qos=QoS.UTILITY), Endpoint.host("a.example", 1),
]  # fmt: skip


@pytest.mark.parametrize("value", EVERY, ids=repr)
def test_repr_is_code_and_equal_values_hash_alike(value: Any) -> None:
    again = eval(repr(value), dict(NAMES))
    assert again == value
    assert hash(again) == hash(value)
    assert value.replace() == value
    with pytest.raises(AttributeError):
        setattr(value, next(iter(value.__dataclass_fields__)), 1)


def test_short_repr() -> None:
    assert repr(TLS()) == "TLS()"
    assert repr(LengthPrefixed(TLS(alpn=("demo",)), bytes=2)) == (
        "LengthPrefixed(TLS(alpn=('demo',)), bytes=2)"
    )


def test_layers_left_out() -> None:
    assert TLS() == TLS(TCP(IP()))
    assert [type(item) for item in stack_of(TLV(TLS()))] == [TLV, TLS, TCP, IP]
    assert layer(TLV(TLS()), TCP) == TCP()
    assert layer(UDP(), TCP) is None
    assert stack_of(Framed(Framer))[1:] == (TCP(), IP())


def test_what_the_top_gives() -> None:
    assert mode_of(TLS()) is DataMode.STREAM
    assert mode_of(UDP()) is DataMode.DATAGRAM
    assert mode_of(Alternatives(Lines(), Lines(TCP(no_delay=True)))) is DataMode.MESSAGE
    assert Framed(Framer, key=4).make().key == 4
    assert Framed(Framer, key=4).replace(key=5).make().key == 5


@pytest.mark.parametrize(
    "make",
    [
        lambda: TLS(UDP()),
        lambda: TLV(UDP()),
        lambda: LengthPrefixed(Lines()),
        lambda: UDP(TCP()),  # type: ignore[arg-type]
        lambda: TLS(Alternatives(TCP())),
        lambda: TCP("IP"),  # type: ignore[arg-type]
        lambda: TLS(alpn="h2"),  # type: ignore[arg-type]
        lambda: Framed(3),  # type: ignore[arg-type]
        lambda: Alternatives(Alternatives(TCP())),
        lambda: TCP(mss=1.5),  # type: ignore[arg-type]
        lambda: stack_of(Alternatives(TCP())),
        lambda: ContentContext(metadata=(3,)),  # type: ignore[arg-type]
        lambda: Parameters(local="::"),  # type: ignore[arg-type]
        lambda: Parameters(prohibited_interfaces="en0"),  # type: ignore[arg-type]
    ],
)
def test_the_wrong_kind(make: Any) -> None:
    with pytest.raises(TypeError, match=r"^[^\n]+$"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: IP(version=5),  # type: ignore[arg-type]
        lambda: IP(hop_limit=0),
        lambda: TCP(mss=1),
        lambda: TCP(cc="reno"),  # type: ignore[arg-type]
        lambda: TLS(alpn=("",)),
        lambda: LengthPrefixed(bytes=9),
        lambda: Lines(delimiter=b""),
        lambda: Keepalive(0),
        lambda: Alternatives(),
        lambda: Alternatives(TLS(), TCP()),
        lambda: Alternatives(TCP(), UDP()),
        lambda: ContentContext(priority=1.1),
        lambda: ContentContext(expiration=-1),
        lambda: Parameters(waiting="long"),  # type: ignore[arg-type]
        lambda: Parameters(attempt_delay=0.001),
        lambda: Parameters(attempt_delay=3),
        lambda: Parameters(local=Endpoint.host("a.example", 1)),
    ],
)
def test_the_wrong_value(make: Any) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        make()


def test_security_levels() -> None:
    lax = ssl.create_default_context()
    lax.check_hostname = False
    lax.verify_mode = ssl.CERT_NONE
    assert security_of(TCP()) is SecurityLevel.NONE
    assert security_of(Lines(TLS(context=lax))) is SecurityLevel.ENCRYPTED
    assert security_of(TLS()) is SecurityLevel.AUTHENTICATED
    with pytest.raises(ValueError, match="ENCRYPTED, AUTHENTICATED"):
        Alternatives(TLS(), TLS(context=lax))
    assert len(Alternatives(TLS(), TLS(TCP(IP(version=4)))).stacks) == 2


# ---- contexts ----


def test_metadata_by_kind() -> None:
    context = ContentContext(metadata=(TLV.Metadata(7),))
    assert context[TLV.Metadata].type == 7
    assert context.get(IP.Metadata) is None
    with pytest.raises(KeyError):
        context[IP.Metadata]
    more = context.with_metadata(TLV.Metadata(8)).with_metadata(IP.Metadata(dscp=10))
    assert more[TLV.Metadata].type == 8
    assert more[IP.Metadata].dscp == 10
    assert len(more.metadata) == 2


def test_contexts_are_told_apart_by_identity() -> None:
    assert ContentContext() == _context.DEFAULT_MESSAGE
    assert ContentContext() is not _context.DEFAULT_MESSAGE
    assert _context.FINAL_MESSAGE.is_final
    assert ContentContext(service_class=ServiceClass.BACKGROUND) != ContentContext()
