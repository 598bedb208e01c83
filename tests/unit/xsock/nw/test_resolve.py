"""Names: each family by itself, through a name server on the stack's own loopback; and the race."""

from __future__ import annotations

import socket as std
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from dns import message, rcode, rrset

import xsock
from tests.helpers.loops import LOOPS, Go, runner
from xsock import _dns, _resolver
from xsock._wiring import Stack
from xsock.nw._endpoint import AF_INET, AF_INET6, Endpoint
from xsock.nw._options import IP, TCP, Alternatives
from xsock.nw._parameters import InterfaceType, Parameters
from xsock.nw._path import InterfaceInfo, NetworkState, RouteInfo, read_state
from xsock.nw._race import RaceResult
from xsock.nw._resolve import Answer, Candidate, Names, establish, families_of

SERVER = "127.0.0.1"
FAMILIES = (AF_INET6, AF_INET)
ZONE = {
    ("one.example.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("one.example.", "AAAA"): ["2001:db8::1"],
    ("four.example.", "A"): ["192.0.2.4"],
}
BOTH = ("2001:db8::1", "192.0.2.1", "192.0.2.2")
# A host with both families on en0.
OWN = ("10.0.2.15/24", "2001:db8::2/64")
DUAL = NetworkState(
    (
        InterfaceInfo("en0", 2, InterfaceType.WIRED, 1500, True, OWN),
    ),
    (RouteInfo("0.0.0.0/0", "10.0.2.2", "en0"), RouteInfo("::/0", "fe80::1", "en0")),
)  # fmt: skip


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)


