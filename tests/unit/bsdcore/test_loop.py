"""A stack turned by an event loop: submissions, wishes, events, in virtual time over lo0."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress

import pytest

from bsdcore import Stack
from bsdcore.loop import ROOM, WANT, WISH, LoopStack
from bsdcore.sockets import Socket
from bsdcore.stack import NEVER

TCP = 1
POLLIN, POLLOUT, POLLERR, POLLHUP, POLLRDHUP = 1, 4, 8, 16, 0x2000


class Host:
    """One virtual-time stack, its loop, and one connection over lo0."""

    def __init__(self) -> None:
        self.now = 10**9
        self.stack = Stack("one", seed=b"one", virtual_time=True, start_time=self.now)
        self.loop = LoopStack(self.stack, slots=64, events=8, submissions=4, buffer=8192)
        self.listener = self.stack.socket(2, TCP)
        self.listener.bind("127.0.0.1", 80)
        self.listener.listen(16)

    def pair(self) -> tuple[Socket, Socket]:
        client = self.stack.socket(2, TCP)
        with suppress(BlockingIOError):
            client.connect("127.0.0.1", 80, 0)
        while self.stack.run(self.now):
            pass
        return client, self.listener.accept(0)[0]

    def turn(self) -> list[tuple[int, ...]]:
        self.now += 1000
        return list(self.loop.turn(self.now))

    def send(self, slot: int, data: bytes) -> None:
        self.loop.keys.append(slot | len(data) << 32)
        self.loop.parts.append(data)

    def close(self) -> None:
        self.loop.close()
        self.stack.close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


def test_submitted_bytes_come_with_the_event_that_was_wished_for(host: Host) -> None:
    client, server = host.pair()
    a, b = host.loop.add(client.handle), host.loop.add(server.handle)
    host.loop.slots[4 * b + WISH] = 100
    room = host.loop.slots[4 * a + ROOM]
    host.send(a, b"hello ")
    host.send(a, b"world")
    (event,) = host.turn()
    slot, events, offset, length, left, error = event
    assert (slot, events, left, error) == (b, POLLIN, 0, 0)
    assert host.loop.buffer[offset : offset + length] == b"hello world"
    assert host.loop.slots[4 * b + WISH] == 0  # granted
    assert 0 < host.loop.slots[4 * a + ROOM] <= room
    assert not host.loop.keys and not host.loop.parts
    assert not host.turn()  # nothing is told twice


def test_without_a_wish_bytes_stay_and_are_told_of(host: Host) -> None:
    client, server = host.pair()
    a, b = host.loop.add(client.handle), host.loop.add(server.handle)
    host.send(a, b"0123456789")
    ((slot, events, _, length, left, _),) = host.turn()
    assert (slot, events, length, left) == (b, POLLIN, 0, 10)
    host.loop.slots[4 * b + WISH] = 4
    assert not host.turn()  # a wish alone changes nothing
    host.loop.look(b)
    ((_, _, offset, length, left, _),) = host.turn()
    assert (host.loop.buffer[offset : offset + length], left) == (b"0123", 6)
    assert server.recv(100, 0, 0) == b"456789"


def test_the_end_and_an_error_are_told_with_their_reason(host: Host) -> None:
    client, server = host.pair()
    b = host.loop.add(server.handle)
    client.shutdown(1)
    ((slot, events, _, _, left, error),) = host.turn()
    assert (slot, left, error) == (b, 0, 0)
    assert events & (POLLIN | POLLRDHUP) == POLLIN | POLLRDHUP
    client.abort()
    ((slot, events, _, _, _, error),) = host.turn()
    assert (slot, error) == (b, errno.ECONNRESET) or events & POLLHUP
    host.send(b, b"lost")  # a broken connection: taken, and told again
    ((slot, events, _, _, _, _),) = host.turn()
    assert events & POLLHUP
    assert not host.loop.keys


def test_writable_is_told_once_when_wanted(host: Host) -> None:
    client, server = host.pair()
    a = host.loop.add(client.handle)
    assert not host.turn()
    server.setsockopt(1, 8, 4096)  # SO_RCVBUF
    while host.loop.slots[4 * a + ROOM]:
        n = min(host.loop.slots[4 * a + ROOM], 65536)
        host.send(a, b"x" * n)
        host.turn()
    host.loop.slots[4 * a + WANT] = POLLOUT
    host.loop.look(a)
    assert not host.turn()
    seen: list[tuple[int, ...]] = []
    taken = 0
    while not seen:
        with suppress(BlockingIOError):
            taken += len(server.recv(1 << 20, 0, 0))
        seen = host.turn()
        if not seen:
            host.now = min(host.loop.poll_at(), host.now + 10**9)
    assert [(s, e) for s, e, *_ in seen] == [(a, POLLOUT)]
    assert host.loop.slots[4 * a + WANT] == 0
    assert host.loop.slots[4 * a + ROOM] > 0
    assert taken > 0


def test_more_submissions_and_events_than_fit_take_several_turns(host: Host) -> None:
    pairs = [host.pair() for _ in range(12)]
    slots = [(host.loop.add(a.handle), host.loop.add(b.handle)) for a, b in pairs]
    for a, b in slots:
        host.loop.slots[4 * b + WISH] = 3000
        host.send(a, bytes([a]) * 3000)
    got: dict[int, bytes] = {}
    for _ in range(20):
        for slot, _events, offset, length, left, _error in host.turn():
            assert (length, left) == (3000, 0)
            got[slot] = host.loop.buffer[offset : offset + length]
        if len(got) < 12:
            assert host.loop.poll_at() <= host.now
    assert got == {b: bytes([a]) * 3000 for a, b in slots}


def test_a_slot_is_not_given_out_again_before_the_next_turn(host: Host) -> None:
    client, server = host.pair()
    a = host.loop.add(client.handle)
    host.loop.remove(a)
    b = host.loop.add(server.handle)
    assert b != a
    host.turn()
    assert host.loop.add(client.handle) == a
    server.close()
    host.loop.remove(b)
    with pytest.raises(OSError, match="exists"):
        host.loop.add(client.handle)


def test_a_closed_socket_is_silent_and_its_submissions_vanish(host: Host) -> None:
    client, server = host.pair()
    a, b = host.loop.add(client.handle), host.loop.add(server.handle)
    client.close()
    host.send(a, b"nobody")
    assert {slot for slot, *_ in host.turn()} == {b}
    host.send(63, b"never given out")
    assert not host.turn()


def test_an_idle_loop_plans_nothing(host: Host) -> None:
    assert not host.turn()
    assert host.loop.poll_at() == NEVER
    client, server = host.pair()
    host.loop.add(client.handle), host.loop.add(server.handle)
    for _ in range(8):
        host.turn()
        host.now = min(host.loop.poll_at(), host.now + 10**12)
    assert host.loop.poll_at() >= host.now


def test_the_loop_may_be_closed_after_the_stack() -> None:
    host = Host()
    host.loop.add(host.pair()[0].handle)
    host.stack.close()
    with pytest.raises(OSError, match="Bad file"):
        host.loop.turn()
    host.loop.close()
