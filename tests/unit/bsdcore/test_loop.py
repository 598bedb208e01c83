"""A stack turned by an event loop: submissions, wishes, events, in virtual time over lo0."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from random import Random

import pytest

from bsdcore import Stack, netstat
from bsdcore._ffi import ffi, lib
from bsdcore.loop import ROOM, WANT, WISH, LoopStack
from bsdcore.sockets import Socket, address
from bsdcore.stack import NEVER

TCP, UDP = 1, 2
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
        client.setsockopt(6, 1, 1)  # TCP_NODELAY
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
    assert not host.loop.keys
    assert not host.loop.parts
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


def test_what_finds_no_memory_is_submitted_again_a_little_later(host: Host) -> None:
    client, server = host.pair()
    a = host.loop.add(client.handle)
    b = host.loop.add(server.handle)
    host.stack.sysctl["kern.ipc.lendmax"] = 1 << 30
    held = []
    with suppress(OSError):
        while True:
            held.append(host.loop.reserve(client.handle, 65536))
    host.loop.slots[4 * b + WISH] = 16384
    host.send(a, b"m" * 16000)
    assert not host.turn()
    assert len(host.loop.keys) == len(host.loop.parts) == 1
    assert host.now < host.loop.poll_at() <= host.now + 10**6
    held.clear()
    host.stack.run(host.now)
    ((slot, _, _, length, left, _),) = host.turn()
    assert (slot, length + left) == (b, 16000)
    assert not host.loop.keys


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


def counter(host: Host, name: str) -> int:
    return netstat.counters(host.stack)[name]


def address_of(view: memoryview) -> int:
    return int(ffi.cast("uintptr_t", ffi.from_buffer(view)))


def test_reserved_memory_reaches_the_receiver_without_a_copy(host: Host) -> None:
    client, server = host.pair()
    host.loop.add(server.handle)
    copied = counter(host, "kern.ipc.copyin"), counter(host, "kern.ipc.copyout")
    sent = host.loop.reserve(client.handle, 60000)
    sent.view[:] = bytes(range(240)) * 250
    assert host.loop.send_lent(client.handle, sent, 0, 60000) == 60000
    assert len(host.turn()) == 1
    (got,) = host.loop.lend(server.handle, 1 << 20)
    assert address_of(got.view) == address_of(sent.view)
    assert got.view == sent.view
    assert copied == (counter(host, "kern.ipc.copyin"), counter(host, "kern.ipc.copyout"))
    assert counter(host, "kern.ipc.byref") == 60000
    assert counter(host, "kern.ipc.lent") == 120000


def test_what_was_lent_can_be_forwarded_in_place(host: Host) -> None:
    (client, server), (onward, sink) = host.pair(), host.pair()
    client.send(b"head" + b"x" * 5000 + b"tail", 0, 0)
    host.turn()
    lent = host.loop.lend(server.handle, 1 << 20)
    before = counter(host, "kern.ipc.copyin")
    for piece in lent:
        size = len(piece.view)
        assert host.loop.send_lent(onward.handle, piece, 0, size) == size
    addresses = [address_of(piece.view) for piece in lent]
    data = b"".join(piece.view for piece in lent)
    del lent, piece
    host.turn()
    got = host.loop.lend(sink.handle, 1 << 20)
    assert b"".join(p.view for p in got) == data == b"head" + b"x" * 5000 + b"tail"
    assert [address_of(p.view) for p in got] == addresses
    assert counter(host, "kern.ipc.copyin") == before


def test_memory_of_another_stack_is_refused(host: Host) -> None:
    client, _ = host.pair()
    other = Host()
    far, _ = other.pair()
    lent = host.loop.reserve(client.handle, 100)
    with pytest.raises(OSError, match="cross-device"):
        other.loop.send_lent(far.handle, lent, 0, 100)
    with pytest.raises(OSError, match="Invalid"):
        host.loop.send_lent(client.handle, lent, 1, 100)
    other.close()


def test_the_end_of_a_stream_lends_nothing_and_an_empty_one_blocks(host: Host) -> None:
    client, server = host.pair()
    with pytest.raises(BlockingIOError):
        host.loop.lend(server.handle, 100)
    client.shutdown(1)
    host.turn()
    assert host.loop.lend(server.handle, 100) == []


def test_lent_memory_is_not_used_again_while_a_slice_lives(host: Host) -> None:
    client, server = host.pair()
    random = Random(1)
    leaked: list[tuple[memoryview, bytes]] = []
    for number in range(100_000):
        payload = number.to_bytes(4, "big") * random.choice((2, 50, 400))
        assert client.send(payload, 0, 0) == len(payload)
        host.turn()
        for piece in host.loop.lend(server.handle, 1 << 20):
            if random.random() < 0.01:
                at = random.randrange(len(piece.view))
                view = piece.view.toreadonly()[at : at + 4]
                leaked.append((view, bytes(view)))
            if len(leaked) > 200:
                view, was = leaked.pop(random.randrange(len(leaked)))
                assert view == was
    assert all(view == was for view, was in leaked)
    assert 0 < netstat.memory(host.stack).lent < 1 << 21
    del view, piece
    leaked.clear()
    host.turn()
    assert netstat.memory(host.stack).lent == 0


def test_views_outlive_the_stack() -> None:
    host = Host()
    client, server = host.pair()
    client.send(b"left behind" * 1000, 0, 0)
    host.turn()
    views = [piece.view[3:9] for piece in host.loop.lend(server.handle, 1 << 20)]
    reserved = host.loop.reserve(client.handle, 5000)
    host.close()
    assert bytes(views[0]) == b"t behi"
    reserved.view[:4] = b"safe"
    assert bytes(reserved.view[:4]) == b"safe"
    del views, reserved, client, server


def test_much_is_told_of_and_read_with_one_copy(host: Host) -> None:
    client, server = host.pair()
    b = host.loop.add(server.handle)
    data = bytes(range(256)) * 200
    assert client.send(data, 0, 0) == len(data)
    host.loop.slots[4 * b + WISH] = 65536
    ((_, events, _, length, left, _),) = host.turn()
    assert (events, length, left) == (POLLIN, 0, len(data))
    assert host.loop.slots[4 * b + WISH] == 0
    assert host.loop.read(server.handle, 1000) == data[:1000]
    host.stack.sysctl["kern.ipc.lendmax"] = 0
    assert host.loop.read(server.handle, 1000) == data[1000:2000]
    host.stack.sysctl["kern.ipc.lendmax"] = 1 << 20
    assert host.loop.read(server.handle, 65536) == data[2000:]
    with pytest.raises(BlockingIOError):
        host.loop.read(server.handle, 1)
    client.shutdown(1)
    host.turn()
    assert host.loop.read(server.handle, 1) == b""


def test_a_refused_connection_is_told_with_its_errno(host: Host) -> None:
    client = host.stack.socket(2, TCP)
    a = host.loop.add(client.handle)
    with suppress(BlockingIOError):
        client.connect("127.0.0.1", 81, 0)
    ((slot, events, _, _, _, error),) = host.turn()
    assert (slot, error) == (a, errno.ECONNREFUSED)
    assert events & (POLLERR | POLLHUP) == POLLERR | POLLHUP


def test_a_connection_that_stands_is_told_as_writable(host: Host) -> None:
    client = host.stack.socket(2, TCP)
    a = host.loop.add(client.handle)
    list(host.loop.turn(host.now))
    host.loop.slots[4 * a + WANT] = POLLOUT
    host.loop.look(a)
    with suppress(BlockingIOError):
        client.connect("127.0.0.1", 80, 0)
    ((slot, events, _, _, _, error),) = host.turn()
    assert (slot, events, error) == (a, POLLOUT, 0)
    assert host.loop.slots[4 * a + ROOM] > 0


def test_a_tag_is_of_the_moment_of_submission(host: Host) -> None:
    client, _ = host.pair()
    a = host.loop.add(client.handle)
    for origin, size in ((7, 100), (9, 300)):
        host.loop.tag(a, -1, origin)
        host.send(a, bytes(size))
    host.turn()
    rows = ffi.new("struct bsd_ledger[]", 8)
    count = lib.bsd_ledger_list(host.stack.cdata, rows, 8)
    sent = {rows[i].origin: sum(rows[i].txbytes) for i in range(count)}
    assert sent[9] - sent[7] == 200


def test_what_may_be_lent_is_bounded(host: Host) -> None:
    client, server = host.pair()
    host.stack.sysctl["kern.ipc.lendmax"] = 100_000
    held = []
    with pytest.raises(OSError, match="No buffer") as refused:  # noqa: PT012
        while True:
            client.send(b"z" * 8000, 0, 0)
            host.turn()
            held += host.loop.lend(server.handle, 8000)
    assert refused.value.errno == errno.ENOBUFS
    assert netstat.memory(host.stack).lent < 150_000
    assert server.recv(9000, 0, 0) == b"z" * 8000  # a copy goes on
    held.clear()
    client.send(b"again", 0, 0)
    host.turn()
    assert b"".join(p.view for p in host.loop.lend(server.handle, 8000)) == b"again"


def udp_pair(host: Host) -> tuple[Socket, Socket]:
    sender, receiver = host.stack.socket(2, UDP), host.stack.socket(2, UDP)
    receiver.bind("127.0.0.1", 9)
    sender.connect("127.0.0.1", 9)
    with suppress(BlockingIOError):
        host.loop.receive_batch(receiver.handle)
    return sender, receiver


def test_a_batch_of_datagrams_is_one_packet_and_one_slab(host: Host) -> None:
    sender, receiver = udp_pair(host)
    parts = [bytes([i]) * 64 for i in range(64)] + [b"short"]
    before = counter(host, "udp.out")
    assert host.loop.send_batch(sender.handle, parts) == 65
    assert counter(host, "udp.out") == before + 1
    host.turn()
    batch = host.loop.receive_batch(receiver.handle)
    assert batch.views() == parts
    assert len(batch) == 65
    ((_, offset, total, size, count, _, when, _, ttl, _),) = batch.runs
    assert (offset, total, size, count, ttl) == (0, 64 * 64 + 5, 64, 65, 64)
    assert 0 < when <= host.now
    with pytest.raises(BlockingIOError):
        host.loop.receive_batch(receiver.handle)


def test_datagrams_of_many_kinds_keep_their_boundaries(host: Host) -> None:
    sender, receiver = udp_pair(host)
    other = host.stack.socket(2, UDP)
    parts = [b"a", b"", b"bb", b"bb", b"c" * 5000, b"d" * 3, b"e" * 4, b"", b"f" * 1400, b"f" * 9]
    assert host.loop.send_batch(sender.handle, parts) == len(parts)
    assert host.loop.send_batch(other.handle, [b"from elsewhere"], address("127.0.0.1", 9)) == 1
    host.turn()
    got: list[bytes] = []
    senders = set()
    with suppress(BlockingIOError):
        while True:
            batch = host.loop.receive_batch(receiver.handle)
            got += [bytes(view) for view in batch.views()]
            senders |= {run[0] for run in batch.runs}
    assert got == [*parts, b"from elsewhere"]
    assert len(senders) == 2


def test_a_plain_receive_still_takes_one_datagram_of_a_batch(host: Host) -> None:
    sender, receiver = udp_pair(host)
    host.loop.send_batch(sender.handle, [b"one", b"two", b"six", b"x"])
    host.turn()
    assert receiver.recv(10, 2, 0) == b"one"  # MSG_PEEK
    assert receiver.recv(10, 0, 0) == b"one"
    assert receiver.recv(2, 0, 0) == b"tw"
    assert host.loop.receive_batch(receiver.handle).views() == [b"six", b"x"]
    host.loop.send_batch(sender.handle, [b"1", b"2", b"3"])
    host.turn()
    assert [receiver.recv(9, 0, 0) for _ in range(3)] == [b"1", b"2", b"3"]
    with pytest.raises(BlockingIOError):
        receiver.recv(1, 0, 0)


def test_a_batch_counts_against_the_receive_buffer(host: Host) -> None:
    sender, receiver = udp_pair(host)
    receiver.setsockopt(1, 8, 10000)  # SO_RCVBUF
    for _ in range(50):
        host.loop.send_batch(sender.handle, [b"y" * 1000] * 20)
        host.turn()
    got = 0
    with suppress(BlockingIOError):
        while True:
            got += len(host.loop.receive_batch(receiver.handle))
    assert 20 <= got <= 60
    assert counter(host, "udp.drop.fullsock") > 40
