"""Vouchers and sockets of the facade: the class of what is sent, and who is charged for it."""

from __future__ import annotations

import asyncio
import socket as std
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import xsock
from bsdcore import netstat
from tests.helpers.loops import LOOPS, Go, runner
from xsock import _vouch
from xsock._wiring import Stack
from xsock.nw._ledger import OTHERS, Account, Ledger, Traffic
from xsock.nw._voucher import Originator, QoS, ServiceClass, Voucher, qos

SO_TRAFFIC_CLASS = 0x1086
PAYER = Originator("tenant-7")
OTHER = Originator("tenant-8")
SIZE = 100  # bytes of a datagram here
WIRE = SIZE + 28  # with its IPv4 and UDP headers


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Go:
    return runner(request.param)


@pytest.fixture
def stack() -> Iterator[Stack]:
    with xsock.Stack(nic="lo") as made:
        yield made


@pytest.fixture
def ledger(stack: Stack) -> Ledger:
    return Ledger(_vouch.originators_of(stack.host), lambda: [stack.core])


@pytest.fixture
def udp(stack: Stack) -> Iterator[tuple[Any, Any]]:
    """A datagram socket that sends to the other."""
    with stack.socket(type=2) as far, stack.socket(type=2) as near:
        far.bind(("127.0.0.1", 0))
        far.settimeout(10)
        near.connect(far.getsockname())
        yield near, far


def sent(ledger: Ledger, originator: Originator | None) -> dict[ServiceClass, int]:
    """Packets by class."""
    account = ledger[originator]
    return {item: t.packets_out for item, t in account.classes.items() if t.packets_out}


# ---- the class of each send ----


def test_nothing_without_a_voucher(udp: tuple[Any, Any], ledger: Ledger) -> None:
    udp[0].send(bytes(SIZE))
    assert sent(ledger, None) == {ServiceClass.BEST_EFFORT: 1}
    assert list(ledger) == [None]


def test_one_socket_carries_many_classes(udp: tuple[Any, Any], ledger: Ledger) -> None:
    near, _ = udp
    voice = Voucher(service_class=ServiceClass.INTERACTIVE_VOICE, originator=PAYER)
    with voice.adopt():
        near.send(bytes(SIZE))
        with qos(QoS.BACKGROUND):
            near.send(bytes(SIZE))
        near.send(bytes(SIZE))
    near.send(bytes(SIZE))
    with Voucher(qos=QoS.USER_INITIATED, originator=OTHER).adopt():
        near.send(bytes(SIZE))
    assert sent(ledger, PAYER) == {
        ServiceClass.INTERACTIVE_VOICE: 2, ServiceClass.BACKGROUND: 1,
    }  # fmt: skip
    assert sent(ledger, OTHER) == {ServiceClass.RESPONSIVE_DATA: 1}
    assert sent(ledger, None) == {ServiceClass.BEST_EFFORT: 1}
    assert ledger[PAYER].total == Traffic(3, 3 * WIRE, 0, 0)


@pytest.mark.parametrize(
    "send",
    [
        lambda near, far: near.send(bytes(SIZE)),
        lambda near, far: near.sendall(bytes(SIZE)),
        lambda near, far: near.sendto(bytes(SIZE), far.getsockname()),
        lambda near, far: near.sendmsg([bytes(SIZE)]),
    ],
    ids=["send", "sendall", "sendto", "sendmsg"],
)
def test_every_way_to_send(
    stack: Stack, ledger: Ledger, send: Callable[[Any, Any], Any], request: pytest.FixtureRequest
) -> None:
    with stack.socket(type=2) as far, stack.socket(type=2) as near:
        far.bind(("127.0.0.1", 0))
        if "sendto" not in request.node.name:
            near.connect(far.getsockname())
        with Voucher(service_class=ServiceClass.OAM, originator=PAYER).adopt():
            send(near, far)
    assert sent(ledger, PAYER) == {ServiceClass.OAM: 1}


