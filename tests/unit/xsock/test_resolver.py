"""Names: the hosts file, DNS over the stack, the search list, and the C library's error codes."""

from __future__ import annotations

import socket as std
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dns import flags, message, rcode, rrset

import xsock
from xsock import _dns, _resolver
from xsock._wiring import Stack

SERVER = "127.0.0.1"
ZONE = {
    ("one.example.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("one.example.", "AAAA"): ["2001:db8::1"],
    ("host.search.example.", "A"): ["192.0.2.3"],
    ("1.2.0.192.in-addr.arpa.", "PTR"): ["one.example."],
    ("big.example.", "A"): [f"198.51.100.{i}" for i in range(1, 200)],
}


def reply_to(wire: bytes, over_tcp: bool) -> bytes:
    query = message.from_wire(wire)
    reply = message.make_response(query)
    question = query.question[0]
    key = (question.name.to_text().lower(), question.rdtype.name)
    if not over_tcp and key[0] == "big.example.":
        reply.flags |= flags.TC
    elif key in ZONE:
        reply.answer.append(rrset.from_text(question.name, 60, "IN", key[1], *ZONE[key]))
    elif not any(name == key[0] for name, _ in ZONE):
        reply.set_rcode(rcode.NXDOMAIN)
    return reply.to_wire(max_size=65535)


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose name server is a thread on its own loopback."""
    (tmp_path / "hosts").write_text("192.0.2.9 filed.example filed # comment\n::9 filed.example\n")
    monkeypatch.setattr(_resolver, "HOSTS", str(tmp_path / "hosts"))
    conf = {"servers": [], "search": ["search.example"], "ndots": 1, "timeout": 2, "attempts": 1}
    monkeypatch.setattr(_dns, "resolv_conf", lambda: conf)
    with xsock.Stack(nic="lo", dns=SERVER) as made:
        udp, tcp = made.socket(type=2), made.socket()
        for sock in (udp, tcp):
            sock.bind((SERVER, 53))
            sock.settimeout(None)
        tcp.listen()
        threads = [threading.Thread(target=run, args=(sock,))
                   for run, sock in ((serve_udp, udp), (serve_tcp, tcp))]  # fmt: skip
        for thread in threads:
            thread.start()
        yield made
        with made.socket(type=2) as end, made.socket() as goodbye:
            end.sendto(b"", (SERVER, 53))
            goodbye.connect((SERVER, 53))
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


def serve_udp(sock: Any) -> None:
    while True:
        wire, peer = sock.recvfrom(4096)
        if not wire:
            return
        sock.sendto(b"not an answer", peer)
        sock.sendto(reply_to(wire, False), peer)


def serve_tcp(sock: Any) -> None:
    while True:
        client, _ = sock.accept()
        with client:
            head = client.recv(2)
            if not head:
                return
            wire = reply_to(client.recv(int.from_bytes(head, "big")), True)
            client.sendall(len(wire).to_bytes(2, "big") + wire)


def ask(stack: Stack, host: Any, port: Any = 80, family: int = 0, flags: int = 0) -> list[str]:
    rows = _resolver.getaddrinfo(lambda: stack.host, host, port, family, std.SOCK_STREAM, 0, flags)
    return [row[4][0] for row in rows]


def test_dns_over_the_stack(stack: Stack) -> None:
    # Servers and dnspython turn the addresses of a name round.
    found = ask(stack, "one.example")
    assert (set(found[:2]), found[2:]) == ({"192.0.2.1", "192.0.2.2"}, ["2001:db8::1"])
    assert ask(stack, "one.example", family=std.AF_INET6) == ["2001:db8::1"]
    assert len(ask(stack, b"ONE.example.", family=std.AF_INET)) == 2


def test_a_truncated_answer_is_asked_for_over_tcp(stack: Stack) -> None:
    assert len(ask(stack, "big.example", family=std.AF_INET)) == 199


def test_the_search_list(stack: Stack) -> None:
    assert ask(stack, "host") == ["192.0.2.3"]


def test_the_hosts_file_comes_first(stack: Stack) -> None:
    assert set(ask(stack, "filed.example")) == {"192.0.2.9", "::9"}
    assert ask(stack, "FILED", family=std.AF_INET) == ["192.0.2.9"]


@pytest.mark.parametrize("name", ["localhost", "any.localhost."])
def test_localhost_needs_nobody(stack: Stack, name: str) -> None:
    assert set(ask(stack, name)) == {"127.0.0.1", "::1"}


def test_names_that_are_not_there(stack: Stack) -> None:
    with pytest.raises(std.gaierror) as error:
        ask(stack, "nothing.example.")
    assert error.value.args == (std.EAI_NONAME, "Name or service not known")
    with pytest.raises(std.gaierror) as error:
        ask(stack, "host.search.example", family=std.AF_INET6)
    assert error.value.args[0] == std.EAI_NODATA


def test_a_server_that_cannot_be_reached() -> None:
    with xsock.Stack(nic="lo", dns="192.0.2.1") as stack, pytest.raises(std.gaierror) as error:
        ask(stack, "one.example")
    assert error.value.args == (std.EAI_AGAIN, "Temporary failure in name resolution")


def test_literals_start_nothing() -> None:
    def nobody() -> Any:
        raise AssertionError("a literal needs no stack")

    rows = _resolver.getaddrinfo(nobody, "192.0.2.1", "http", 0, std.SOCK_STREAM, 0, 0)
    assert rows[0][4] == ("192.0.2.1", 80)
    with pytest.raises(std.gaierror):
        _resolver.getaddrinfo(nobody, "name", 80, 0, 0, 0, std.AI_NUMERICHOST)


def test_scopes_are_the_stacks_interfaces(stack: Stack) -> None:
    assert ask(stack, "fe80::1%lo0") == [ask(stack, f"fe80::1%{stack.core.index('lo0')}")[0]]


def test_back_from_addresses(stack: Stack) -> None:
    def host_of() -> Any:
        return stack.host

    assert _resolver.getnameinfo(host_of, ("192.0.2.1", 80), 0)[0] == "one.example"
    assert _resolver.getnameinfo(host_of, ("192.0.2.9", 80), 0)[0] == "filed.example"
    numeric = _resolver.getnameinfo(host_of, ("192.0.2.1", 80), std.NI_NUMERICHOST)
    assert numeric[0] == "192.0.2.1"
    assert _resolver.getnameinfo(host_of, ("192.0.2.7", 80), 0)[0] == "192.0.2.7"
    with pytest.raises(std.gaierror):
        _resolver.getnameinfo(host_of, ("192.0.2.7", 80), std.NI_NAMEREQD)
    assert _resolver.gethostbyaddr(host_of, "192.0.2.1")[0] == "one.example"
    with pytest.raises(std.herror):
        _resolver.gethostbyaddr(host_of, "192.0.2.7")


def test_connect_resolves(stack: Stack) -> None:
    with stack.socket() as sock:
        sock.settimeout(5)
        sock.connect(("localhost", 53))
        assert sock.getpeername() == ("127.0.0.1", 53)
        sock.shutdown(1)
        assert sock.recv(1) == b""
