"""Paths: judged from pictures of the network, and followed through its changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import xsock
from tests.helpers.loops import LOOPS, Go, runner
from xsock._wiring import Stack
from xsock.nw._endpoint import Endpoint
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._path import (
    InterfaceInfo,
    NetworkState,
    Path,
    PathMonitor,
    PathReason,
    PathStatus,
    PathWatch,
    RouteInfo,
    evaluate,
    interface_type,
    read_state,
)

LO = InterfaceInfo("lo0", 1, InterfaceType.LOOPBACK, 65535, True, ("127.0.0.1/8", "::1/128"))
EN = InterfaceInfo("en0", 2, InterfaceType.WIRED, 1500, True, ("10.0.2.15/24", "2001:db8::2/64"))
WL = InterfaceInfo("wl0", 3, InterfaceType.WIFI, 1400, True, ("192.168.1.7/24",))
ROUTES = (
    RouteInfo("127.0.0.0/8", None, "lo0"), RouteInfo("10.0.2.0/24", None, "en0"),
    RouteInfo("0.0.0.0/0", "10.0.2.2", "en0"), RouteInfo("2001:db8::/64", None, "en0"),
    RouteInfo("192.168.1.0/24", None, "wl0"), RouteInfo("203.0.113.0/24", None, "en0", True),
)  # fmt: skip
STATE = NetworkState((LO, EN, WL), ROUTES, ("10.0.2.3",))
FAR = Endpoint.address("198.51.100.1", 80)


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)


def with_interface(changed: InterfaceInfo) -> NetworkState:
    others = [changed if item.name == changed.name else item for item in STATE.interfaces]
    return NetworkState(tuple(others), STATE.routes, STATE.servers)


# ---- judging ----


def test_a_path_to_anywhere() -> None:
    path = evaluate(STATE)
    assert path.is_satisfied
    assert path.reason is PathReason.NONE
    assert [item.name for item in path.interfaces] == ["en0", "wl0"]
    assert path.gateways == ("10.0.2.2",)
    assert (path.mtu, path.has_ipv4, path.has_ipv6, path.has_dns) == (1500, True, True, True)
    assert path.uses(InterfaceType.WIRED)
    assert not path.uses(InterfaceType.LOOPBACK)


def test_a_path_to_an_address() -> None:
    path = evaluate(STATE, FAR)
    assert (path.local, path.gateways, path.remote) == ("10.0.2.15", ("10.0.2.2",), FAR)
    near = evaluate(STATE, Endpoint.address("192.168.1.1", 80))
    assert (near.local, near.gateways, near.interfaces[0].name) == ("192.168.1.7", (), "wl0")
    here = evaluate(STATE, Endpoint.address("127.0.0.1", 80))
    assert (here.local, here.interfaces[0].name) == ("127.0.0.1", "lo0")


@pytest.mark.parametrize(
    ("state", "endpoint", "parameters", "reason"),
    [
        (NetworkState((LO,)), None, Parameters(), PathReason.NO_INTERFACE),
        (NetworkState((replace(EN, is_up=False),)), None, Parameters(), PathReason.NO_INTERFACE),
        (NetworkState((replace(EN, addresses=()),)), None, Parameters(), PathReason.NO_ADDRESS),
        (STATE, Endpoint.address("2001:db8:1::1", 80), Parameters(), PathReason.NO_ROUTE),
        (STATE, Endpoint.address("203.0.113.1", 80), Parameters(), PathReason.REJECTED),
        (STATE, FAR, Parameters(required_interface="en7"), PathReason.INTERFACE_REQUIRED),
        (STATE, FAR, Parameters(required_interface="wl0"), PathReason.INTERFACE_PROHIBITED),
        (STATE, FAR, Parameters(prohibited_interfaces=("en0",)), PathReason.INTERFACE_PROHIBITED),
        (STATE, None, Parameters(required_interface_type=InterfaceType.CELLULAR),
         PathReason.INTERFACE_TYPE_REQUIRED),
        (STATE, None,
         Parameters(prohibited_interface_types=(InterfaceType.WIRED, InterfaceType.WIFI)),
         PathReason.INTERFACE_PROHIBITED),
        (STATE, FAR, Parameters(local_only=True), PathReason.NOT_LOCAL),
        (NetworkState((replace(EN, is_expensive=True),), ROUTES), None,
         Parameters(prohibit_expensive=True), PathReason.EXPENSIVE_PROHIBITED),
        (NetworkState((replace(EN, is_constrained=True),), ROUTES), None,
         Parameters(prohibit_constrained=True), PathReason.CONSTRAINED_PROHIBITED),
    ],
)  # fmt: skip
def test_why_there_is_no_path(
    state: NetworkState, endpoint: Endpoint | None, parameters: Parameters, reason: PathReason
) -> None:
    path = evaluate(state, endpoint, parameters)
    assert (path.status, path.reason) == (PathStatus.UNSATISFIED, reason)
    assert path.interfaces == ()


def test_parameters_choose_the_interface() -> None:
    path = evaluate(STATE, None, Parameters(prohibited_interfaces=("en0",)))
    assert [item.name for item in path.interfaces] == ["wl0"]
    near = Endpoint.address("10.0.2.9", 80)
    assert evaluate(STATE, near, Parameters(local_only=True)).is_satisfied
    scoped = evaluate(STATE, Endpoint.address("10.0.2.9", 80, interface="en0"))
    assert [item.name for item in scoped.interfaces] == ["en0"]
    # The expensive one comes second, whatever its index.
    costly = with_interface(replace(EN, is_expensive=True))
    without_default = NetworkState(costly.interfaces, ROUTES[:2])
    assert evaluate(without_default).interfaces[0].name == "wl0"


def test_a_name_may_lead_anywhere() -> None:
    assert evaluate(NetworkState((LO,)), Endpoint.host("a.example", 80)).is_satisfied


def test_diff() -> None:
    before = evaluate(STATE, generation=1)
    after = evaluate(with_interface(replace(EN, mtu=1280)), generation=4)
    diff = after.diff(before)
    assert diff
    assert diff.changed == {"mtu", "interfaces"}
    assert (diff.flapped, diff.missed) == (False, 3)
    assert not before.diff(before)
    assert before.replace(flaps=2).diff(before).flapped
    assert before.material_key == before.replace(generation=9, flaps=9).material_key
    assert eval(repr(Path(mtu=3)), {"Path": Path}) == Path(mtu=3)


@pytest.mark.parametrize(
    ("name", "flags", "expected"),
    [("lo0", 2, InterfaceType.LOOPBACK), ("en0", 1, InterfaceType.WIRED),
     ("pdp_ip0", 1, InterfaceType.CELLULAR), ("wlan0", 1, InterfaceType.WIFI),
     ("utun0", 1, InterfaceType.OTHER)],
)  # fmt: skip
def test_interface_type(name: str, flags: int, expected: InterfaceType) -> None:
    assert interface_type(name, flags) is expected


numbers = st.integers(0, 3)
interfaces = st.builds(
    InterfaceInfo,
    name=st.sampled_from(["lo0", "en0", "en1", "wl0"]),
    index=st.integers(1, 4),
    type=st.sampled_from(InterfaceType),
    mtu=st.integers(1280, 9000),
    is_up=st.booleans(),
    addresses=st.lists(
        st.builds("10.{}.2.1/16".format, numbers) | st.builds("2001:db8:{}::1/64".format, numbers),
        max_size=3,
    ).map(tuple),
    is_expensive=st.booleans(),
    is_constrained=st.booleans(),
)
routes = st.builds(
    RouteInfo,
    destination=st.sampled_from(["0.0.0.0/0", "::/0", "10.1.0.0/16", "2001:db8:1::/64"]),
    gateway=st.none() | st.just("10.0.2.2"),
    interface=st.sampled_from(["lo0", "en0", "en1", "wl0"]),
    is_reject=st.booleans(),
)
states = st.builds(
    NetworkState,
    st.lists(interfaces, max_size=4, unique_by=lambda item: item.name).map(tuple),
    st.lists(routes, max_size=5).map(tuple),
)
choices = st.builds(
    Parameters,
    required_interface=st.none() | st.sampled_from(["en0", "wl0"]),
    required_interface_type=st.none() | st.sampled_from(InterfaceType),
    prohibited_interfaces=st.lists(st.sampled_from(["en0", "en1"]), max_size=1).map(tuple),
    prohibit_expensive=st.booleans(),
    prohibit_constrained=st.booleans(),
    local_only=st.booleans(),
)
places = st.none() | st.sampled_from(
    [Endpoint.parse(text) for text in ("10.1.2.3:1", "[2001:db8:1::9]:1", "a.example:1")]
)


@given(states, places, choices)
def test_whatever_the_network(
    state: NetworkState, endpoint: Endpoint | None, parameters: Parameters
) -> None:
    path = evaluate(state, endpoint, parameters)
    assert path.is_satisfied == (path.reason is PathReason.NONE) == bool(path.interfaces)
    for item in path.interfaces:
        assert item.is_up
        assert item.name not in parameters.prohibited_interfaces
        assert not (parameters.prohibit_expensive and item.is_expensive)
        assert parameters.required_interface in (None, item.name)
    if path.local is not None:
        own = [a.partition("/")[0] for item in path.interfaces for a in item.addresses]
        assert path.local in own
    assert path == evaluate(state, endpoint, parameters)


# ---- a real stack ----


@pytest.fixture
def stack() -> Iterator[Stack]:
    with xsock.Stack(nic="lo") as made:
        yield made


def test_a_picture_of_a_stack(stack: Stack) -> None:
    state = read_state(stack.core)
    assert [item.name for item in state.interfaces] == ["lo0"]
    assert state.interfaces[0].type is InterfaceType.LOOPBACK
    route = state.route("127.0.0.1")
    assert route is not None
    assert route.interface == "lo0"
    source = state.source_for("127.0.0.1")
    assert source is not None
    assert source.address == "127.0.0.1"
    assert state.source_for("192.0.2.1") is None
    assert state == read_state(stack.core)


def test_following_a_stack(go: Go, stack: Stack) -> None:
    there = Endpoint.address("192.0.2.7", 80)

    async def main() -> None:
        watch = PathWatch(lambda: read_state(stack.core), interval=0.001)
        async with PathMonitor(watch, there) as monitor:
            assert monitor.current.reason is PathReason.NO_ROUTE
            seen = [await anext(monitor)]
            stack.core.add_address("lo0", "192.0.2.7/24")
            seen.append(await anext(monitor))
            stack.core.delete_address("lo0", "192.0.2.7")
            seen.append(await anext(monitor))
        assert [path.is_satisfied for path in seen] == [False, True, False]
        assert seen[0].generation < seen[1].generation < seen[2].generation
        assert not watch.is_running
        assert watch._listeners == []

    go(main)


# ---- watching ----


class Network:
    """A picture that a test changes."""

    def __init__(self) -> None:
        self.state = STATE
        self.watch = PathWatch(lambda: self.state)

    def change(self, state: NetworkState) -> None:
        self.state = state
        self.watch.poll()


DOWN = NetworkState((LO,))


def test_a_flap_that_nobody_saw_is_told(go: Go) -> None:
    async def main() -> tuple[Path, Path]:
        network = Network()
        async with PathMonitor(network.watch) as monitor:
            first = await anext(monitor)
            network.change(DOWN)
            network.change(STATE)
            return first, await anext(monitor)

    first, second = go(main)
    assert first.material_key == second.material_key
    assert second.generation == first.generation + 2
    assert second.diff(first).flapped
    assert second.diff(first).changed == frozenset()


def test_what_a_monitor_does_not_show_does_not_wake_it(go: Go) -> None:
    async def main() -> tuple[Path, Path]:
        network = Network()
        async with PathMonitor(network.watch, Endpoint.address("192.168.1.1", 80),
                               required=InterfaceType.WIFI) as monitor:  # fmt: skip
            first = await anext(monitor)
            network.change(with_interface(replace(EN, mtu=1280)))
            network.change(with_interface(replace(WL, mtu=1280)))
            return first, await anext(monitor)

    first, second = go(main)
    assert (first.mtu, second.mtu) == (1400, 1280)
    assert second.generation == 2


def test_only_material_changes(go: Go) -> None:
    async def main() -> list[bool]:
        network = Network()
        seen = []
        async with PathMonitor(network.watch) as monitor:
            paths = monitor.material()
            seen.append((await anext(paths)).is_satisfied)
            network.change(DOWN)
            network.change(STATE)
            async with anyio.create_task_group() as tasks:

                async def later() -> None:
                    await anyio.lowlevel.checkpoint()
                    network.change(DOWN)

                tasks.start_soon(later)
                seen.append((await anext(paths)).is_satisfied)
            await paths.aclose()
        return seen

    assert go(main) == [True, False]


def test_settled_skips_what_passes() -> None:
    async def main() -> list[tuple[float, bool]]:
        network = Network()
        seen = []
        start = trio.current_time()

        async def weather() -> None:
            for after, state in ((1.0, DOWN), (0.05, STATE), (0.05, DOWN), (5.0, STATE)):
                await trio.sleep(after)
                network.change(state)

        async with PathMonitor(network.watch) as monitor, trio.open_nursery() as nursery:
            nursery.start_soon(weather)
            paths = monitor.settled(0.2)
            for _ in range(3):
                path = await anext(paths)
                seen.append((round(trio.current_time() - start, 3), path.is_satisfied))
            await paths.aclose()
        return seen

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=clock) == [(0.2, True), (1.3, False), (6.3, True)]


def test_marks() -> None:
    network = Network()
    network.watch.mark("en0", expensive=True)
    assert network.watch.generation == 1
    assert evaluate(network.watch.state).interfaces[0].is_expensive
    assert not evaluate(network.watch.state, FAR, Parameters(prohibit_expensive=True)).is_satisfied


def test_outside_of_async_with() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = PathMonitor(Network().watch).current
