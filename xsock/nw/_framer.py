"""Protocols of a program's own between a byte stream and messages, without I/O.

A Framer is a set of callbacks; what it may do it does through the FramerControl given to
each. The control holds the bytes that have come in and are not used up, those of a message
on its way out, and what the framer made of both. Somebody else (see _pipe.py) carries
bytes to and from the network, so every framer can be run, tested and fuzzed by hand.

Input is edge-triggered as in Network.framework: handle_input() looks until what is there
does not suffice, and says how many bytes it wants before it is asked again. Bytes are moved
at most twice on their way from the network's buffer to a message, however small the
pieces are that they come in. What waits here is bounded by the framer's *max_size*.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, ClassVar, Final

from xsock.nw._content import Message
from xsock.nw._errors import MessageTooLarge, ProtocolError
from xsock.nw._intake import ANY, Assembler, Delivery, Intake
from xsock.nw._options import MESSAGE_MAX
from xsock.nw._outbox import Buffer

__all__ = ["Framer", "FramerControl", "StartResult"]

SLACK: Final = 256 * 1024  # bytes of input beyond max_size: what one read may bring


class StartResult(Enum):
    """What start() says: messages may flow, or mark_ready() will tell."""

    READY = "ready"
    WILL_MARK_READY = "will mark ready"


class Framer:
    """A protocol. Subclasses override what they need; an instance serves one connection.

    *max_size* bounds a message, and with it the memory of a connection. *is_pure* promises
    that neither schedule_wakeup nor call_soon is used, which makes waiting cheaper.
    An exception from a callback ends the connection, with it as the cause.
    """

    label: ClassVar[str] = "framer"
    is_pure: ClassVar[bool] = False
    max_size: int = MESSAGE_MAX

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for method, shortcut in (("handle_output", "encode"), ("handle_input", "decode")):
            if method in cls.__dict__ and f"{shortcut}_whole" not in cls.__dict__:
                setattr(cls, f"{shortcut}_whole", None)  # the inherited one is not for this

    def start(self, ctl: FramerControl) -> StartResult:
        """The stream below is ready. A framer with a handshake answers WILL_MARK_READY."""
        return StartResult.READY

    def handle_input(self, ctl: FramerControl) -> int:
        """Bytes came. Answers how many are wanted before the next call; 0 is any."""
        ctl.pass_through_input()
        return 0

    def handle_output(
        self, ctl: FramerControl, msg: Message, length: int, is_complete: bool
    ) -> None:
        """*length* bytes of *msg* are to go out; unless *is_complete*, more follow.

        What parse_output() leaves unused is there at the next call.
        """
        ctl.write_no_copy(length)

    def check_output(self, msg: Message) -> None:
        """Raise to refuse a message that is to be sent, whole; the connection goes on."""

    encode_whole: ClassVar[Callable[..., bytes | None] | None] = None
    """encode_whole(self, message): the bytes of a whole message, or None. A shortcut, optional,
    for what handle_output() would write; only for framers without a state of output."""

    decode_whole: ClassVar[Callable[..., Message | None] | None] = None
    """decode_whole(self, data): the message if the input, between two messages, is exactly
    one, or None. Only for framers without a state of input between messages."""

    def wakeup(self, ctl: FramerControl) -> None:
        """The time given to schedule_wakeup() has come."""

    def stop(self, ctl: FramerControl) -> bool:
        """The connection is to end; last words may be written. False: mark_failed() will tell."""
        return True

    def cleanup(self, ctl: FramerControl) -> None:
        """The last call."""

    @classmethod
    def feed(cls, data: Buffer, splits: Iterable[int] = (), **options: Any) -> list[Message]:
        """What a new framer makes of *data*, which arrives cut at the offsets *splits*.

        For tests and fuzzers. Raises what would end the connection; an incomplete last
        message is not reported.
        """
        ctl = FramerControl(cls(**options))
        ctl.begin()
        at = 0
        inbox: list[Message] = []
        assembler = Assembler(ctl.framer.max_size)
        for end in (*sorted(set(splits)), len(data)):
            if at < end <= len(data):
                ctl.feed_input(bytes(data[at:end]))
                at = end
                assembler.absorb(ctl.delivered)
                while assembler.is_complete:
                    inbox.append(assembler.take())
                    assembler.absorb(ctl.delivered)
            ctl.check()
        return inbox


class FramerControl:
    """What a framer may do, inside its callbacks or a function given to call_soon()."""

    def __init__(
        self, framer: Framer, *, remote: Any = None, local: Any = None,
        parameters: Any = None, options: Any = None, server_side: bool = False,
        hostname: str | None = None,
    ) -> None:  # fmt: skip
        self.framer = framer
        self.server_side = server_side
        self.hostname = hostname
        self.remote = remote
        self.local = local
        self.parameters = parameters
        self.options = options
        self.is_ready = False
        self.at_eof = False  # the peer will send nothing more
        self.error: BaseException | None = None
        self.delivered: deque[Delivery] = deque()
        self.written: list[Buffer] = []
        self.prepended: list[Any] = []
        self.wakeup_delay: float | None = None  # seconds; taken by whoever keeps the time
        self.on_call_soon: Callable[[], None] | None = None
        self._soon: deque[Callable[[], object]] = deque()
        self._depth = 0
        self._in = Intake()
        self._want = 0
        self._skip = 0
        self._forward: tuple[int, Message, bool] | None = None
        self._passes_input = False
        self._out = Intake()
        self._out_forward = 0
        self._passes_output = False
        self._is_done = False

    # ---- for framers: input ----

    def parse_input(self, minimum: int = 1, maximum: int | None = None) -> memoryview | None:
        """From *minimum* to *maximum* bytes of input, in place; None if fewer are there.

        Without *maximum* exactly *minimum*. They stay until advance() uses them up; the view
        is the framer's until it returns.
        """
        self._check_inside()
        if minimum > self.framer.max_size + SLACK:
            raise MessageTooLarge(message=f"{minimum} bytes at once are more than max_size")
        if minimum > self._in.size or self._skip or self._forward:
            return None
        size = minimum if maximum is None else min(max(minimum, maximum), self._in.size)
        return self._in.peek(size)

    @property
    def input_size(self) -> int:
        """Bytes of input that parse_input() can show."""
        return 0 if self._skip or self._forward else self._in.size

    def advance(self, size: int) -> None:
        """Use up *size* bytes of input; those that have not come yet are skipped as they come."""
        self._check_inside()
        now = min(size, self.input_size)
        self._in.drop(now)
        self._skip += size - now

    def deliver(self, data: Buffer, msg: Message = ANY, is_complete: bool = True) -> None:
        """Give the program a copy of *data*, the last of its message if *is_complete*."""
        self._check_inside()
        # bytes(data) of bytes is no copy, and none is needed.
        self.delivered.append(Delivery(bytes(data), msg, is_complete))

    def deliver_no_copy(self, size: int, msg: Message = ANY, is_complete: bool = True) -> None:
        """Give the program the next *size* bytes of input, of which some may still have to come.

        The framer is called again behind them.
        """
        self._check_inside()
        if self._forward or self._skip:
            raise RuntimeError("input is being forwarded or skipped already")
        self._forward = (size, msg, is_complete)
        self._run_forward()

    def pass_through_input(self) -> None:
        """From now on input goes to the program as it is, and handle_input() is not called."""
        self._check_inside()
        self._passes_input = True

    # ---- for framers: output ----

    def parse_output(self, minimum: int = 1, maximum: int | None = None) -> memoryview | None:
        """The same as parse_input() for the bytes of the message; they are used up."""
        self._check_inside()
        if minimum > self._out.size:
            return None
        size = minimum if maximum is None else min(max(minimum, maximum), self._out.size)
        return memoryview(self._out.take(size))

    @property
    def output_size(self) -> int:
        """Bytes of output that parse_output() can show."""
        return self._out.size

    def write(self, data: Buffer) -> None:
        """Send a copy of *data*."""
        self._check_inside()
        self.written.append(bytes(data))

    def write_no_copy(self, size: int) -> None:
        """Send the next *size* bytes of the message, of which some may still have to come."""
        self._check_inside()
        self._out_forward += size
        self._run_out_forward()

    def pass_through_output(self) -> None:
        """From now on messages go out as they are, and handle_output() is not called."""
        self._check_inside()
        self._passes_output = True
        self._out_forward = 0
        if self._out.size:
            self.written.append(self._out.take(self._out.size))

    # ---- for framers: life ----

    def mark_ready(self) -> None:
        """The handshake is over."""
        self._check_inside()
        self.is_ready = True

    def mark_failed(self, error: BaseException | None = None) -> None:
        """End the connection."""
        self._check_inside()
        self._fail(error or ProtocolError(message=f"{self.framer.label} gave up"))

    def prepend(self, proto: Any) -> None:
        """Put the protocol *proto* between this framer and what is above it.

        Before mark_ready(), as a STARTTLS does; this framer then passes bytes through.
        """
        self._check_inside()
        if self.is_ready:
            raise RuntimeError("the connection is ready already")
        self.prepended.append(proto)

    def schedule_wakeup(self, seconds: float | None) -> None:
        """Call wakeup() after *seconds*, instead of at the time given before; None: never."""
        self._check_inside()
        self.wakeup_delay = -1.0 if seconds is None else max(0.0, seconds)
        if self.on_call_soon is not None:
            self.on_call_soon()

    def call_soon(self, fn: Callable[[], object]) -> None:
        """Call *fn* in the connection's loop, where it may do what callbacks may do.

        This alone may be called from anywhere, from other threads, too.
        """
        self._soon.append(fn)
        if self.on_call_soon is not None:
            self.on_call_soon()

    # ---- for whoever carries the bytes ----

    def begin(self) -> None:
        """The stream below is ready."""
        if self._call(self.framer.start, self) is StartResult.READY:
            self.is_ready = True

    def check(self) -> None:
        """Raise what ended the connection; each time a new exception with that as its cause."""
        if self.error is not None:
            raise ProtocolError(message=f"{self.framer.label}: {self.error}") from self.error

    @property
    def is_between(self) -> bool:
        """Between two messages in both directions: the framer's shortcuts may be taken."""
        return not (
            self._in.size or self._skip or self._forward or self.delivered or self._out.size
            or self._out_forward or self.written or self._passes_input or self._passes_output
            or self.at_eof or self.error is not None
        )  # fmt: skip

    def feed_input(self, data: Buffer) -> None:
        """Bytes have come. An error is kept, and raised by check()."""
        if self.error is None:
            self._in.append(data)
            self._run_input()

    def feed_eof(self) -> None:
        """The peer will send no more."""
        if self.error is None and not self.at_eof:
            self.at_eof = True
            self._want = 0
            self._run_input()
            if self.error is None and (self._in.size or self._forward or self._skip):
                self._fail(ProtocolError(message="the peer ended in the middle of a message"))

    def feed_output(self, message: Message, data: Buffer, is_complete: bool) -> None:
        """The program sends *data*. Nothing of it may change while it is in *written*.

        MessageTooLarge: nothing of it was taken.
        """
        if self._passes_output:
            self.written.append(data)
            return
        if self._out.size + len(data) > self.framer.max_size + self._out_forward:
            raise MessageTooLarge(message=f"more than {self.framer.max_size} bytes of a message")
        if len(data):
            # A bytearray grows when it is appended to; a view of the program's does not.
            self._out.append(data if isinstance(data, bytes) else memoryview(data))
        if self._out_forward:
            self._run_out_forward()
        if self._out.size or not len(data):
            self._call(self.framer.handle_output, self, message, len(data), is_complete)
        self._out.own()

    def feed_wakeup(self) -> None:
        """The time given by *wakeup_delay* has come."""
        self._call(self.framer.wakeup, self)
        self._run_input()

    def run_soon(self) -> None:
        """Run what call_soon() was given."""
        while self._soon:
            self._call(self._soon.popleft())

    def finish(self) -> bool:
        """Run stop(); True: the stream below may be closed."""
        if self._is_done or self.error is not None:
            return True
        return self._call(self.framer.stop, self) is not False

    def close(self) -> None:
        """Run cleanup(), once."""
        if not self._is_done:
            self._is_done = True
            self._call(self.framer.cleanup, self)
            self._soon.clear()

    # ---- inside ----

    def _check_inside(self) -> None:
        if not self._depth:
            raise RuntimeError("only callbacks may do this; call_soon() makes one")

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error

    def _call(self, fn: Callable[..., Any], *args: Any) -> Any:
        self._depth += 1
        try:
            return fn(*args)
        except Exception as error:
            self._fail(error)
            return None
        finally:
            self._depth -= 1

    def _run_input(self) -> None:
        """Skip, forward and parse until that leads no further."""
        intake = self._in
        while self.error is None:
            if self._skip:
                now = min(self._skip, intake.size)
                intake.drop(now)
                self._skip -= now
            if self._forward:
                self._run_forward()
            if self._passes_input and not self._forward:
                if intake.size:
                    self.delivered.append(Delivery(intake.take(intake.size), ANY, False))
                return
            size = intake.size
            if self._skip or self._forward or size < self._want or not (size or self.at_eof):
                return
            want = self._call(self.framer.handle_input, self)
            if self.error is not None:
                return
            self._want = int(want or 0)
            limit = self.framer.max_size + SLACK
            if self._want > limit or intake.size > limit:
                self._fail(MessageTooLarge(message=f"more than {limit} bytes wait to be parsed"))
                return
            if intake.size == size and not self._passes_input and not self._forward:
                return  # nothing was used up: it waits for more

    def _run_forward(self) -> None:
        assert self._forward is not None
        left, message, is_complete = self._forward
        now = min(left, self._in.size)
        left -= now
        self._forward = (left, message, is_complete) if left else None
        if now or not left:
            data = self._in.take(now) if now else b""
            self.delivered.append(Delivery(data, message, is_complete and not left))

    def _run_out_forward(self) -> None:
        now = min(self._out_forward, self._out.size)
        if now:
            self.written.append(self._out.take(now))
            self._out_forward -= now
