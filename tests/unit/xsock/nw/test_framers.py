"""Framers, run by hand: what they make of bytes, however these are cut."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsock.nw._content import Message
from xsock.nw._context import ContentContext
from xsock.nw._errors import MessageTooLarge, ProtocolError
from xsock.nw._framer import Framer, FramerControl, StartResult
from xsock.nw._framers import (
    Deliver,
    LengthPrefixedFramer,
    LinesFramer,
    TLVFramer,
    framer,
    framer_of,
)
from xsock.nw._options import TCP, TLV, Framed, LengthPrefixed, Lines

splits = st.lists(st.integers(0, 4000), max_size=40)
orders = st.sampled_from(["big", "little"])


def encoded(made: Framer, messages: list[Message]) -> bytes:
    """What *made* writes for *messages*."""
    ctl = FramerControl(made)
    ctl.begin()
    for message in messages:
        made.check_output(message)
        ctl.feed_output(message, message.content, True)
    ctl.check()
    return b"".join(ctl.written)


# ---- round trips ----


@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(2, 8), orders, splits)
def test_length_prefixed_round_trip(parts: list[bytes], size: int, order: Any, cut: Any) -> None:
    options = {"bytes": size, "byteorder": order}
    wire = encoded(LengthPrefixedFramer(**options), [Message(part) for part in parts])
    assert len(wire) == sum(map(len, parts)) + size * len(parts)
    got = LengthPrefixedFramer.feed(wire, cut, **options)
    assert [message.content for message in got] == parts


@given(
    st.lists(st.tuples(st.integers(0, 65535), st.binary(max_size=300)), max_size=12),
    st.integers(2, 8), st.integers(2, 8), orders, splits,
)  # fmt: skip
def test_tlv_round_trip(
    parts: list[tuple[int, bytes]], kinds: int, sizes: int, order: Any, cut: Any
) -> None:
    options = {"type_bytes": kinds, "length_bytes": sizes, "byteorder": order}
    wire = encoded(TLVFramer(**options), [Message(body, type=kind) for kind, body in parts])
    got = TLVFramer.feed(wire, cut, **options)
    assert [(message.type, message.content) for message in got] == parts
    assert [message.context[TLV.Metadata].type for message in got] == [kind for kind, _ in parts]


@given(
    st.lists(st.text("ab\r", max_size=9), max_size=12),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    splits,
)
def test_lines_round_trip(texts: list[str], end: str, cut: Any) -> None:
    lines = [text.encode() for text in texts]
    if end == "\r\n":
        lines = [line.rstrip(b"\r") for line in lines]
    options: dict[str, Any] = {"delimiter": end.encode()}
    wire = encoded(LinesFramer(**options), [Message(line) for line in lines])
    assert [m.content for m in LinesFramer.feed(wire, cut, **options)] == lines


def test_a_tlv_has_its_bytes_where_they_belong() -> None:
    wire = encoded(TLVFramer(type_bytes=2, length_bytes=4), [Message(b"abc", type=0x0102)])
    assert wire == b"\x01\x02\x00\x00\x00\x03abc"
    context = ContentContext(metadata=(TLV.Metadata(7),))
    wire = encoded(TLVFramer(byteorder="little"), [Message(b"x", context)])
    assert wire == b"\x07\x00\x00\x00\x01\x00\x00\x00x"


@pytest.mark.parametrize(
    ("options", "kind"),
    [(TLV(), TLVFramer), (LengthPrefixed(), LengthPrefixedFramer), (Lines(), LinesFramer)],
)
def test_options_make_their_framer(options: Any, kind: type[Framer]) -> None:
    assert type(framer_of(options)) is kind
    assert framer_of(TCP()) is None
    assert type(framer_of(Framed(LinesFramer, delimiter=b"\0"))) is LinesFramer


# ---- limits ----


@pytest.mark.parametrize(
    ("kind", "wire"),
    [
        (TLVFramer, b"\0\0\0\1" + (1001).to_bytes(4, "big")),
        (LengthPrefixedFramer, (1001).to_bytes(4, "big")),
        (LinesFramer, bytes(1001)),
    ],
)
def test_a_message_that_is_too_large_ends_it(kind: type[Framer], wire: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        kind.feed(wire, range(0, len(wire), 7), max_size=1000)
    assert isinstance(caught.value.__cause__, MessageTooLarge)


@pytest.mark.parametrize("kind", [TLVFramer, LengthPrefixedFramer, LinesFramer])
def test_one_too_large_to_send_is_refused_alone(kind: Callable[..., Framer]) -> None:
    ctl = FramerControl(kind(max_size=10))
    ctl.begin()
    with pytest.raises(MessageTooLarge):
        ctl.feed_output(Message(), bytes(11), True)
    ctl.feed_output(Message(), bytes(10), True)
    ctl.check()
    assert bytes(10) in b"".join(ctl.written)


def test_a_framer_that_hoards_is_stopped() -> None:
    class Hoarder(Framer):
        max_size = 1000

        def handle_input(self, ctl: FramerControl) -> int:
            return 0

    with pytest.raises(ProtocolError, match="wait to be parsed"):
        Hoarder.feed(bytes(300_000), range(0, 300_000, 1000))


def seconds_to_feed(kind: Any, wire: bytes) -> float:
    started = time.process_time()
    messages = kind.feed(wire, range(len(wire)))
    assert sum(len(message.content) for message in messages) >= len(wire) - 8
    return time.process_time() - started


@pytest.mark.parametrize("kind", [TLVFramer, LengthPrefixedFramer, LinesFramer])
def test_the_cost_is_linear_in_bytes_that_come_one_by_one(kind: type[Framer]) -> None:
    """1 MB in pieces of one byte; quadratic work would make it 16 times a quarter's, not 4."""
    times = []
    for size in (250_000, 1_000_000):
        body = bytes(size) if kind is not LinesFramer else b"x" * size
        times.append(seconds_to_feed(kind, encoded(kind(), [Message(body)])))
    assert times[1] < times[0] * 8


