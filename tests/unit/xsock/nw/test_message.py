"""Messages over a stream: whole, in parts, in order of priority, each of them or nothing."""

import random
import ssl
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute

from xsock import nw
from xsock.nw._content import Message
from xsock.nw._context import DEFAULT_MESSAGE, FINAL_MESSAGE, ContentContext
from xsock.nw._errors import (
    AntecedentFailed,
    HandshakeError,
    MessageExpired,
    MessageTooLarge,
    ProtocolError,
)
from xsock.nw._framer import Framer, FramerControl, StartResult
from xsock.nw._framers import LengthPrefixedFramer
from xsock.nw._message import MessageConnection, frame
from xsock.nw._options import TLS, TLV, LengthPrefixed, Lines

pytestmark = pytest.mark.anyio
BLOCKING = bytes(300_000)  # a message whose peer has to read for others to get their turn
Messages = tuple[MessageConnection, MessageConnection]


@pytest.fixture
async def pair(net: Any) -> Messages:
    """Length-prefixed messages, on a loopback with a small buffer."""
    near, far = await net.pair(
        nw.Parameters(send_high_water=65_536),
        nw.Parameters(receive_window=65_536),
    )
    return frame(near, LengthPrefixed()), frame(far, LengthPrefixed())


async def contents(conn: Any) -> list[bytes]:
    return [message.content async for message in conn]


# ---- whole messages ----


@pytest.mark.parametrize("proto", [TLV(), LengthPrefixed(bytes=2), Lines(delimiter=b"\r\n")])
async def test_messages_over_a_connection(net: Any, proto: Any) -> None:
    async with net.stack.listen(proto, local=("127.0.0.1", 0)) as listener:
        near, far = await net.stack.connect(listener.local, proto), await listener.accept()
        async with near, far:
            for text in (b"one", b"", b"x" * 30_000):
                await near.send(Message(text))
            await near.send(b"bytes will do")
            assert await near.send_many([b"a", Message(b"b"), b"c"]) == 3
            await near.send_eof()
            got = await contents(far)
            assert got == [b"one", b"", b"x" * 30_000, b"bytes will do", b"a", b"b", b"c"]
            with pytest.raises(anyio.EndOfStream):
                await far.receive()
            with pytest.raises(anyio.ClosedResourceError):
                await near.send(b"late")


async def test_a_type_goes_along(pair: Any, net: Any) -> None:
    lower = await net.pair()
    near, far = frame(lower[0], TLV()), frame(lower[1], TLV())
    await near.send(Message(b"x", type=7))
    await near.send(b"y", ContentContext(metadata=(TLV.Metadata(8),)))
    for number in (7, 8):
        message = await far.receive()
        assert message.type == message.context[TLV.Metadata].type == number


async def test_a_large_message_arrives_in_parts_if_wanted(pair: Messages) -> None:
    near, far = pair
    data = random.Random(1).randbytes(200_000)
    async with anyio.create_task_group() as group:
        group.start_soon(near.send_many, [data, b"next"])
        got = b""
        while True:
            chunk = await far.receive_partial(10_000, 20_000)
            got += chunk.data
            assert len(chunk.data) <= 20_000
            if chunk.is_complete:
                break
            assert len(chunk.data) >= 10_000
        assert got == data
        assert (await far.receive()).content == b"next"


async def test_the_rest_of_a_message_begun_in_parts(pair: Messages) -> None:
    near, far = pair
    await near.send(b"0123456789")
    assert (await far.receive_partial(1, 4)).data == b"0123"
    assert (await far.receive()).content == b"456789"


async def test_a_message_too_large_is_refused_and_the_connection_lives(net: Any) -> None:
    lower = await net.pair()
    near = frame(lower[0], LengthPrefixed(max_size=100))
    far = frame(lower[1], LengthPrefixed(max_size=50))
    with pytest.raises(MessageTooLarge):
        await near.send(bytes(101))
    await near.send(bytes(50))
    assert (await far.receive()).content == bytes(50)
    await near.send(bytes(51))
    with pytest.raises(ProtocolError) as caught:
        await far.receive()
    assert isinstance(caught.value.__cause__, MessageTooLarge)
    with pytest.raises(ProtocolError):
        await far.send(b"x")


