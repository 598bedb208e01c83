"""From a name to the connection that won, and the error that says why none did."""

from __future__ import annotations

import errno
import socket as std
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import trio.testing

import xsock
from tests.helpers.loops import LOOPS, Go, runner
from tests.helpers.nameserver import ADDRESS, NameServer, name_server
from xsock import _dns, _resolver
from xsock._wiring import Stack
from xsock.nw._endpoint import AF_INET, AF_INET6, Endpoint
from xsock.nw._errors import (
    ConnectionRefused,
    EstablishmentError,
    HandshakeError,
    NameResolutionError,
    NoPath,
)
from xsock.nw._establish import Candidate, Established, establish, families_of
from xsock.nw._options import IP, TCP, Alternatives, ProtocolOptions
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._path import InterfaceInfo, NetworkState, PathReason, RouteInfo, read_state
from xsock.nw._report import Attempt, Resolution
from xsock.nw._resolve import Names

ZONE = {
    ("one.example.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("one.example.", "AAAA"): ["2001:db8:1::1"],
    ("four.example.", "A"): ["192.0.2.4"],
}
BOTH = ("2001:db8:1::1", "192.0.2.1", "192.0.2.2")
# A host with both families on en0, and one with IPv4 only.
OWN = ("10.0.2.15/24", "2001:db8::2/64")
EN0 = InterfaceInfo("en0", 2, InterfaceType.WIRED, 1500, True, OWN)
ROUTE4, ROUTE6 = RouteInfo("0.0.0.0/0", "10.0.2.2", "en0"), RouteInfo("::/0", "fe80::1", "en0")
DUAL = NetworkState((EN0,), (ROUTE4, ROUTE6))
ONLY4 = NetworkState(
    (InterfaceInfo("en0", 2, InterfaceType.WIRED, 1500, True, OWN[:1]),), (ROUTE4,)
)


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stack]:
    (tmp_path / "hosts").write_text("".join(f"{address} both.example\n" for address in BOTH))
    monkeypatch.setattr(_resolver, "HOSTS", str(tmp_path / "hosts"))
    conf = {"servers": [], "search": [], "ndots": 1, "timeout": 1, "attempts": 1}
    monkeypatch.setattr(_dns, "resolv_conf", lambda: conf)
    with xsock.Stack(nic="lo", dns=ADDRESS) as made:
        yield made


@pytest.fixture
def server(stack: Stack) -> Iterator[NameServer]:
    with name_server(stack, ZONE) as made:
        yield made


class Try:
    """One establishment, and all that it did."""

    def __init__(
        self,
        stack: Stack | None,
        to: str = "both.example:80",
        options: ProtocolOptions | None = None,
        *,
        state: NetworkState = DUAL,
        parameters: Parameters | None = None,
        fail: Callable[[Candidate], BaseException | None] = lambda candidate: None,
    ) -> None:
        self.names = Names(None if stack is None else stack.host)
        self.to = Endpoint.parse(to)
        self.options = options or TCP()
        self.state = state
        self.parameters = parameters or Parameters()
        self.fail = fail
        self.tried: list[Candidate] = []
        self.closed: list[str] = []
        self.attempts: list[Attempt] = []
        self.resolutions: list[Resolution] = []

    async def connect(self, candidate: Candidate) -> str:
        self.tried.append(candidate)
        await anyio.sleep(0)
        if (error := self.fail(candidate)) is not None:
            raise error
        return str(candidate.endpoint)

    async def __call__(self) -> Established[str]:
        return await establish(
            self.names, self.state, self.to, self.options, self.parameters,
            self.connect, self.closed.append,
            attempts=self.attempts, resolutions=self.resolutions,
        )  # fmt: skip

    @property
    def addresses(self) -> list[str]:
        return [candidate.endpoint.name for candidate in self.tried]


