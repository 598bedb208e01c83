"""The class of each send of a connection, as the packets that leave have it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bsdcore.stack import Stack
from xsock.nw._context import DEFAULT_MESSAGE, ContentContext
from xsock.nw._ledger import Ledger
from xsock.nw._tag import Tag
from xsock.nw._voucher import (
    Originator,
    Originators,
    QoS,
    ServiceClass,
    Voucher,
    adoption,
)

PAYER = Originator("tenant-7")
SOCK_DGRAM = 2


class Line:
    """Datagrams that leave by lo0 of a stack in virtual time, tagged as a connection does it."""

    def __init__(self, stack: Stack, parameters: ServiceClass | None = None) -> None:
        self.stack = stack
        self.originators = Originators()
        self.ledger = Ledger(self.originators, lambda: [stack])
        self.tag = Tag(self.originators, parameters)
        self.socket = stack.socket(2, SOCK_DGRAM)
        self.socket.bind("127.0.0.1", 0)
        self.socket.connect(*self.socket.getsockname()[:2])
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1

    def send(self, context: ContentContext | None = None) -> None:
        adopted = adoption.get()
        held = None if adopted is None else adopted.voucher
        if held is not self.tag.voucher or context is not self.tag.context:
            self.tag.change(self.socket.handle, held, context, self.flush)
        self.socket.send(b"x")

    def seen(self, originator: Originator | None = None) -> dict[ServiceClass, int]:
        account = self.ledger[originator]
        return {item: traffic.packets_out for item, traffic in account.classes.items()}


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack("tag", virtual_time=True) as made:
        yield made


LEVELS = {
    "context": ServiceClass.SIGNALING,
    "connection": ServiceClass.OAM,
    "parameters": ServiceClass.STREAMING_AV,
    "voucher": ServiceClass.INTERACTIVE_VOICE,
}


@pytest.mark.parametrize("present", list(itertools.product([False, True], repeat=4)))
def test_precedence_on_the_wire(stack: Stack, present: tuple[bool, ...]) -> None:
    there = [name for name, is_there in zip(LEVELS, present, strict=True) if is_there]
    chosen = SimpleNamespace(**{name: LEVELS[name] if name in there else None for name in LEVELS})
    line = Line(stack, chosen.parameters)
    line.tag.choose(line.socket.handle, chosen.connection)
    context = ContentContext(service_class=chosen.context)
    with Voucher(qos=QoS.BACKGROUND, service_class=chosen.voucher, originator=PAYER).adopt():
        line.send(context)
    expected = LEVELS[there[0]] if there else ServiceClass.BACKGROUND
    assert line.seen(PAYER) == {expected: 1}


def test_each_send_has_its_own(stack: Stack) -> None:
    line = Line(stack)
    urgent = ContentContext(service_class=ServiceClass.INTERACTIVE_VIDEO)
    line.send()
    line.send(urgent)
    line.send()
    with Voucher(qos=QoS.BACKGROUND).adopt():
        line.send(DEFAULT_MESSAGE)
        line.send(urgent)
    line.send()
    assert line.seen() == {
        ServiceClass.BEST_EFFORT: 3, ServiceClass.INTERACTIVE_VIDEO: 2, ServiceClass.BACKGROUND: 1,
    }  # fmt: skip
    # Best effort is what a socket begins with.
    assert line.flushed == 5


def test_equal_tags_cost_no_flush(stack: Stack) -> None:
    line = Line(stack)
    line.send()
    with Voucher().adopt():
        line.send()
        line.send(ContentContext())
    with Voucher(qos=QoS.UTILITY).adopt():
        line.send()
    assert line.flushed == 0


def test_set_service_class(stack: Stack) -> None:
    line = Line(stack, ServiceClass.OAM)
    line.tag.begin(line.socket.handle)
    line.send()
    line.tag.choose(line.socket.handle, ServiceClass.CONTROL)
    line.send()
    line.tag.choose(line.socket.handle, None)
    line.send()
    assert line.seen() == {ServiceClass.OAM: 2, ServiceClass.CONTROL: 1}


def test_a_handshake_goes_under_the_voucher_of_start(stack: Stack) -> None:
    line = Line(stack)
    with Voucher(service_class=ServiceClass.SIGNALING, originator=PAYER).adopt():
        line.tag.begin(line.socket.handle)
    line.socket.send(b"x")
    assert line.seen(PAYER) == {ServiceClass.SIGNALING: 1}


def test_without_a_socket_a_choice_waits(stack: Stack) -> None:
    line = Line(stack)
    line.tag.choose(None, ServiceClass.OAM)
    line.tag.begin(line.socket.handle)
    line.send()
    assert line.seen() == {ServiceClass.OAM: 1}