async def test_a_cut_message_is_an_error(net: Any) -> None:
    near, lower = await net.pair()
    far = frame(lower, LengthPrefixed())
    await near.send(b"\0\0\0\2ok\0\0\0\6trunc", end_of_stream=True)
    assert (await far.receive()).content == b"ok"
    with pytest.raises(ProtocolError, match="middle"):
        await far.receive()


# ---- contexts ----


async def test_the_same_context_is_the_same_message(pair: Messages) -> None:
    near, far = pair
    one, twin = ContentContext("one"), ContentContext("one")
    assert one == twin
    await near.send_partial(b"a", one)
    async with anyio.create_task_group() as group:
        group.start_soon(near.send_partial, b"other", twin)
        await anyio.wait_all_tasks_blocked()
        await near.send_partial(b"b", one)
        await near.send(Message(b"c", one))
    await near.send_partial(b" message", twin, end_of_message=True)
    assert [(await far.receive()).content for _ in range(2)] == [b"abc", b"other message"]


async def test_a_final_message_ends_the_stream(pair: Messages) -> None:
    near, far = pair
    await near.send(Message(b"bye", FINAL_MESSAGE))
    assert await contents(far) == [b"bye"]
    with pytest.raises(anyio.ClosedResourceError):
        await near.send(b"more")
    await far.send(b"the other way is open")
    assert (await near.receive()).content == b"the other way is open"


async def test_the_higher_priority_goes_first(pair: Messages) -> None:
    near, far = pair
    async with anyio.create_task_group() as group:
        group.start_soon(near.send, BLOCKING)
        await anyio.wait_all_tasks_blocked()
        for number, priority in enumerate([0.1, 0.9, 0.5, 0.9]):
            context = ContentContext(priority=priority)
            group.start_soon(near.send, Message(b"%d" % number, context))
            await anyio.wait_all_tasks_blocked()
        got = [(await far.receive()).content for _ in range(5)]
    assert got[1:] == [b"1", b"3", b"2", b"0"]


async def test_an_antecedent_comes_before(pair: Messages) -> None:
    near, far = pair
    first = ContentContext("first")
    second = ContentContext("second", antecedent=first)
    async with anyio.create_task_group() as group:
        group.start_soon(near.send, Message(b"2", second))
        await anyio.wait_all_tasks_blocked()
        await near.send(b"0")
        await near.send(Message(b"1", first))
    assert [(await far.receive()).content for _ in range(3)] == [b"0", b"1", b"2"]
    await near.send(Message(b"3", second))
    assert (await far.receive()).content == b"3"


async def test_what_depends_on_a_failure_fails(pair: Messages) -> None:
    near, far = pair
    doomed = ContentContext("doomed", expiration=0.0)
    async with anyio.create_task_group() as group:
        group.start_soon(near.send, BLOCKING)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(MessageExpired):
            await near.send(Message(b"late", doomed))
        with pytest.raises(AntecedentFailed):
            await near.send(Message(b"x", ContentContext(antecedent=doomed)))
        await far.receive()
    await near.send(b"on")
    assert (await far.receive()).content == b"on"


async def test_who_waits_for_one_that_never_comes_hears_of_the_end(pair: Messages) -> None:
    near, _ = pair

    async def wait() -> None:
        with pytest.raises(AntecedentFailed):
            await near.send(Message(b"", ContentContext(antecedent=ContentContext("never"))))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await near.aclose()


# ---- shortcuts ----


async def test_shortcuts_and_the_long_way_mix(net: Any) -> None:
    near, far = await net.pair()
    out, into = frame(near, TLV()), frame(far, TLV())
    for text in (b"", b"one", b"x" * 20_000):
        await out.send(Message(text, type=7))
        await out.send(bytearray(text))
        got = [await into.receive(), await into.receive()]
        assert [(each.content, each.type) for each in got] == [(text, 7), (text, 0)]
    with pytest.raises(OverflowError):
        await out.send(Message(b"x", type=1 << 32))
    part = ContentContext()
    await out.send_partial(b"to", part)
    async with anyio.create_task_group() as group:
        group.start_soon(out.send, b"next")
        await anyio.wait_all_tasks_blocked()
        await out.send_partial(b"gether", part, end_of_message=True)
    assert [(await into.receive()).content for _ in range(2)] == [b"together", b"next"]
    await out.send(b"last", FINAL_MESSAGE)
    with pytest.raises(anyio.ClosedResourceError):
        await out.send(b"more")
    assert await contents(into) == [b"last"]
    await out.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await out.send(b"more")
    with pytest.raises(anyio.ClosedResourceError):
        await out.receive()


