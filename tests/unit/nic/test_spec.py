"""The SPEC languages: what they accept, what they refuse, and that text and value agree."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nic.spec import (
    DIRECTIONS,
    FANOUT_MODES,
    OFFLOADS,
    ClassqSpec,
    FaultSpec,
    NicSpec,
    SpecError,
)

PERCENT = st.floats(0, 1, allow_subnormal=False)
CHANCE = st.floats(1e-9, 1, allow_subnormal=False)
TIME = st.integers(0, 3600 * 10**9)
NAME = st.from_regex(r"[a-z][a-z0-9._-]{0,14}", fullmatch=True)
MTU = st.none() | st.integers(68, 65535)
MAC = st.binary(min_size=6, max_size=6).map(lambda b: bytes([b[0] & 0xFE | 2]) + b[1:])

nic_specs = st.one_of(
    st.builds(
        NicSpec,
        kind=st.sampled_from(["tap", "tun"]),
        name=NAME,
        mtu=MTU,
        offload=st.sampled_from(OFFLOADS),
        queues=st.integers(1, 16),
    ),
    st.builds(
        NicSpec,
        kind=st.just("af_packet"),
        name=NAME,
        offload=st.sampled_from(OFFLOADS),
        mac=st.none() | MAC,
        promisc=st.booleans(),
        fanout=st.none() | st.tuples(st.integers(0, 65535), st.sampled_from(list(FANOUT_MODES))),
        ring=st.booleans(),
    ),
    st.builds(NicSpec, kind=st.just("feth"), mtu=MTU, offload=st.sampled_from(OFFLOADS)),
    st.builds(NicSpec, kind=st.just("lo"), mtu=MTU),
    st.builds(
        NicSpec,
        kind=st.just("usernet"),
        mtu=MTU,
        extra=st.lists(
            st.tuples(st.from_regex(r"x[a-z0-9-]{0,8}", fullmatch=True), st.just("[::1]:80/a=b"))
        ).map(tuple),
    ),
)


@st.composite
def fault_specs(draw: st.DrawFn) -> FaultSpec:
    """Draw a spec; refinements only beside the option they refine."""
    more: dict[str, object] = {}
    if draw(st.booleans()):
        more |= {
            "burst_p": draw(CHANCE),
            "burst_r": draw(PERCENT),
            "burst_loss": draw(CHANCE),
        }
    if draw(st.booleans()):
        more |= {
            "jitter": draw(st.integers(1, 10**12)),
            "jitter_dist": draw(st.sampled_from(["uniform", "normal", "pareto"])),
        }
    if draw(st.booleans()):
        more |= {"reorder": draw(CHANCE), "reorder_gap": draw(st.integers(1, 10**12))}
    if draw(st.booleans()):
        more |= {"rate": draw(st.integers(1, 10**12)), "queue": draw(st.integers(1, 1 << 20))}
    return FaultSpec(
        loss=draw(PERCENT),
        delay=draw(TIME),
        dup=draw(PERCENT),
        corrupt=draw(PERCENT),
        mtu=draw(st.just(0) | st.integers(68, 65535)),
        partition=draw(st.booleans()),
        seed=draw(st.integers(0, 2**64 - 1)),
        dir=draw(st.sampled_from(DIRECTIONS)),
        **more,  # type: ignore[arg-type]
    )


@given(nic_specs)
def test_nic_spec_round_trip(spec: NicSpec) -> None:
    assert NicSpec.parse(str(spec)) == spec


@given(fault_specs())
def test_fault_spec_round_trip(spec: FaultSpec) -> None:
    assert FaultSpec.parse(str(spec)) == spec


@given(st.text(max_size=40))
def test_any_text_parses_or_gives_one_line(text: str) -> None:
    for language in (NicSpec, FaultSpec):
        lines = 0
        try:
            value = language.parse(text)
        except SpecError as error:
            lines = len(str(error).splitlines())
        else:
            assert language.parse(str(value)) == value
        assert lines <= 1


def test_nic_spec_values() -> None:
    assert NicSpec.parse("usernet") == NicSpec(kind="usernet")
    assert NicSpec.parse("lo:mtu=16384").mtu == 16384
    assert NicSpec.parse("tap:tap0,mtu=9000,offload=csum,queues=4") == NicSpec(
        kind="tap", name="tap0", mtu=9000, offload="csum", queues=4
    )
    spec = NicSpec.parse(
        "af_packet:eth0,mac=02:00:00:00:00:0A,promisc=on,fanout=7/hash,ring=on,offload=off"
    )
    assert spec == NicSpec(
        kind="af_packet",
        name="eth0",
        mac=bytes.fromhex("02000000000a"),
        promisc=True,
        fanout=(7, "hash"),
        ring=True,
        offload="off",
    )
    assert str(spec) == (
        "af_packet:eth0,offload=off,mac=02:00:00:00:00:0a,promisc=on,fanout=7/hash,ring=on"
    )


def test_usernet_carries_what_it_does_not_know() -> None:
    spec = NicSpec.parse("usernet:mtu=1400,tcp=8080-80,tcp=2222-22,host-loopback=off")
    assert spec.mtu == 1400
    assert spec.extra == (("tcp", "8080-80"), ("tcp", "2222-22"), ("host-loopback", "off"))


def test_fault_spec_values() -> None:
    spec = FaultSpec.parse(
        "loss=1%,delay=20ms,jitter=5ms/normal,reorder=1%/3ms,dup=0.1%,corrupt=0.01%,"
        "rate=10mbit/100,burst-loss=0.5%/20%,mtu=1400,seed=42,dir=tx"
    )
    assert spec == FaultSpec(
        loss=0.01,
        delay=20_000_000,
        jitter=5_000_000,
        jitter_dist="normal",
        reorder=0.01,
        reorder_gap=3_000_000,
        dup=0.001,
        corrupt=0.0001,
        rate=10_000_000,
        queue=100,
        burst_p=0.005,
        burst_r=0.2,
        mtu=1400,
        seed=42,
        dir="tx",
    )
    assert FaultSpec.parse("delay=1.5ms").delay == 1_500_000
    assert FaultSpec.parse("reorder=2%").reorder_gap == 1_000_000
    assert FaultSpec.parse("rate=2.5gbit").queue == 1000
    assert str(FaultSpec()) == "dir=both"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown interface kind ''; allowed: usernet, tap, tun, af_packet, feth, lo"),
        ("wifi:x", "unknown interface kind 'wifi'"),
        ("tap", "tap: needs an interface name, as in tap:NAME"),
        ("tap:", "tap: nothing follows the colon"),
        ("tap:,mtu=1500", "tap: needs an interface name"),
        ("tap:a/b", "'a/b' is not an interface name"),
        ("tap:mtu=1500", "'mtu=1500' is not an interface name"),
        ("tap:" + "x" * 16, "longer than 15 characters"),
        ("tap:t,speed=1", "tap: unknown option 'speed'; allowed: mtu, offload, queues"),
        ("tap:t,mtu", "'mtu' is not of the form option=value"),
        ("tap:t,mtu=", "'mtu=' is not of the form option=value"),
        ("tap:t,", "'' is not of the form option=value"),
        ("tap:t,mtu=1500,mtu=1500", "tap: 'mtu' is given twice"),
        ("tap:t,mtu=67", "tap: mtu=67: expected a whole number from 68 to 65535"),
        ("tap:t,mtu=+1500", "expected a whole number"),
        ("tap:t,offload=yes", "tap: offload=yes: expected one of off, csum, tso, all"),
        ("tap:t,queues=0", "tap: queues=0: expected a whole number from 1 to 16"),
        ("tap:t,mac=02:00:00:00:00:01", "tap: unknown option 'mac'"),
        ("af_packet:e,mtu=1500", "af_packet: unknown option 'mtu'; allowed: offload, mac"),
        ("af_packet:e,mac=2:0:0:0:0:1", "expected six hexadecimal pairs"),
        ("af_packet:e,mac=01:00:00:00:00:01", "expected a unicast address"),
        ("af_packet:e,promisc=1", "af_packet: promisc=1: expected one of on, off"),
        ("af_packet:e,fanout=7", "expected GROUP/MODE with MODE one of hash, lb, cpu"),
        ("af_packet:e,fanout=65536/hash", "expected a whole number from 0 to 65535"),
        ("lo:lo0", "'lo0' is not of the form option=value"),
        ("usernet:mtu=9", "usernet: mtu=9: expected a whole number from 68"),
        ("usernet:a= b", "usernet: 'a= b' has a blank in it"),
    ],
)
def test_nic_spec_errors(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        NicSpec.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "fault: nothing given; allowed: loss, burst-loss, delay"),
        ("lag=1ms", "fault: unknown option 'lag'; allowed: loss, burst-loss, delay"),
        ("loss", "fault: 'loss' is not of the form option=value"),
        ("loss=1", "fault: loss=1: expected a percentage from 0% to 100%, as in 0.5%"),
        ("loss=101%", "expected a percentage"),
        ("loss=-1%", "expected a percentage"),
        ("loss=1e-3%", "expected a percentage"),
        ("loss=1%,loss=2%", "fault: 'loss' is given twice"),
        ("delay=20", "delay=20: expected a number with a unit (ns, us, ms, s), as in 20ms"),
        ("delay=20min", "expected a number with a unit"),
        ("delay=0.5ns", "delay=0.5ns: finer than one ns"),
        ("delay=2h", "expected a number with a unit"),
        ("delay=3601s", "delay=3601s: more than 3600s"),
        ("jitter=5ms/gauss", "expected one of uniform, normal, pareto"),
        ("reorder=1%/0ms", "a packet held for no time is not reordered"),
        ("rate=10mb", "expected a number with a unit (bit, kbit, mbit, gbit), as in 10mbit"),
        ("rate=0bit", "a rate of zero lets nothing pass; use partition=on"),
        ("rate=1mbit/0", "expected a whole number from 1 to 1048576"),
        ("burst-loss=1%", "expected ENTER%/LEAVE%"),
        ("burst-loss=0%/1%", "ENTER above zero"),
        ("burst-loss=1%/1%/0%", "a bad state that loses nothing is no fault"),
        ("mtu=20", "expected a whole number from 68"),
        ("seed=-1", "expected a whole number"),
        ("dir=up", "fault: dir=up: expected one of tx, rx, both"),
        ("loss=1%, delay=1ms", "' delay=1ms' is not of the form option=value"),
    ],
)
def test_fault_spec_errors(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        FaultSpec.parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_are_checked_however_they_are_made() -> None:
    faults: list[dict[str, Any]] = [
        {"loss": 1.5},
        {"loss": -0.1},
        {"loss": float("nan")},
        {"delay": -1},
        {"mtu": 10},
        {"seed": 2**64},
        {"dir": "up"},
        {"jitter_dist": "normal"},
        {"queue": 5},
    ]
    for bad in faults:
        with pytest.raises(SpecError):
            FaultSpec(**bad)
    nics: list[dict[str, Any]] = [
        {"kind": "wifi"},
        {"kind": "tap"},
        {"kind": "lo", "name": "lo0"},
        {"kind": "lo", "queues": 2},
        {"kind": "tap", "name": "t", "mtu": 1},
        {"kind": "af_packet", "name": "e", "fanout": (1, "x")},
        {"kind": "tap", "name": "t", "extra": (("a", "b"),)},
        {"kind": "usernet", "extra": (("mtu", "1400"),)},
        {"kind": "usernet", "extra": (("a", "b,c"),)},
    ]
    for bad in nics:
        with pytest.raises(SpecError):
            NicSpec(**bad)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("on", ClassqSpec()),
        ("rate=50mbit", ClassqSpec(rate=50_000_000)),
        (
            "rate=1gbit,burst=3028,limit=100,target=5ms,interval=50ms,ecn=off",
            ClassqSpec(
                rate=10**9, burst=3028, limit=100, target=5 * 10**6, interval=5 * 10**7, ecn=False
            ),
        ),
    ],
)
def test_classq_spec_reads_and_writes(text: str, spec: ClassqSpec) -> None:
    assert ClassqSpec.parse(text) == spec
    assert str(spec) == text
    assert ClassqSpec.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing given; allowed: on, rate, burst"),
        ("rate=0mbit", "a rate of zero lets nothing pass"),
        ("rate=50", "expected a number with a unit"),
        ("burst=3000", "burst without rate"),
        ("target=0ms", "expected a time above zero"),
        ("limit=0", "from 1 to"),
        ("depth=3", "unknown option 'depth'"),
        ("rate=1mbit,rate=2mbit", "given twice"),
    ],
)
def test_classq_spec_errors(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        ClassqSpec.parse(text)
    assert message in str(caught.value)
    with pytest.raises(SpecError):
        ClassqSpec(rate=-1)