@pytest.mark.parametrize(
    ("level", "name", "value", "expected"),
    [
        (std.SOL_SOCKET, SO_TRAFFIC_CLASS, 600, ServiceClass.RESPONSIVE_AV),
        (std.SOL_SOCKET, SO_TRAFFIC_CLASS, 0, ServiceClass.BEST_EFFORT),
        (std.SOL_SOCKET, 0x1116, 2, ServiceClass.SIGNALING),
        (std.IPPROTO_IP, std.IP_TOS, 0x20, ServiceClass.BACKGROUND),
    ],
)
def test_a_sockets_own_class_counts_more(
    udp: tuple[Any, Any], ledger: Ledger, level: int, name: int, value: int, expected: ServiceClass
) -> None:
    near, _ = udp
    with Voucher(service_class=ServiceClass.INTERACTIVE_VOICE, originator=PAYER).adopt():
        near.send(bytes(SIZE))
        near.setsockopt(level, name, value)
        near.send(bytes(SIZE))
    assert sent(ledger, PAYER) == {ServiceClass.INTERACTIVE_VOICE: 1, expected: 1}


def test_a_messages_own_class_counts_most(udp: tuple[Any, Any], ledger: Ledger) -> None:
    near, _ = udp
    near.setsockopt(std.SOL_SOCKET, SO_TRAFFIC_CLASS, 600)
    with Voucher(service_class=ServiceClass.INTERACTIVE_VOICE, originator=PAYER).adopt():
        own = (std.SOL_SOCKET, SO_TRAFFIC_CLASS, struct.pack("=i", 400))
        near.sendmsg([bytes(SIZE)], [own])
    assert sent(ledger, PAYER) == {ServiceClass.OAM: 1}


def test_an_accepted_socket_has_its_listeners_class(stack: Stack, ledger: Ledger) -> None:
    with stack.socket() as listener, stack.socket() as client:
        listener.setsockopt(std.SOL_SOCKET, SO_TRAFFIC_CLASS, 600)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server, Voucher(qos=QoS.BACKGROUND, originator=PAYER).adopt():
            server.send(b"x")
            client.recv(1)
    classes = sent(ledger, PAYER)
    assert ServiceClass.BACKGROUND not in classes
    assert ServiceClass.RESPONSIVE_AV in classes


def test_a_handshake_goes_under_the_voucher_of_connect(stack: Stack, ledger: Ledger) -> None:
    with stack.socket() as listener, stack.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with Voucher(originator=PAYER).adopt():
            client.connect(listener.getsockname())
    assert ledger[PAYER].total.packets_out >= 2  # SYN and ACK


# ---- who inherits ----


def test_threads_and_tasks(go: Go, udp: tuple[Any, Any], ledger: Ledger) -> None:
    near, _ = udp
    background = Voucher(qos=QoS.BACKGROUND, originator=PAYER)

    async def main() -> None:
        async def work() -> None:
            await anyio.sleep(0)
            near.send(bytes(SIZE))
            await anyio.to_thread.run_sync(near.send, bytes(SIZE))

        async with anyio.create_task_group() as tasks:
            with background.adopt():
                tasks.start_soon(work)
        await anyio.to_thread.run_sync(near.send, bytes(SIZE))

    go(main)
    assert sent(ledger, PAYER) == {ServiceClass.BACKGROUND: 2}
    assert sent(ledger, None) == {ServiceClass.BEST_EFFORT: 1}


def test_a_generator_left_behind(go: Go, udp: tuple[Any, Any], ledger: Ledger) -> None:
    near, _ = udp

    async def numbers() -> Any:
        with Voucher(qos=QoS.BACKGROUND, originator=PAYER).adopt():
            yield 1

    async def main() -> None:
        generator = numbers()
        await anext(generator)
        near.send(bytes(SIZE))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(generator.aclose)
        near.send(bytes(SIZE))

    go(main)
    assert sent(ledger, PAYER) == {ServiceClass.BACKGROUND: 1}
    assert sent(ledger, None) == {ServiceClass.BEST_EFFORT: 1}