def test_a_framer_that_overrides_has_no_inherited_shortcut() -> None:
    class Loud(LengthPrefixedFramer):
        def handle_output(self, ctl: FramerControl, *said: Any) -> None:
            super().handle_output(ctl, *said)

    assert Loud.encode_whole is None
    assert Loud.decode_whole is LengthPrefixedFramer.decode_whole is not None


# ---- cancellation ----


async def test_a_cancelled_send_is_all_or_nothing(pair: Messages) -> None:
    near, far = pair
    dice = random.Random(7)
    sent: list[bytes] = []
    got: list[bytes] = []

    async def send() -> None:
        for number in range(150):
            data = b"%d " % number + bytes(int(2 ** (dice.random() * 19)))
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(cancel_after, dice.randint(0, 4), scope)
                    await near.send(data)
                    sent.append(data)
                    group.cancel_scope.cancel()
        await near.send(b"last")
        await near.send_eof()

    async def cancel_after(turns: int, scope: anyio.CancelScope) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        async for message in far:
            got.append(message.content)
            for _ in range(dice.randint(0, 3)):
                await anyio.lowlevel.checkpoint()
    numbers = [int(data.split()[0]) for data in got[:-1]]
    assert numbers == sorted(set(numbers)), "duplicated or out of order"
    assert set(sent) <= set(got)
    assert len(sent) < 150
    assert got[-1] == b"last"


async def test_cancelled_after_its_commit_a_message_goes_out_by_itself(pair: Messages) -> None:
    near, far = pair
    for text in (BLOCKING, b"not sent"):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(near.send, text)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
    with anyio.fail_after(5):
        assert (await far.receive()).content == BLOCKING  # near does nothing more
        await near.send(b"next")
        assert (await far.receive()).content == b"next"


async def test_a_cancelled_receive_loses_nothing(pair: Messages) -> None:
    near, far = pair
    dice = random.Random(8)
    sent = [bytes([at % 256]) * int(2 ** (dice.random() * 15)) for at in range(80)]
    got: list[bytes] = []

    async def send() -> None:
        for data in sent:
            await near.send(data)
            for _ in range(dice.randint(0, 3)):
                await anyio.lowlevel.checkpoint()

    async def cancel_after(turns: int, scope: anyio.CancelScope) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        while len(got) < len(sent):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(cancel_after, dice.randint(0, 3), scope)
                    got.append((await far.receive()).content)
    assert got == sent


async def test_over_other_streams_a_send_cut_short_breaks_it() -> None:
    class Stuck(ByteStream):
        """Takes a part and never the rest."""

        async def receive(self, max_bytes: int = 65536) -> bytes:
            raise anyio.EndOfStream

        async def send(self, item: bytes) -> None:
            await anyio.sleep_forever()

        async def send_eof(self) -> None: ...

        async def aclose(self) -> None: ...

    conn = frame(Stuck(), LengthPrefixed())
    with anyio.move_on_after(0) as scope:
        await conn.send(b"nothing was sent yet")
    assert scope.cancelled_caught
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(conn.send, b"x")
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    with pytest.raises(anyio.BrokenResourceError):
        await conn.send(b"y")


# ---- framers with a life of their own ----


class Hello(Framer):
    """Each side says HELLO and waits for the other's; then lines of the program's."""

    label = "hello"

    def __init__(self, patience: float = 30.0) -> None:
        self.patience = patience

    def start(self, ctl: FramerControl) -> StartResult:
        ctl.write(b"HELLO\n")
        ctl.schedule_wakeup(self.patience)
        return StartResult.WILL_MARK_READY

    def handle_input(self, ctl: FramerControl) -> int:
        head = ctl.parse_input(6)
        if head is None:
            return 6
        if bytes(head) != b"HELLO\n":
            raise ValueError("that is no hello")
        ctl.advance(6)
        ctl.schedule_wakeup(None)
        ctl.mark_ready()
        ctl.pass_through_input()
        return 0

    def wakeup(self, ctl: FramerControl) -> None:
        ctl.mark_failed(TimeoutError("nobody said hello"))

    def stop(self, ctl: FramerControl) -> bool:
        ctl.write(b"BYE\n")
        return True


