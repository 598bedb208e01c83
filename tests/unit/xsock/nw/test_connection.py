"""A connection's life: states, failures, guards, closing."""

from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from xsock import nw
from xsock.nw import State

pytestmark = pytest.mark.anyio


async def test_echo(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"hello")
    assert await far.receive() == b"hello"
    await far.send(bytearray(b"back"))
    assert await near.receive() == b"back"
    await near.aclose()
    with pytest.raises(anyio.EndOfStream):
        await far.receive()


async def test_a_connection_does_nothing_until_it_is_started(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        conn = net.stack.connection(listener.local)
        updates = conn.states()
        assert (await anext(updates)).state is State.SETUP
        conn.start()
        conn.start()
        assert conn.state is State.PREPARING
        await conn.ready()
        await conn.ready()
        await conn.aclose()
        await conn.aclose()
        assert [u.state async for u in updates] == [
            State.PREPARING,
            State.READY,
            State.CANCELLED,
        ]
        assert [u.state async for u in conn.states()] == [State.CANCELLED]


async def test_every_waiter_of_ready_wakes(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        conn = net.stack.connection(listener.local)
        done: list[int] = []

        async def wait(number: int) -> None:
            await conn.ready()
            done.append(number)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(wait, number)
        assert sorted(done) == [0, 1, 2]
        conn.abort()


async def test_refusal_is_told_at_once_as_every_class(net: Any) -> None:
    with anyio.fail_after(1), pytest.raises(nw.ConnectionRefused) as caught:
        await net.stack.connect(("127.0.0.1", 1))
    error = caught.value
    assert isinstance(error, ConnectionRefusedError)
    assert isinstance(error, anyio.ConnectionFailed)
    assert isinstance(error.__cause__, OSError)
    assert [a.endpoint.port for a in error.attempts] == [1]


async def test_ready_on_a_failed_connection_raises_a_new_error_each_time(net: Any) -> None:
    conn = net.stack.connection(("127.0.0.1", 1))
    errors = []
    for _ in range(2):
        with pytest.raises(nw.ConnectionRefused) as caught:
            await conn.ready()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert errors[0].__cause__ is errors[1].__cause__ is conn.error
    assert conn.state is State.FAILED
    with pytest.raises(nw.ConnectionRefused):
        await conn.send(b"x")
    with pytest.raises(nw.ConnectionRefused):
        await conn.receive()


async def test_a_waiting_connection_recovers_when_told_to_retry(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as first:
        where = first.local
    conn = net.stack.connection(where, nw.TCP(), nw.Parameters(waiting="wait"))
    updates = conn.states()
    conn.start()
    seen = []
    async for update in updates:
        seen.append(update)
        if update.state is State.WAITING:
            break
    assert [u.state for u in seen] == [State.SETUP, State.PREPARING, State.WAITING]
    assert isinstance(seen[-1].error, nw.ConnectionRefused)
    async with net.stack.listen(local=where):
        conn.retry()
        await conn.ready()
        assert conn.state is State.READY
        assert conn.error is None
        assert [(await anext(updates)).state for _ in range(2)] == [State.PREPARING, State.READY]
        conn.abort()


async def test_only_lack_of_a_path_is_waited_for(net: Any) -> None:
    parameters = nw.Parameters(waiting="path")
    with pytest.raises(nw.ConnectionRefused):
        await net.stack.connect(("127.0.0.1", 1), nw.TCP(), parameters)
    conn = net.stack.connection(("192.0.2.1", 1), nw.TCP(), parameters)
    conn.start()
    async for update in conn.states():
        if update.state is State.WAITING:
            assert isinstance(update.error, nw.NoPath)
            break
    conn.abort()
    with pytest.raises(anyio.ClosedResourceError):
        await conn.ready()


async def test_running_out_of_time_tells_what_had_gone_wrong(net: Any) -> None:
    parameters = nw.Parameters(waiting="wait", establish_timeout=0.05)
    with pytest.raises(nw.EstablishTimeout) as caught:
        await net.stack.connect(("127.0.0.1", 1), nw.TCP(), parameters)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error.last, nw.ConnectionRefused)
    assert len(error.attempts) == 1


async def test_one_reader_and_one_writer(net: Any) -> None:
    near, _far = await net.pair()
    async with anyio.create_task_group() as group:
        group.start_soon(near.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await near.receive()
        group.cancel_scope.cancel()
    async with anyio.create_task_group() as group:
        group.start_soon(near.send, bytes(10_000_000))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await near.send(b"x")
        group.cancel_scope.cancel()


async def test_closing_wakes_who_waits(net: Any) -> None:
    near, _far = await net.pair()

    async def reader() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await near.receive()

    async with anyio.create_task_group() as group:
        group.start_soon(reader)
        await anyio.wait_all_tasks_blocked()
        await near.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await near.send(b"x")


async def test_a_reset_breaks_both_directions_after_what_was_buffered(net: Any) -> None:
    near, far = await net.pair()
    await far.send(b"last words")
    await anyio.wait_all_tasks_blocked()
    net.stack.driver.pump()
    far.abort()
    net.stack.driver.pump()
    got = b""
    with pytest.raises(nw.ConnectionReset) as caught:  # noqa: PT012
        while True:
            got += await near.receive()
    assert got in (b"", b"last words")
    assert isinstance(caught.value, anyio.BrokenResourceError)
    assert isinstance(caught.value, ConnectionResetError)
    assert near.state is State.FAILED
    with pytest.raises(anyio.BrokenResourceError):
        await near.send(b"x")


async def test_half_close(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"question", end_of_stream=True)
    assert await far.receive_exactly(8) == b"question"
    with pytest.raises(anyio.EndOfStream):
        await far.receive()
    await far.send(b"answer")
    assert await near.receive() == b"answer"
    with pytest.raises(anyio.ClosedResourceError):
        await near.send(b"more")
    await near.send_eof()


async def test_close_under_a_cancelled_scope_releases_everything(net: Any) -> None:
    near, far = await net.pair()
    await near.send(b"x")
    with anyio.CancelScope() as scope:
        scope.cancel()
        await near.aclose()
    assert scope.cancelled_caught
    assert near.state is State.CANCELLED
    far.abort()


async def test_leaving_by_exception_aborts(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        with pytest.raises(KeyError):  # noqa: PT012
            async with net.stack.connection(listener.local) as near:
                far = await listener.accept()
                raise KeyError
        with pytest.raises(nw.ConnectionReset):
            await far.receive()
        assert near.state is State.CANCELLED


async def test_events_tell_states_and_end(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        conn = net.stack.connection(listener.local)
        events = conn.events()
        await conn.ready()
        await conn.aclose()
        seen = [e async for e in events]
    assert seen[0] == nw.StateChanged(nw.StateUpdate(State.PREPARING))
    assert nw.ViabilityChanged(True) in seen
    assert seen[-1] == nw.StateChanged(nw.StateUpdate(State.CANCELLED))
    assert events.dropped == 0


async def test_attributes_and_reports(net: Any) -> None:
    near, far = await net.pair()
    assert near.extra(SocketAttribute.remote_port) == far.extra(SocketAttribute.local_port)
    assert near.extra(SocketAttribute.local_address) == far.remote.sockaddr
    with pytest.raises(anyio.TypedAttributeLookupError):
        near.extra(SocketAttribute.raw_socket)
    await near.send(bytes(1000))
    assert len(await far.receive_exactly(1000)) == 1000
    assert far.data_transfer_report().received_bytes == 1000
    assert near.data_transfer_report().sent_bytes == 1000
    assert near.tcp_info().state == 1
    report = await near.establishment_report()
    assert report.previous_attempt_count == 0
    assert report.attempts[0].error is None


async def test_leaving_the_stack_closes_what_is_open(anyio_backend: Any) -> None:
    async with nw.Stack.loopback() as stack:
        assert nw.current_stack() is stack
        async with stack.listen(local=("127.0.0.1", 0)) as listener:
            near = await stack.connect(listener.local)
            far = await listener.accept()
    assert near.state is far.state is State.CANCELLED
    with pytest.raises(RuntimeError):
        nw.current_stack()
    with pytest.raises(RuntimeError):
        stack.connection(("127.0.0.1", 1))


async def test_a_tracked_send_says_when_it_was_acknowledged(net: Any) -> None:
    near, far = await net.pair()
    context = nw.ContentContext(track=True)
    receipt = await near.send(b"x" * 1000, context)
    assert isinstance(receipt, nw.SendReceipt)
    assert receipt.accepted
    with anyio.fail_after(2):
        await receipt.acked()
    assert receipt.is_acked
    assert receipt.failed is None
    far.abort()
    net.stack.driver.pump()
    with pytest.raises(nw.ConnectionReset):
        await near.receive()
    assert receipt.is_acked


async def test_a_receipt_of_what_never_arrived_fails(net: Any) -> None:
    near, far = await net.pair(nw.Parameters(), nw.Parameters(receive_window=4096))
    receipt = await near.send(bytes(100_000), nw.ContentContext(track=True))
    assert not receipt.is_acked
    assert receipt.failed is None
    far.abort()
    with pytest.raises(anyio.BrokenResourceError):
        await near.receive()
    with pytest.raises(anyio.BrokenResourceError):
        await receipt.acked()
    assert isinstance(receipt.failed, nw.ConnectionReset)


async def test_migrating_hands_the_work_over_and_closes_the_old_connection(net: Any) -> None:
    async with net.stack.listen(local=("127.0.0.1", 0)) as listener:
        old = await net.stack.connect(listener.local)

        async def handover(new: nw.ByteConnection) -> None:
            await new.send(b"moved")

        new = await old.migrate(handover=handover)
        assert old.state is State.CANCELLED
        first, second = await listener.accept(), await listener.accept()
        with pytest.raises(anyio.EndOfStream):
            await first.receive()
        assert await second.receive() == b"moved"
        for conn in (new, first, second):
            conn.abort()


async def test_a_change_of_the_network_is_told(net: Any) -> None:
    near, _far = await net.pair()
    events, paths = near.events(), near.paths()
    assert (await anext(paths)).is_satisfied
    core = net.stack.driver.core
    core.set_flags("lo0", 0, 1)
    net.stack.path_watch.poll()
    assert not (await anext(paths)).is_satisfied
    assert not near.viable
    core.set_flags("lo0", 1)
    net.stack.path_watch.poll()
    assert (await anext(paths)).is_satisfied
    assert near.viable
    kinds = [type(await anext(events)) for _ in range(4)]
    assert kinds == [nw.PathChanged, nw.ViabilityChanged] * 2
