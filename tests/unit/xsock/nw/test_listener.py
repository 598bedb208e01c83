"""Listeners: iterating, handlers, limits, closing."""

import logging
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from xsock import nw

pytestmark = pytest.mark.anyio


async def connect_many(net: Any, where: nw.Endpoint, count: int) -> list[nw.ByteConnection]:
    conns = [await net.stack.connect(where) for _ in range(count)]
    net.opened += conns
    return conns


async def test_it_is_bound_on_enter_and_iterates(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        assert listener.port > 0
        assert listener.state is nw.State.READY
        assert listener.extra(SocketAttribute.local_port) == listener.port
        await connect_many(net, listener.local, 3)
        seen = []
        async for conn in listener:
            seen.append(conn.remote.port)
            conn.abort()
            if len(seen) == 3:
                break
        assert len(set(seen)) == 3
    with pytest.raises(anyio.ClosedResourceError):
        await listener.accept()
    assert [conn async for conn in listener] == []


async def test_an_address_in_use(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        with pytest.raises(nw.NetworkError, match="in use"):
            async with net.stack.listen(local=listener.local):
                pass


async def test_a_handler_that_fails_loses_its_connection_only(
    net: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(conn: nw.ByteConnection) -> None:
        data = await conn.receive()
        if data == b"bad":
            raise KeyError("handler")
        await conn.send(data)

    async with (
        net.stack.listen(local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as group,
    ):
        await group.start(lambda *, task_status: listener.run(handler, task_status=task_status))
        bad, good = await connect_many(net, listener.local, 2)
        with caplog.at_level(logging.ERROR, "xsock.nw"):
            await bad.send(b"bad")
            with pytest.raises(nw.ConnectionReset):
                await bad.receive()
        assert "failed" in caplog.text
        await good.send(b"good")
        assert await good.receive() == b"good"
        with pytest.raises(anyio.EndOfStream):
            await good.receive()
        group.cancel_scope.cancel()


async def test_the_exception_of_a_handler_can_end_the_run(net: Any) -> None:
    async def handler(conn: nw.ByteConnection) -> None:
        raise KeyError

    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        await connect_many(net, listener.local, 1)
        with pytest.raises(ExceptionGroup) as caught:
            await listener.run(handler, on_error="raise")
        assert caught.group_contains(KeyError)


async def test_credit_and_concurrency(net: Any) -> None:
    running = peak = served = 0

    async def handler(conn: nw.ByteConnection) -> None:
        nonlocal running, peak, served
        running += 1
        peak = max(peak, running)
        await conn.receive()
        running -= 1
        served += 1

    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        conns = await connect_many(net, listener.local, 6)
        async with anyio.create_task_group() as group:

            async def feed() -> None:
                for conn in conns:
                    await conn.send(b"x")
                    await anyio.wait_all_tasks_blocked()

            group.start_soon(feed)
            with anyio.fail_after(5):
                await listener.run(handler, concurrency=2, credit=5)
        assert (peak, served) == (2, 5)


async def test_one_peer_may_have_so_many(net: Any) -> None:
    async def handler(conn: nw.ByteConnection) -> None:
        await conn.receive()

    async with (
        net.stack.listen(local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: listener.run(handler, per_peer=2))
        conns = await connect_many(net, listener.local, 2)
        with pytest.raises(ConnectionResetError):  # noqa: PT012
            third = await net.stack.connect(listener.local)
            await third.receive()
        assert conns[0].state is conns[1].state is nw.State.READY
        group.cancel_scope.cancel()


async def test_serve_as_anyio_has_it(net: Any) -> None:
    async def handler(conn: nw.ByteConnection) -> None:
        async with conn:
            await conn.send(await conn.receive())

    async with (
        net.stack.listen(local=("127.0.0.1", 0)) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, handler)
        (conn,) = await connect_many(net, listener.local, 1)
        await conn.send(b"hello")
        assert await conn.receive() == b"hello"
        group.cancel_scope.cancel()