class Server:
    """A name server that may keep the answers of one type back."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.held: str | None = None
        self.asked: list[str] = []
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            wire, peer = self.sock.recvfrom(4096)
            if not wire:
                return
            query = message.from_wire(wire)
            question = query.question[0]
            name, kind = question.name.to_text().lower(), question.rdtype.name
            self.asked.append(f"{kind} {name}")
            if kind == self.held:
                continue
            reply = message.make_response(query)
            if (name, kind) in ZONE:
                reply.answer.append(
                    rrset.from_text(question.name, 60, "IN", kind, *ZONE[(name, kind)])
                )
            elif not any(name == known for known, _ in ZONE):
                reply.set_rcode(rcode.NXDOMAIN)
            self.sock.sendto(reply.to_wire(want_shuffle=False), peer)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stack]:
    both = "".join(f"{address} both.example\n" for address in BOTH)
    (tmp_path / "hosts").write_text("192.0.2.9 filed.example\n" + both)
    monkeypatch.setattr(_resolver, "HOSTS", str(tmp_path / "hosts"))
    conf = {"servers": [], "search": [], "ndots": 1, "timeout": 1, "attempts": 1}
    monkeypatch.setattr(_dns, "resolv_conf", lambda: conf)
    with xsock.Stack(nic="lo", dns=SERVER) as made:
        yield made


@pytest.fixture
def server(stack: Stack) -> Iterator[Server]:
    sock = stack.socket(type=2)
    sock.bind((SERVER, 53))
    sock.settimeout(None)
    made = Server(sock)
    yield made
    with stack.socket(type=2) as end:
        end.sendto(b"", (SERVER, 53))
    made.thread.join()
    sock.close()


def found(answers: list[Answer] | None) -> dict[int, tuple[str, ...]]:
    assert answers is not None
    return {answer.family: answer.addresses for answer in answers}


def test_what_is_known_at_once(stack: Stack) -> None:
    for names in (Names(stack.host), Names(None)):
        assert found(names.known("192.0.2.1", FAMILIES)) == {10: (), 2: ("192.0.2.1",)}
        assert found(names.known("2001:DB8::1", FAMILIES)) == {10: ("2001:db8::1",), 2: ()}
        assert found(names.known("localhost", FAMILIES)) == {10: ("::1",), 2: ("127.0.0.1",)}
        assert found(names.known("a.LocalHost.", (AF_INET,))) == {2: ("127.0.0.1",)}
        assert found(names.known("Filed.Example.", FAMILIES)) == {10: (), 2: ("192.0.2.9",)}
        assert found(names.known("both.example", FAMILIES)) == {10: BOTH[:1], 2: BOTH[1:]}
        # The file has nothing for this family alone, so others are asked.
        assert names.known("filed.example", (AF_INET6,)) is None
        assert names.known("one.example", FAMILIES) is None


def test_each_family_by_itself(go: Go, stack: Stack, server: Server) -> None:
    names = Names(stack.host)

    async def main() -> tuple[Answer, Answer]:
        return await names.ask("one.example", AF_INET6), await names.ask("one.example", AF_INET)

    six, four = go(main)
    assert six.addresses == ("2001:db8::1",)
    assert four.addresses == ("192.0.2.1", "192.0.2.2")
    assert (six.source, six.error) == ("dns", None)
    assert server.asked == ["AAAA one.example.", "A one.example."]


@pytest.mark.parametrize(
    ("name", "family", "code"),
    [("none.example", AF_INET, std.EAI_NONAME), ("four.example", AF_INET6, std.EAI_NODATA)],
)
def test_why_there_is_none(
    go: Go, stack: Stack, server: Server, name: str, family: int, code: int
) -> None:
    answer = go(lambda: Names(stack.host).ask(name, family))
    assert isinstance(answer.error, std.gaierror)
    assert answer.error.errno == code
    assert answer.addresses == ()


def test_without_a_stack_nobody_is_asked(go: Go) -> None:
    answer = go(lambda: Names(None).ask("one.example", AF_INET))
    assert isinstance(answer.error, std.gaierror)
    assert answer.error.errno == std.EAI_AGAIN


def test_the_hosts_resolver(go: Go, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(name: str, port: Any, family: int, *rest: Any) -> Any:
        if family == AF_INET6:
            raise std.gaierror(std.EAI_NODATA, "none")
        return [(family, 1, 6, "", ("192.0.2.77", 0)), (family, 1, 6, "", ("192.0.2.77", 0))]

    monkeypatch.setattr(_resolver, "_c_getaddrinfo", getaddrinfo)
    stack.host.resolver.policy = "host"
    names = Names(stack.host)
    assert names.known("filed.example", FAMILIES) is None
    assert go(lambda: names.ask("filed.example", AF_INET)).addresses == ("192.0.2.77",)
    assert go(lambda: names.ask("filed.example", AF_INET6)).error.errno == std.EAI_NODATA


def test_a_cancelled_question_lets_go_at_once(go: Go, stack: Stack, server: Server) -> None:
    server.held = "A"

    async def main() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await Names(stack.host).ask("one.example", AF_INET)
        return scope.cancelled_caught

    assert go(main)


# ---- the race over names ----


async def reach(
    names: Names, options: Any, *, name: str = "one.example", state: NetworkState = DUAL,
    refused: tuple[str, ...] = (), parameters: Parameters | None = None,
) -> tuple[RaceResult[Candidate, str], list[str]]:  # fmt: skip
    tried: list[str] = []

    async def connect(candidate: Candidate) -> str:
        tried.append(candidate.endpoint.name)
        await anyio.sleep(0)
        if candidate.endpoint.name in refused:
            raise ConnectionRefusedError(111, "Connection refused")
        return str(candidate.endpoint)

    result = await establish(
        names, state, Endpoint.host(name, 80), options, parameters or Parameters(), connect, print
    )
    return result, tried


def test_v6_first_and_then_in_turns(go: Go, stack: Stack) -> None:
    names = Names(stack.host)
    result, tried = go(lambda: reach(names, TCP(), name="both.example", refused=BOTH[:2]))
    assert tried == list(BOTH)
    assert result.value == "192.0.2.2:80"
    assert [str(record.candidate.endpoint) for record in result.records] == [
        "[2001:db8::1]:80", "192.0.2.1:80", "192.0.2.2:80",
    ]  # fmt: skip


def test_a_race_over_name_servers(go: Go, stack: Stack, server: Server) -> None:
    result, tried = go(lambda: reach(Names(stack.host), TCP(), refused=BOTH))
    assert sorted(tried) == sorted(BOTH)
    assert tried[0] == "2001:db8::1"
    assert (result.value, len(result.failures)) == (None, 3)


def test_an_answer_that_does_not_come_is_not_waited_for(
    go: Go, stack: Stack, server: Server
) -> None:
    server.held = "AAAA"
    result, tried = go(lambda: reach(Names(stack.host), TCP()))
    assert tried == ["192.0.2.1"]
    assert result.value == "192.0.2.1:80"


def test_a_name_that_nobody_knows(go: Go, stack: Stack, server: Server) -> None:
    result, tried = go(lambda: reach(Names(stack.host), TCP(), name="none.example"))
    assert (result.value, tried) == (None, [])
    assert {error.errno for error in result.errors.values()} == {std.EAI_NONAME}


def test_a_version_asks_only_for_its_family(go: Go, stack: Stack, server: Server) -> None:
    _, tried = go(lambda: reach(Names(stack.host), TCP(IP(version=4))))
    assert tried == ["192.0.2.1"]
    assert server.asked == ["A one.example."]
    assert families_of(Alternatives(TCP(IP(version=4)), TCP(IP(version=6)))) == FAMILIES


def test_alternatives_take_turns_with_addresses(go: Go, stack: Stack) -> None:
    fast, slow = TCP(no_delay=True), TCP()
    both = Alternatives(fast, slow)
    names = Names(stack.host)
    result, _ = go(lambda: reach(names, both, name="both.example", refused=BOTH))
    assert [(r.candidate.endpoint.name, r.candidate.options) for r in result.records] == [
        ("2001:db8::1", fast), ("192.0.2.1", fast), ("2001:db8::1", slow),
        ("192.0.2.2", fast), ("192.0.2.1", slow), ("192.0.2.2", slow),
    ]  # fmt: skip


def test_a_host_without_v6_begins_with_v4(go: Go, stack: Stack) -> None:
    only4 = NetworkState(
        (InterfaceInfo("en0", 2, InterfaceType.WIRED, 1500, True, ("10.0.2.15/24",)),),
        (RouteInfo("0.0.0.0/0", "10.0.2.2", "en0"),),
    )
    names = Names(stack.host)
    result, tried = go(lambda: reach(names, TCP(), name="both.example", state=only4))
    assert tried == ["192.0.2.1"]
    assert result.value == "192.0.2.1:80"


def test_localhost_on_a_real_stack(go: Go, stack: Stack) -> None:
    state = read_state(stack.core)
    result, tried = go(lambda: reach(Names(stack.host), TCP(), name="localhost", state=state))
    assert tried == ["::1"]
    assert result.value == "[::1]:80"