# ---- framers of the program ----


class Everything(Framer):
    """Uses all that a framer may do with input: a command letter and a length, then the body."""

    label = "everything"

    def handle_input(self, ctl: FramerControl) -> int:
        while (head := ctl.parse_input(2)) is not None:
            command, length = head
            ctl.advance(2)
            if command == ord("d"):
                ctl.deliver_no_copy(length, Message(type=1))
            elif command == ord("s"):
                ctl.advance(length)
            elif command == ord("p"):
                ctl.pass_through_input()
                return 0
            elif command == ord("c"):
                ctl.deliver(b"copied", is_complete=False)
                ctl.deliver(b" twice")
            else:
                raise ValueError(f"no command {command}")
        return 2


@given(splits)
def test_deliver_skip_and_pass_through(cut: list[int]) -> None:
    wire = b"d\x03abc" + b"s\xc8" + bytes(200) + b"c\0" + b"d\0" + b"d\xff" + b"y" * 255
    got = Everything.feed(wire, cut)
    assert [message.content for message in got] == [b"abc", b"copied twice", b"", b"y" * 255]
    assert [message.type for message in got] == [1, None, 1, 1]


def test_an_exception_ends_it_with_the_cause() -> None:
    with pytest.raises(ProtocolError, match="everything: no command 120") as caught:
        Everything.feed(b"x\0")
    assert isinstance(caught.value.__cause__, ValueError)
    assert isinstance(caught.value, OSError)


def test_actions_are_for_callbacks() -> None:
    ctl = FramerControl(LinesFramer())
    for action in (ctl.parse_input, ctl.mark_ready, ctl.pass_through_output):
        with pytest.raises(RuntimeError, match="only callbacks"):
            action()
    ran: list[object] = []
    ctl.call_soon(lambda: ran.append(ctl.parse_input()))
    ctl.run_soon()
    assert ran == [None]


def test_a_handshake_keeps_the_framer_from_being_ready() -> None:
    class Hello(Framer):
        def start(self, ctl: FramerControl) -> StartResult:
            ctl.write(b"hello\n")
            ctl.schedule_wakeup(3)
            return StartResult.WILL_MARK_READY

        def handle_input(self, ctl: FramerControl) -> int:
            if ctl.parse_input(3) is None:
                return 3
            ctl.advance(3)
            ctl.mark_ready()
            ctl.pass_through_input()
            ctl.pass_through_output()
            return 0

        def wakeup(self, ctl: FramerControl) -> None:
            ctl.mark_failed(TimeoutError("no answer"))

    ctl = FramerControl(Hello())
    ctl.begin()
    assert ctl.written == [b"hello\n"]
    assert ctl.wakeup_delay == 3
    ctl.feed_input(b"h")
    assert not ctl.is_ready
    ctl.feed_input(b"i\nrest")
    assert ctl.is_ready
    assert [each.data for each in ctl.delivered] == [b"rest"]
    ctl.feed_output(Message(), b"out", True)
    assert ctl.written[1:] == [b"out"]
    late = FramerControl(Hello())
    late.begin()
    late.feed_wakeup()
    assert isinstance(late.error, TimeoutError)


def test_output_may_wait_for_more() -> None:
    class Pairs(Framer):
        def handle_output(self, ctl: FramerControl, msg: Message, length: int, end: bool) -> None:
            while (pair := ctl.parse_output(2)) is not None:
                ctl.write(bytes(reversed(pair)))

    ctl = FramerControl(Pairs())
    ctl.begin()
    mine = bytearray(b"abc")
    ctl.feed_output(Message(), mine, True)
    mine[:] = b"???"
    ctl.feed_output(Message(), b"d", True)
    assert b"".join(ctl.written) == b"badc"


def test_a_framer_may_keep_a_view() -> None:
    class Keeper(Framer):
        def __init__(self) -> None:
            self.views: list[memoryview] = []

        def handle_input(self, ctl: FramerControl) -> int:
            view = ctl.parse_input(1, ctl.input_size)
            assert view is not None
            self.views.append(view)
            return 0

    keeper = Keeper()
    ctl = FramerControl(keeper)
    ctl.begin()
    for piece in (b"ab", b"cd", b"ef"):
        ctl.feed_input(piece)
    assert [bytes(view) for view in keeper.views] == [b"ab", b"abcd", b"abcdef"]
    with pytest.raises(TypeError):
        keeper.views[0][0] = 1


# ---- the short way ----


@framer(encode=lambda msg: len(msg.content).to_bytes(2, "big") + msg.content)
def records(ctl: FramerControl) -> Any:
    """A length of two bytes, and so many."""
    while True:
        head = yield 2
        body = yield int.from_bytes(head, "big")
        yield Deliver(body, len(body))


@given(st.lists(st.binary(max_size=300), max_size=9), splits)
def test_a_generator_is_a_framer(parts: list[bytes], cut: list[int]) -> None:
    wire = encoded(records(), [Message(part) for part in parts])
    got = records.feed(wire, cut)
    assert [message.content for message in got] == parts
    assert [message.type for message in got] == list(map(len, parts))
    assert records.label == "records"


def test_an_end_in_the_middle_is_an_error() -> None:
    for made in (LinesFramer(), TLVFramer(), records()):
        ctl = FramerControl(made)
        ctl.begin()
        ctl.feed_input(b"\0\5")
        ctl.feed_eof()
        with pytest.raises(ProtocolError, match="middle of a message"):
            ctl.check()
