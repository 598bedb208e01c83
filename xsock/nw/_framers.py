"""The framers that come with the package, and a short way to write one."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, Literal

from xsock.nw._content import Message
from xsock.nw._context import DEFAULT_MESSAGE, ContentContext
from xsock.nw._errors import MessageTooLarge, ProtocolError
from xsock.nw._framer import Framer, FramerControl
from xsock.nw._options import MESSAGE_MAX, TLV, LengthPrefixed, Lines, Metadata, ProtocolOptions
from xsock.nw._outbox import Buffer

__all__ = [
    "Deliver", "LengthPrefixedFramer", "LinesFramer", "Records", "TLVFramer", "framer",
    "framer_of",
]  # fmt: skip

KINDS_MAX: Final = 256  # types of a TLV connection whose contexts are kept
Byteorder = Literal["big", "little"]


class _Counted(Framer):
    """Messages with a header of fixed size that ends in their length."""

    is_pure = True

    def __init__(self, header: int, length_bytes: int, byteorder: Byteorder, max_size: int) -> None:
        self.max_size = min(max_size, 256**length_bytes - 1)
        self._header = header
        self._length_bytes = length_bytes
        self._byteorder: Byteorder = byteorder

    def _message(self, kind: bytes) -> Message:
        """What the bytes in front of the length say."""
        return _PLAIN

    def _kind(self, msg: Message) -> bytes:
        return b""

    def encode_whole(self, message: Message) -> bytes | None:
        content = message.content
        size = len(content)
        if type(content) is not bytes or size > self.max_size:
            return None
        return self._kind(message) + size.to_bytes(self._length_bytes, self._byteorder) + content

    def decode_whole(self, data: bytes) -> Message | None:
        header = self._header
        cut = header - self._length_bytes
        length = int.from_bytes(data[cut:header], self._byteorder)
        if len(data) != header + length or length > self.max_size:
            return None
        kind = self._message(data[:cut])
        return Message(data[header:], kind.context, kind.type)

    def handle_input(self, ctl: FramerControl) -> int:
        header = self._header
        while (head := ctl.parse_input(header)) is not None:
            cut = header - self._length_bytes
            length = int.from_bytes(head[cut:], self._byteorder)
            if length > self.max_size:
                raise MessageTooLarge(
                    message=f"a message of {length} bytes, {self.max_size} are allowed"
                )
            message = self._message(bytes(head[:cut]))
            ctl.advance(header)
            ctl.deliver_no_copy(length, message)
        return header

    def handle_output(
        self, ctl: FramerControl, msg: Message, length: int, is_complete: bool
    ) -> None:
        if is_complete:
            total = ctl.output_size
            ctl.write(self._kind(msg) + total.to_bytes(self._length_bytes, self._byteorder))
            ctl.write_no_copy(total)


class LengthPrefixedFramer(_Counted):
    """Messages with their length in front."""

    label = "LengthPrefixed"

    def __init__(
        self, *, bytes: int = 4, byteorder: Byteorder = "big", max_size: int = MESSAGE_MAX
    ) -> None:
        super().__init__(bytes, bytes, byteorder, max_size)


class TLVFramer(_Counted):
    """Messages with their type and length in front."""

    label = "TLV"

    def __init__(
        self, *, type_bytes: int = 4, length_bytes: int = 4, byteorder: Byteorder = "big",
        max_size: int = MESSAGE_MAX,
    ) -> None:  # fmt: skip
        super().__init__(type_bytes + length_bytes, length_bytes, byteorder, max_size)
        self._type_bytes = type_bytes
        self._messages: dict[bytes, Message] = {}

    def _message(self, kind: bytes) -> Message:
        message = self._messages.get(kind)
        if message is None:
            number = int.from_bytes(kind, self._byteorder)
            message = Message(b"", ContentContext(metadata=(TLV.Metadata(number),)), number)
            if len(self._messages) < KINDS_MAX:
                self._messages[kind] = message
        return message

    def check_output(self, msg: Message) -> None:
        self._kind(msg)  # OverflowError if the type does not fit

    def _kind(self, msg: Message) -> bytes:
        kind = msg.type
        if kind is None:
            said = msg.context.get(TLV.Metadata)
            kind = 0 if said is None else said.type
        return kind.to_bytes(self._type_bytes, self._byteorder)


class LinesFramer(Framer):
    """Messages that end with *delimiter*. One without an end, before EOF, is an error."""

    label = "Lines"
    is_pure = True

    def __init__(self, *, delimiter: bytes = b"\n", max_size: int = MESSAGE_MAX) -> None:
        self.max_size = max_size
        self._delimiter = delimiter
        self._seen = 0  # bytes of input in which no delimiter begins

    def handle_input(self, ctl: FramerControl) -> int:
        end = self._delimiter
        while (view := ctl.parse_input(1, ctl.input_size)) is not None:
            text = bytes(view[self._seen :])
            at = 0
            while (found := text.find(end, at)) >= 0:
                self._check(self._seen + found - at)
                ctl.deliver_no_copy(self._seen + found - at, _PLAIN)
                ctl.advance(len(end))
                at, self._seen = found + len(end), 0
            if at == 0:
                # Its beginning may be the last of what is here.
                self._seen = max(0, len(view) - len(end) + 1)
                self._check(self._seen)
                return len(view) + 1
        return 0

    def check_output(self, msg: Message) -> None:
        if self._delimiter in bytes(msg.content):
            raise ValueError("the message holds its delimiter")

    def _check(self, length: int) -> None:
        if length > self.max_size:
            raise MessageTooLarge(message=f"a line has more than {self.max_size} bytes")

    def handle_output(
        self, ctl: FramerControl, msg: Message, length: int, is_complete: bool
    ) -> None:
        if is_complete:
            ctl.write_no_copy(ctl.output_size)
            ctl.write(self._delimiter)


_PLAIN: Final = Message()


class Deliver:
    """What a framer() generator yields to hand over a message, with metadata if it likes."""

    __slots__ = ("data", "message")

    def __init__(self, data: Buffer, type: int | None = None, *metadata: Metadata) -> None:
        self.data = data
        context = ContentContext(metadata=metadata) if metadata else DEFAULT_MESSAGE
        self.message = Message(b"", context, type) if type is not None or metadata else _PLAIN


Parser = Generator[int | Deliver, memoryview, None]


class Records(Framer):
    """A framer whose input is parsed by a generator, and whose output *encode* writes."""

    is_pure = True

    def __init__(
        self, parse: Callable[[FramerControl], Parser],
        encode: Callable[[Message], Buffer] | None, max_size: int,
    ) -> None:  # fmt: skip
        self.max_size = max_size
        self._parse = parse
        self._encode = encode
        self._parser: Parser | None = None
        self._wanted = 0
        self._is_between = True  # no bytes were taken since the last message

    def handle_input(self, ctl: FramerControl) -> int:
        if ctl.at_eof and not self._is_between:
            raise ProtocolError(message="the peer ended in the middle of a message")
        parser = self._parser
        if parser is None:
            parser = self._parser = self._parse(ctl)
            self._request(ctl, next(parser))
        while (view := ctl.parse_input(self._wanted)) is not None:
            ctl.advance(self._wanted)
            self._is_between = False
            self._request(ctl, parser.send(view))
        return self._wanted

    def _request(self, ctl: FramerControl, said: int | Deliver) -> None:
        """Deliver until the parser asks for bytes."""
        assert self._parser is not None
        while isinstance(said, Deliver):
            ctl.deliver(said.data, said.message)
            self._is_between = True
            said = next(self._parser)
        self._wanted = said

    def handle_output(
        self, ctl: FramerControl, msg: Message, length: int, is_complete: bool
    ) -> None:
        if self._encode is None:
            ctl.write_no_copy(length)
        elif is_complete:
            body = ctl.parse_output(ctl.output_size)
            content = body if body is not None else b""
            ctl.write(self._encode(Message(content, msg.context, msg.type)))


def framer(
    parse: Callable[[FramerControl], Parser] | None = None, *,
    encode: Callable[[Message], Buffer] | None = None, max_size: int = MESSAGE_MAX,
) -> Any:  # fmt: skip
    """Make a framer of a generator, for simple formats of records.

    The generator yields how many bytes it wants, gets them as a view, and yields Deliver(data)
    for a message. *encode* makes the bytes of a message that is sent; without it they go out
    as they are.
    """

    def decorate(fn: Callable[[FramerControl], Parser]) -> type[Framer]:
        class Shorthand(Records):
            label = fn.__name__

            def __init__(self, max_size: int = max_size) -> None:
                super().__init__(fn, encode, max_size)

        Shorthand.__name__ = Shorthand.__qualname__ = fn.__name__
        Shorthand.__doc__ = fn.__doc__
        return Shorthand

    return decorate if parse is None else decorate(parse)


def framer_of(options: ProtocolOptions) -> Framer | None:
    """A new framer for the layer *options*; None if it is no framer."""
    match options:
        case TLV():
            return TLVFramer(
                type_bytes=options.type_bytes, length_bytes=options.length_bytes,
                byteorder=options.byteorder, max_size=options.max_size,
            )  # fmt: skip
        case LengthPrefixed():
            return LengthPrefixedFramer(
                bytes=options.bytes, byteorder=options.byteorder, max_size=options.max_size
            )
        case Lines():
            return LinesFramer(delimiter=options.delimiter, max_size=options.max_size)
    make: Callable[[], Framer] | None = getattr(options, "make", None)
    return make() if make is not None else None