async def test_a_handshake_of_a_framer(net: Any) -> None:
    near, far = await net.pair()
    conn = frame(near, Hello)
    async with anyio.create_task_group() as group:
        group.start_soon(conn.ready)
        assert await far.receive_exactly(6) == b"HELLO\n"
        await far.send(b"HELLO\nand more")
    assert (await conn.receive_partial()).data == b"and more"
    await conn.aclose()
    assert await far.receive_exactly(4) == b"BYE\n"


@pytest.mark.parametrize(
    ("answer", "cause"), [(b"hullo\n", ValueError), (b"", None), (None, TimeoutError)]
)
async def test_a_handshake_that_fails(net: Any, answer: bytes | None, cause: Any) -> None:
    near, far = await net.pair()
    conn = frame(near, Hello, patience=0.02)
    if answer is not None:
        await far.send(answer, end_of_stream=True)
    with pytest.raises(HandshakeError) as caught:
        await conn.send(b"x")
    assert caught.value.domain == "nw"
    assert type(caught.value.__cause__) is (cause or type(None))


async def test_call_soon_comes_from_any_thread(net: Any) -> None:
    class Notifier(Framer):
        def start(self, ctl: FramerControl) -> StartResult:
            self.ctl = ctl
            return StartResult.READY

    near, far = await net.pair()
    notifier = Notifier()
    conn = frame(near, notifier)
    await conn.ready()
    ctl = notifier.ctl
    got: list[bytes] = []

    async def receive() -> None:
        got.append((await conn.receive()).content)

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        await anyio.to_thread.run_sync(ctl.call_soon, lambda: ctl.deliver(b"from a thread"))
    assert got == [b"from a thread"]
    await anyio.to_thread.run_sync(ctl.call_soon, lambda: ctl.write(b"written"))
    assert await far.receive_exactly(7) == b"written"


class StartTLS(Framer):
    """One line from each side in the clear, then TLS."""

    is_pure = True

    def __init__(self, secure: TLS) -> None:
        self.secure = secure

    def start(self, ctl: FramerControl) -> StartResult:
        if not ctl.server_side:
            ctl.write(b"STARTTLS\n")
        return StartResult.WILL_MARK_READY

    def handle_input(self, ctl: FramerControl) -> int:
        wanted = b"STARTTLS\n" if ctl.server_side else b"GO\n"
        if (line := ctl.parse_input(len(wanted))) is None:
            return len(wanted)
        assert line == wanted
        ctl.advance(len(wanted))
        if ctl.server_side:
            ctl.write(b"GO\n")
        ctl.prepend(self.secure)
        ctl.mark_ready()
        ctl.pass_through_input()
        ctl.pass_through_output()
        return 0


async def test_a_framer_that_turns_tls_on(net: Any) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    lower = await net.pair()
    near = MessageConnection(lower[0], StartTLS(TLS(context=client)), hostname="localhost")
    far = MessageConnection(lower[1], StartTLS(TLS(context=server)), server_side=True)
    async with anyio.create_task_group() as group:
        group.start_soon(near.ready)
        group.start_soon(far.ready)
    assert near.extra(TLSAttribute.tls_version) == "TLSv1.3"
    await near.send(b"secret ")
    assert (await far.receive_partial()).data == b"secret "
    await near.send(b"and the rest")
    await near.send_eof()
    assert (await far.receive()).content == b"and the rest"
    with pytest.raises(anyio.EndOfStream):
        await far.receive()


async def test_the_default_message_is_one_each_time(pair: Messages) -> None:
    near, far = pair
    await near.send(Message(b"a", DEFAULT_MESSAGE))
    await near.send(Message(b"b", DEFAULT_MESSAGE))
    assert [(await far.receive()).content for _ in range(2)] == [b"a", b"b"]