def refuse(*addresses: str) -> Callable[[Candidate], BaseException | None]:
    def fail(candidate: Candidate) -> BaseException | None:
        refused = candidate.endpoint.name in addresses
        return ConnectionRefusedError(errno.ECONNREFUSED, "refused") if refused else None

    return fail


# ---- who is tried, in which order ----


def test_v6_first_and_then_in_turns(go: Go, stack: Stack) -> None:
    one = Try(stack, fail=refuse(*BOTH[:2]))
    assert go(one).value == "192.0.2.2:80"
    assert one.addresses == list(BOTH)
    assert [str(attempt.endpoint) for attempt in one.attempts] == [
        "[2001:db8:1::1]:80", "192.0.2.1:80", "192.0.2.2:80",
    ]  # fmt: skip
    assert [type(attempt.error) for attempt in one.attempts] == [
        ConnectionRefusedError, ConnectionRefusedError, type(None),
    ]  # fmt: skip
    assert [(r.source, r.count) for r in one.resolutions] == [("hosts", 1), ("hosts", 2)]


def test_over_name_servers(go: Go, stack: Stack, server: NameServer) -> None:
    one = Try(stack, "one.example:80", fail=refuse(*BOTH))
    with pytest.raises(ConnectionRefused) as caught:
        go(one)
    assert sorted(one.addresses) == sorted(BOTH)
    assert one.addresses[0] == BOTH[0]
    assert len(caught.value.attempts) == 3
    assert sorted((r.source, r.count) for r in one.resolutions) == [("dns", 1), ("dns", 2)]


def test_an_answer_that_does_not_come_is_not_waited_for(
    go: Go, stack: Stack, server: NameServer
) -> None:
    server.held = "AAAA"
    one = Try(stack, "one.example:80")
    assert go(one).value == "192.0.2.1:80"
    assert one.addresses == ["192.0.2.1"]


def test_a_version_asks_only_for_its_family(go: Go, stack: Stack, server: NameServer) -> None:
    one = Try(stack, "one.example:80", TCP(IP(version=4)))
    go(one)
    assert one.addresses == ["192.0.2.1"]
    assert server.asked == ["A one.example."]
    both = Alternatives(TCP(IP(version=4)), TCP(IP(version=6)))
    assert families_of(both) == (AF_INET6, AF_INET)


def test_alternatives_take_turns_with_addresses(go: Go, stack: Stack) -> None:
    fast, slow = TCP(no_delay=False), TCP()
    one = Try(stack, options=Alternatives(fast, slow), fail=refuse(*BOTH))
    with pytest.raises(ConnectionRefused):
        go(one)
    assert [(candidate.endpoint.name, candidate.options) for candidate in one.tried] == [
        (BOTH[0], fast), (BOTH[1], fast), (BOTH[0], slow),
        (BOTH[2], fast), (BOTH[1], slow), (BOTH[2], slow),
    ]  # fmt: skip


def test_alternatives_of_one_family_each(go: Go, stack: Stack) -> None:
    four, six = TCP(IP(version=4)), TCP(IP(version=6), no_delay=False)
    one = Try(stack, options=Alternatives(four, six), fail=refuse(*BOTH))
    with pytest.raises(ConnectionRefused):
        go(one)
    assert {c.options for c in one.tried if c.family == AF_INET} == {four}
    assert {c.options for c in one.tried if c.family == AF_INET6} == {six}


def test_without_v6_on_the_host(go: Go, stack: Stack) -> None:
    one = Try(stack, state=ONLY4)
    assert go(one).value == "192.0.2.1:80"
    assert one.addresses == ["192.0.2.1"]


def test_an_address(go: Go) -> None:
    one = Try(None, "192.0.2.1:80")
    assert go(one) == Established("192.0.2.1:80", Candidate(Endpoint.parse("192.0.2.1:80"), TCP()))
    assert len(one.attempts) == 1
    assert one.resolutions == []


def test_localhost_on_a_real_stack(go: Go, stack: Stack) -> None:
    one = Try(stack, "localhost:80", state=read_state(stack.core))
    assert go(one).value == "[::1]:80"


