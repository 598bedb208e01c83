"""Vouchers and racing through whole connections: what leaves the stack, on every loop."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import nic
import xsock
from bsdcore import netstat
from bsdcore.stack import Stack as Core
from tests.helpers.nameserver import ADDRESS, name_server
from xsock import _resolver, nw
from xsock.nw._context import ContentContext
from xsock.nw._endpoint import Endpoint
from xsock.nw._ledger import Ledger, Traffic
from xsock.nw._options import TCP
from xsock.nw._parameters import Parameters
from xsock.nw._resolve import Names
from xsock.nw._voucher import Originator, QoS, ServiceClass, Voucher, qos

pytestmark = pytest.mark.anyio

PAYER, OTHER = Originator("tenant-7"), Originator("tenant-8")
LEVELS = {
    "context": ServiceClass.SIGNALING, "connection": ServiceClass.OAM,
    "parameters": ServiceClass.STREAMING_AV, "voucher": ServiceClass.INTERACTIVE_VOICE,
}  # fmt: skip
DATA = bytes(1000)


def classes(stack: nw.Stack, originator: Originator | None) -> set[ServiceClass]:
    """The classes in which packets with data left for *originator*; alone ACKs are control."""
    account = stack.ledger[originator]
    return {item for item, t in account.classes.items() if t.bytes_out > len(DATA)}


@pytest.mark.parametrize("present", list(itertools.product([False, True], repeat=4)))
async def test_the_class_of_each_precedence_level(net: Any, present: tuple[bool, ...]) -> None:
    chosen = {
        name: LEVELS[name] if there else None for name, there in zip(LEVELS, present, strict=True)
    }
    near, far = await net.pair(nw.Parameters(service_class=chosen["parameters"]))
    near.set_service_class(chosen["connection"])
    voucher = Voucher(qos=QoS.BACKGROUND, service_class=chosen["voucher"], originator=PAYER)
    with voucher.adopt():
        await near.send(DATA, ContentContext(service_class=chosen["context"]))
    assert await far.receive_exactly(len(DATA)) == DATA
    expected = next((item for item in chosen.values() if item), ServiceClass.BACKGROUND)
    assert classes(net.stack, PAYER) == {expected}


async def test_one_connection_carries_several_classes(net: Any) -> None:
    """A segment has the class of its first byte, so each class is let through before the next."""
    near, far = await net.pair()
    # Small ones wait for the turn, large ones do not: each keeps the class of its send.
    for level, size in ((QoS.BACKGROUND, 20_000), (QoS.USER_INTERACTIVE, 100)):
        with Voucher(qos=level, originator=PAYER).adopt():
            for _ in range(20):
                await near.send(bytes(size))
        await far.receive_exactly(20 * size)
    with Voucher(originator=OTHER).adopt():
        assert near.try_send(DATA) == len(DATA)
    await far.receive_exactly(len(DATA))
    account = net.stack.ledger[PAYER]
    assert account.of(ServiceClass.BACKGROUND).bytes_out > 20 * 20_000
    assert 20 * 100 < account.of(ServiceClass.RESPONSIVE_DATA).bytes_out < 20 * 400
    assert classes(net.stack, OTHER) == {ServiceClass.BEST_EFFORT}


async def test_a_change_of_class_flushes_what_was_queued(net: Any) -> None:
    """Two sends in one turn: the first is not of the class of the second."""
    near, far = await net.pair()
    with Voucher(qos=QoS.BACKGROUND, originator=PAYER).adopt():
        await near.send(DATA)
    with Voucher(service_class=ServiceClass.OAM, originator=OTHER).adopt():
        await near.send(DATA)
    await far.receive_exactly(2 * len(DATA))
    assert classes(net.stack, PAYER) == {ServiceClass.BACKGROUND}


async def test_every_way_to_send(net: Any) -> None:
    near, far = await net.pair()
    for service_class, send in enumerate((send_reserved, send_forwarded, send_tried, send_many)):
        chosen = list(ServiceClass)[service_class + 1]
        with Voucher(service_class=chosen, originator=PAYER).adopt():
            await send(near, far)
        await far.receive_exactly(len(DATA))
        assert chosen in classes(net.stack, PAYER)


async def send_reserved(near: Any, far: Any) -> None:
    with await near.reserve(len(DATA)) as room:
        room.view[:] = DATA
        room.commit(len(DATA))


async def send_forwarded(near: Any, far: Any) -> None:
    with Voucher().adopt():
        await far.send(DATA)
    with await near.receive_packet() as packet:
        assert packet.forward(near)


async def send_tried(near: Any, far: Any) -> None:
    assert near.try_send(DATA) == len(DATA)


async def send_many(near: Any, far: Any) -> None:
    assert await near.send_many([DATA[:500], DATA[500:]]) == 2


async def test_nested_tasks_and_threads(net: Any) -> None:
    near, far = await net.pair()

    async def send(size: int) -> None:
        await near.send(bytes(size))

    async with anyio.create_task_group() as outer:
        with Voucher(qos=QoS.BACKGROUND, originator=PAYER).adopt():
            async with anyio.create_task_group() as inner:
                inner.start_soon(send, 5000)
                with qos(QoS.BACKGROUND):
                    await anyio.to_thread.run_sync(anyio.from_thread.run, near.send, bytes(3000))
            outer.start_soon(send, 4000)
        await anyio.sleep(0)
        await near.send(bytes(100))
    await far.receive_exactly(12_100)
    assert net.stack.ledger[PAYER].of(ServiceClass.BACKGROUND).bytes_out > 12_000
    assert 100 < net.stack.ledger[None].of(ServiceClass.BEST_EFFORT).bytes_out < 1000


async def test_an_abandoned_generator(net: Any) -> None:
    near, far = await net.pair()

    async def numbers() -> Any:
        with Voucher(qos=QoS.BACKGROUND, originator=PAYER).adopt():
            yield 1

    generator = numbers()
    await anext(generator)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(generator.aclose)
    await near.send(DATA)
    await far.receive_exactly(len(DATA))
    assert classes(net.stack, PAYER) == set()
    assert classes(net.stack, None) == {ServiceClass.BEST_EFFORT}


async def test_a_handshake_goes_under_the_voucher_of_start(net: Any) -> None:
    with Voucher(originator=PAYER).adopt():
        near, _ = await net.pair()
    account = net.stack.ledger[PAYER]
    assert account.total.packets_out == 2  # SYN and the ACK of the handshake
    assert near.state is nw.State.READY


async def test_the_ledgers_sums_are_the_interfaces_counters(net: Any) -> None:
    near, far = await net.pair()

    async def drain() -> None:
        await far.receive_exactly(3 * 50_000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drain)
        for originator in (PAYER, OTHER, None):
            with Voucher(originator=originator).adopt():
                await near.send(bytes(50_000))
    net.stack.driver.pump()
    (lo,) = netstat.interfaces(net.stack.driver.core)
    accounts = net.stack.ledger.accounts()
    total = sum((account.total for account in accounts.values()), Traffic())
    assert (total.packets_out, total.bytes_out) == (lo.opackets, lo.obytes)
    assert {PAYER, OTHER, None} == set(accounts)


async def test_a_grant_is_the_stacks(net: Any) -> None:
    grant = net.stack.grant(PAYER, qos=QoS.USER_INITIATED)
    raised = Voucher(originator=PAYER).derive(grant=grant, qos=QoS.USER_INITIATED)
    assert Voucher.redeem(raised.to_recipe(), net.stack) == raised
    assert Voucher.redeem(Voucher(qos=QoS.USER_INITIATED).to_recipe(), net.stack) == Voucher()


@pytest.mark.parametrize(("adopt", "level"), [("connection", QoS.DEFAULT), (None, QoS.BACKGROUND)])
async def test_what_a_listeners_handlers_run_under(net: Any, adopt: Any, level: QoS) -> None:
    """The client's own class, high as it is, gives its handler nothing."""
    seen = []

    async def handle(conn: Any) -> None:
        assert await conn.receive_exactly(len(DATA)) == DATA
        seen.append(nw.current_voucher().qos)

    async def serve(listener: Any) -> None:
        with qos(QoS.BACKGROUND):
            await listener.run(handle, credit=1, adopt=adopt)

    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, listener)
            with Voucher(service_class=ServiceClass.INTERACTIVE_VOICE, originator=PAYER).adopt():
                async with net.stack.connection(listener.local) as near:
                    await near.send(DATA)
        with pytest.raises(ValueError, match="adopt"):
            await listener.run(handle, adopt="packet")
    assert seen == [level]


