"""Names: each family by itself, through a name server on the stack's own loopback."""

from __future__ import annotations

import socket as std
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import xsock
from tests.helpers.loops import LOOPS, Go, runner
from tests.helpers.nameserver import ADDRESS, NameServer, name_server
from xsock import _dns, _resolver
from xsock._wiring import Stack
from xsock.nw._endpoint import AF_INET, AF_INET6
from xsock.nw._resolve import Answer, Names

FAMILIES = (AF_INET6, AF_INET)
ZONE = {
    ("one.example.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("one.example.", "AAAA"): ["2001:db8::1"],
    ("four.example.", "A"): ["192.0.2.4"],
    ("www.one.test.", "A"): ["192.0.2.5"],
    ("www.two.test.", "AAAA"): ["2001:db8::5"],
    ("mail.one.test.", "TXT"): ["nothing"],
    ("mail.two.test.", "A"): ["192.0.2.6"],
}
BOTH = ("2001:db8::1", "192.0.2.1", "192.0.2.2")


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stack]:
    both = "".join(f"{address} both.example\n" for address in BOTH)
    (tmp_path / "hosts").write_text("192.0.2.9 filed.example\n" + both)
    monkeypatch.setattr(_resolver, "HOSTS", str(tmp_path / "hosts"))
    conf = {"servers": [], "search": [], "ndots": 1, "timeout": 1, "attempts": 1}
    monkeypatch.setattr(_dns, "resolv_conf", lambda: conf)
    with xsock.Stack(nic="lo", dns=ADDRESS) as made:
        yield made


@pytest.fixture
def server(stack: Stack) -> Iterator[NameServer]:
    with name_server(stack, ZONE) as made:
        yield made


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


def test_who_is_asked(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Names(None).servers == ()
    assert Names(stack.host).servers == (ADDRESS,)
    stack.host.resolver.dns._servers = ()
    monkeypatch.setattr(_dns, "resolv_conf", lambda: {"servers": ["192.0.2.53"]})
    assert Names(stack.host).servers == ("192.0.2.53",)
    stack.host.resolver.policy = "host"
    assert Names(stack.host).servers == ()


def test_each_family_by_itself(go: Go, stack: Stack, server: NameServer) -> None:
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
    go: Go, stack: Stack, server: NameServer, name: str, family: int, code: int
) -> None:
    answer = go(lambda: Names(stack.host).ask(name, family))
    assert isinstance(answer.error, std.gaierror)
    assert answer.error.errno == code
    assert answer.addresses == ()


def test_both_families_find_the_same_host_by_the_search_list(
    go: Go, stack: Stack, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching = {**_dns.resolv_conf(), "search": ["one.test", "two.test"]}
    monkeypatch.setattr(_dns, "resolv_conf", lambda: searching)
    names = Names(stack.host)
    assert go(lambda: names.ask("www", AF_INET)).addresses == ("192.0.2.5",)
    # www.two.test has one, but it is another host than www.one.test.
    assert go(lambda: names.ask("www", AF_INET6)).error.errno == std.EAI_NODATA
    # A name without any address does not end the search.
    assert go(lambda: names.ask("mail", AF_INET)).addresses == ("192.0.2.6",)
    assert go(lambda: names.ask("mail", AF_INET6)).error.errno == std.EAI_NODATA
    assert go(lambda: names.ask("none", AF_INET6)).error.errno == std.EAI_NONAME


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


def test_a_cancelled_question_lets_go_at_once(go: Go, stack: Stack, server: NameServer) -> None:
    server.held = "A"

    async def main() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await Names(stack.host).ask("one.example", AF_INET)
        return scope.cancelled_caught

    assert go(main)