def test_asyncios_own_loop_under_a_voucher(stack: Stack, ledger: Ledger) -> None:
    """Streams of a patched program; its descriptors are proxies that the stack serves."""

    async def main() -> None:
        near, far = stack.socket(), stack.socket()
        far.bind(("127.0.0.1", 0))
        far.listen()
        near.connect(far.getsockname())
        peer, _ = far.accept()
        far.close()
        reader, writer = await asyncio.open_connection(sock=near)
        with Voucher(qos=QoS.BACKGROUND, originator=PAYER).adopt():
            writer.write(b"x" * 1000)
            await writer.drain()
        peer.settimeout(10)
        got = b""
        while len(got) < 1000:
            got += await asyncio.to_thread(peer.recv, 1000)
        writer.close()
        peer.close()
        assert reader is not None

    asyncio.run(main())
    assert ledger[PAYER].of(ServiceClass.BACKGROUND).bytes_out >= 1000


# ---- sums ----


def test_the_sums_are_the_interfaces_counters(stack: Stack, ledger: Ledger) -> None:
    """Every packet that left lo0 is in exactly one account, and so is every one that came in."""
    with stack.socket() as listener, stack.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            for i, voucher in enumerate(
                (Voucher(originator=PAYER), Voucher(qos=QoS.BACKGROUND, originator=OTHER), None)
            ):
                data = bytes(20_000 * (i + 1))
                drain = threading.Thread(target=exactly, args=(server, len(data)))
                drain.start()
                if voucher is None:
                    client.sendall(data)
                else:
                    with voucher.adopt():
                        client.sendall(data)
                drain.join()
    (lo,) = netstat.interfaces(stack.core)
    accounts = ledger.accounts()
    total = sum((account.total for account in accounts.values()), Traffic())
    assert (total.packets_out, total.bytes_out) == (lo.opackets, lo.obytes)
    assert (lo.ipackets, lo.ibytes) == (lo.opackets, lo.obytes)
    assert set(accounts) == {None, PAYER, OTHER}
    assert accounts[PAYER].total.bytes_out > 20_000
    assert accounts[OTHER].of(ServiceClass.BACKGROUND).bytes_out > 40_000
    assert accounts[None].total.bytes_in > 60_000
    assert accounts[PAYER].retransmitted_packets == 0


def exactly(sock: Any, size: int) -> None:
    while size:
        size -= len(sock.recv(size))


def test_memory_is_charged(udp: tuple[Any, Any], stack: Stack, ledger: Ledger) -> None:
    near, far = udp
    with Voucher(originator=PAYER).adopt():
        far.sendto(b"", far.getsockname())  # far is PAYER's from here on
        far.recv(1)
    for _ in range(10):
        near.send(bytes(SIZE))
    assert ledger[PAYER].pool_bytes >= 10 * SIZE
    for _ in range(10):
        far.recv(SIZE)
    assert ledger[PAYER].pool_bytes == 0
    assert ledger[PAYER].total.packets_in == 11


def test_more_originators_than_rows(udp: tuple[Any, Any], ledger: Ledger) -> None:
    near, far = udp
    for number in range(300):
        with Voucher(originator=Originator(f"user {number}")).adopt():
            near.send(b"x")
        far.recv(1)
    assert len(ledger) == 258
    assert sum(account.total.packets_out for account in ledger.values()) == 300
    assert ledger[OTHERS].total.packets_out == 300 - 256


def test_accounts_of_several_stacks_are_added(stack: Stack) -> None:
    with xsock.Stack(nic="lo") as second:
        second.host.originators = _vouch.originators_of(stack.host)
        both = Ledger(second.host.originators, lambda: [stack.core, second.core])
        for each in (stack, second):
            with each.socket(type=2) as sock, Voucher(originator=PAYER).adopt():
                sock.bind(("127.0.0.1", 0))
                sock.sendto(bytes(SIZE), sock.getsockname())
        assert both[PAYER].total == Traffic(2, 2 * WIRE, 2, 2 * WIRE)
        assert both[PAYER].originator == PAYER
        assert both[OTHER] == Account(OTHER)


# ---- what it costs who does not use it ----


def test_a_program_without_vouchers_imports_nothing_of_them() -> None:
    code = (
        "import sys, xsock\n"
        "with xsock.Stack(nic='lo') as s, s.socket(type=2) as a:\n"
        "    a.bind(('127.0.0.1', 0)); a.sendto(b'x', a.getsockname()); a.recv(1)\n"
        "assert not [m for m in sys.modules if m.startswith(('xsock.nw', 'xsock._vouch'))]\n"
        "assert 'anyio' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