# ---- what went wrong ----


def test_nobody_knows_the_name(go: Go, stack: Stack, server: NameServer) -> None:
    with pytest.raises(NameResolutionError) as caught:
        go(Try(stack, "none.example:80"))
    assert caught.value.errno == std.EAI_NONAME
    assert not caught.value.transient
    assert isinstance(caught.value.__cause__, std.gaierror)
    assert caught.value.endpoint == Endpoint.host("none.example", 80)


def test_nobody_can_say(go: Go) -> None:
    with pytest.raises(NameResolutionError) as caught:
        go(Try(None, "none.example:80"))
    assert caught.value.errno == std.EAI_AGAIN
    assert caught.value.transient


def test_no_address_of_the_family(go: Go) -> None:
    with pytest.raises(NameResolutionError) as caught:
        go(Try(None, "192.0.2.1:80", TCP(IP(version=6))))
    assert caught.value.errno == std.EAI_NODATA


def test_no_path(go: Go) -> None:
    for to, state, parameters, reason in (
        ("[2001:db8:1::1]:80", ONLY4, Parameters(), PathReason.NO_ROUTE),
        ("192.0.2.1:80", DUAL, Parameters(required_interface="en1"), PathReason.INTERFACE_REQUIRED),
        ("192.0.2.1:80", DUAL, Parameters(local_only=True), PathReason.NOT_LOCAL),
    ):
        one = Try(None, to, state=state, parameters=parameters)
        with pytest.raises(NoPath) as caught:
            go(one)
        assert caught.value.reason is reason
        assert one.tried == []


def test_a_name_without_a_path(go: Go, stack: Stack) -> None:
    one = Try(stack, parameters=Parameters(prohibited_interfaces=("en0",)))
    with pytest.raises(NoPath) as caught:
        go(one)
    assert caught.value.reason is PathReason.INTERFACE_PROHIBITED
    assert one.tried == []
    assert len(caught.value.attempts) == 3


def test_different_failures(go: Go, stack: Stack) -> None:
    def fail(candidate: Candidate) -> BaseException:
        if candidate.family == AF_INET6:
            return OSError(errno.EHOSTUNREACH, "no route")
        return ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    with pytest.raises(EstablishmentError) as caught:
        go(Try(stack, fail=fail))
    assert type(caught.value) is EstablishmentError
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert [error.errno for error in caught.value.__cause__.exceptions] == [113, 111, 111]  # type: ignore[union-attr]


def test_the_kind_of_failure_is_kept(go: Go) -> None:
    first = HandshakeError(1, "certificate")
    with pytest.raises(HandshakeError) as caught:
        go(Try(None, "192.0.2.1:80", fail=lambda candidate: first))
    assert caught.value is not first
    assert caught.value.__cause__ is first
    assert len(caught.value.attempts) == 1


def test_cancelled_attempts_are_told_too() -> None:
    async def main() -> Try:
        one = Try(None, "192.0.2.1:80")

        async def never(candidate: Candidate) -> str:
            await trio.sleep_forever()
            return ""

        one.connect = never  # type: ignore[method-assign]
        with trio.move_on_after(3):
            await one()
        return one

    (attempt,) = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0)).attempts
    assert attempt.duration == pytest.approx(3)
    assert attempt.error is not None
    assert attempt.error.errno == errno.ECANCELED


def test_the_losers_are_in_the_report(go: Go, stack: Stack) -> None:
    one = Try(stack, parameters=Parameters(attempt_delay=0.01))

    async def connect(candidate: Candidate) -> Any:
        if candidate.family == AF_INET6:
            await anyio.sleep_forever()
        return "won"

    one.connect = connect  # type: ignore[method-assign]
    assert go(one).value == "won"
    assert [attempt.error is None for attempt in one.attempts] == [False, True]
    assert one.attempts[0].error is not None
    assert one.attempts[0].error.errno == errno.ECANCELED