@pytest.mark.parametrize("voucher", [
    Voucher(qos=QoS.BACKGROUND, originator=PAYER),
    Voucher(originator=OTHER),
    Voucher(),
])  # fmt: skip
async def test_a_handler_works_for_who_connected(net: Any, voucher: Voucher) -> None:
    """Its answers are charged to the client, and stay in the background."""
    seen = []

    async def handle(conn: Any) -> None:
        seen.append(nw.current_voucher())
        await conn.send(await conn.receive())

    async def connect(address: Any) -> None:
        with voucher.adopt():
            async with net.stack.connection(address) as near:
                await near.send(DATA)
                assert await near.receive_exactly(len(DATA)) == DATA

    async with (
        net.stack.listen(local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(connect, listener.local)
        await listener.run(handle, credit=1)
    assert seen == [voucher]
    if voucher.originator is not None:
        sent = net.stack.ledger[voucher.originator].classes[voucher.effective_class]
        assert sent.bytes_out > 2 * len(DATA)


# ---- racing ----


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Writes the hosts file: ``hosts("name", "address", ...)``."""

    def write(name: str, *addresses: str) -> None:
        (tmp_path / "hosts").write_text("".join(f"{each} {name}\n" for each in addresses))

    monkeypatch.setattr(_resolver, "HOSTS", str(tmp_path / "hosts"))
    return write


@pytest.fixture
def swallowing() -> Iterator[Callable[[], Core]]:
    """Makes a stack with IPv6 on a cable at whose other end nobody reads."""
    near, far = nic.open_pair(mtu=1500)
    raw, pool = near.release()

    def make() -> Core:
        core = Core("dual")
        core.attach(raw, "en0")
        core.set_flags("en0", 1)
        core.add_address("en0", "2001:db8::2/64")
        core.add_neighbour("en0", "2001:db8::99", b"\x02\0\0\0\0\x63")
        return core

    yield make
    far.close()
    pool.drop()


async def test_a_blackhole_costs_one_attempt_delay(
    anyio_backend: Any, hosts: Callable[..., None], swallowing: Callable[[], Core]
) -> None:
    hosts("both.example", "2001:db8::99", "127.0.0.1")
    async with nw.Stack(swallowing) as stack, stack.listen(local=("127.0.0.1", 0)) as listener:
        to = Endpoint.host("both.example", listener.port)
        start = time.monotonic()
        async with stack.connection(to, TCP(), Parameters(attempt_delay=0.05)) as near:
            elapsed = time.monotonic() - start
            far = await listener.accept()
            await near.send(b"once")
            assert await far.receive_exactly(4) == b"once"
            report = await near.establishment_report()
        await far.aclose()
        # The loser's socket is gone with its half-made connection.
        stack.driver.pump()
        states = {info.state for info in netstat.sockets(stack.driver.core)}
        assert "SYN_SENT" not in states
    assert [str(each.endpoint.name) for each in report.attempts] == ["2001:db8::99", "127.0.0.1"]
    delay = 0.05 - 0.002  # uvloop's clock has milliseconds, rounded
    assert report.attempts[1].started_after >= delay
    assert delay <= elapsed < 1.0  # the first SYN would be sent again only then


async def test_a_refusal_moves_on_at_once(anyio_backend: Any, hosts: Callable[..., None]) -> None:
    hosts("both.example", "::1", "127.0.0.1")
    async with nw.Stack.loopback() as stack, stack.listen(local=("127.0.0.1", 0)) as listener:
        slow = Parameters(attempt_delay=2.0)
        near = await stack.connect(("both.example", listener.port), TCP(), slow)
        far = await listener.accept()
        report = await near.establishment_report()
        assert [each.error is None for each in report.attempts] == [False, True]
        assert isinstance(report.attempts[0].error, ConnectionRefusedError | OSError)
        assert report.attempts[1].started_after < 1.0
        near.abort()
        far.abort()


async def test_exactly_one_leaf_gets_the_data(
    anyio_backend: Any, hosts: Callable[..., None]
) -> None:
    """Both would connect; what was sent early arrives once, on the winner's connection."""
    hosts("both.example", "::1", "127.0.0.1")
    async with (
        nw.Stack.loopback() as stack,
        stack.listen(local=("127.0.0.1", 0)) as four,
        stack.listen(local=("::1", four.port)) as six,
    ):
        async with stack.connection(("both.example", four.port)) as near:
            await near.send(b"once")
            far = await six.accept()
            assert await far.receive_exactly(4) == b"once"
            with anyio.move_on_after(0.05) as scope:
                await four.accept()
            assert scope.cancelled_caught
        far.abort()


ZONE = {("served.example.", "A"): ["127.0.0.1"]}


async def test_a_name_from_the_processs_resolver(anyio_backend: Any) -> None:
    """The connection is over the loop's own stack, the question over the process's."""
    with xsock.Stack(nic="lo", dns=ADDRESS) as process, name_server(process, ZONE) as server:
        names = Names(process.host)
        async with (
            nw.Stack.loopback(names=names) as stack,
            stack.listen(local=("127.0.0.1", 0)) as lst,
        ):
            async with stack.connection(("served.example", lst.port)) as near:
                far = await lst.accept()
                await near.send(DATA)
                assert await far.receive_exactly(len(DATA)) == DATA
                report = await near.establishment_report()
            far.abort()
            async with stack.path_monitor(required=nw.InterfaceType.LOOPBACK) as monitor:
                assert monitor.current.has_dns
    assert "A served.example." in server.asked
    assert ("served.example", "dns", 1) in {(r.name, r.source, r.count) for r in report.resolutions}


async def test_a_stack_beside_the_processs(anyio_backend: Any) -> None:
    """It resolves as the process does, and both charge the same originators."""
    with xsock.Stack(nic="lo", dns=ADDRESS) as process, name_server(process, ZONE):
        async with nw.Stack.host(process) as stack, stack.listen(local=("127.0.0.1", 0)) as lst:
            with Voucher(originator=PAYER).adopt():
                near = await stack.connect(("served.example", lst.port))
                await near.send(DATA)
                with process.socket(type=2) as sock:
                    sock.sendto(DATA, (ADDRESS, 9))
            far = await lst.accept()
            assert await far.receive_exactly(len(DATA)) == DATA
            number = process.host.originators.intern(PAYER)
            assert stack.originators.intern(PAYER) == number
            assert classes(stack, PAYER) == {ServiceClass.BEST_EFFORT}
            own = Ledger(stack.originators, lambda: [process.core])
            # The datagram, and the question for the name.
            assert own[PAYER].total.bytes_out > len(DATA) + 28
            near.abort()
            far.abort()
