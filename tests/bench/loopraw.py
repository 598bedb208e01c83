"""What a loop-run stack costs per operation: ``python -m tests.bench.loopraw``.

Both ends of every connection live on one hand-run stack over its lo0; plain
callbacks stand where tasks would be woken. Figures are for comparing ways to
call the C, and no bar is set on them.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from bsdcore._ffi import ffi, lib
from bsdcore.loop import ROOM, WISH, LoopStack
from bsdcore.sockets import Socket
from bsdcore.stack import Stack

AF_INET, SOCK_STREAM, SOCK_DGRAM = 2, 1, 2
IPPROTO_TCP, TCP_NODELAY = 6, 1
SECOND = 10**9
BLOCK = 65536
MESSAGE = b"x" * 64
WISHED = 4096


def connections(stack: Stack, count: int) -> list[tuple[Socket, Socket]]:
    listener = stack.socket(AF_INET, SOCK_STREAM)
    listener.bind("127.0.0.1", 8000)
    listener.listen(4096)
    pairs = []
    for _ in range(count):
        client = stack.socket(AF_INET, SOCK_STREAM)
        with suppress(BlockingIOError):
            client.connect("127.0.0.1", 8000, 0)
        for _ in range(20):
            stack.run(0)
            if client.poll() & 4:
                break
        server, _ = listener.accept(0)
        for s in (client, server):
            s.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        pairs.append((client, server))
    return pairs


def rr_queued(count: int, rounds: int) -> float:
    """Submitted with the turn, received with the event."""
    with Stack() as stack:
        pairs = connections(stack, count)
        loop = LoopStack(stack)
        slots, keys, parts, buffer = loop.slots, loop.keys, loop.parts, loop.buffer
        size = len(MESSAGE)
        clients = [loop.add(c.handle) for c, _ in pairs]
        servers = [loop.add(s.handle) for _, s in pairs]
        for slot in clients + servers:
            slots[4 * slot + WISH] = WISHED

        def send(slot: int, data: bytes) -> None:
            room = 4 * slot + ROOM
            left = slots[room]
            if left < len(data):
                raise RuntimeError("no room")
            slots[room] = left - len(data)
            keys.append(slot | len(data) << 32)
            parts.append(data)

        loop.turn()
        for slot in clients:
            send(slot, MESSAGE)
        done, turns = 0, 0
        began = time.perf_counter()
        while done < 2 * rounds:
            turns += 1
            for slot, events, offset, length, left, error in loop.turn():
                data = buffer[offset : offset + length]
                if len(data) != size or left or error:
                    raise RuntimeError(f"{events:x} {length} {left} {error}")
                slots[4 * slot + WISH] = WISHED
                send(slot, data)
                done += 1
        took = time.perf_counter() - began
        for client, server in pairs:
            client.close()
            server.close()
        loop.close()
    return rounds / took


def rr_direct(count: int, rounds: int) -> float:
    """One bsd_recv and one bsd_send for each message; an event queue tells."""
    with Stack() as stack:
        pairs = connections(stack, count)
        sockets = [s.handle for pair in pairs for s in pair]
        loop = LoopStack(stack)
        for handle in sockets:
            loop.add(handle)
        for _ in loop.turn():
            pass
        recv, send, null = lib.bsd_recv, lib.bsd_send, ffi.NULL
        memory = ffi.new("char[]", WISHED)
        buffer = ffi.buffer(memory)
        for client, _ in pairs:
            send(client.handle, MESSAGE, len(MESSAGE), 0, null, 0)
        done = 0
        began = time.perf_counter()
        while done < 2 * rounds:
            for slot, _events, _offset, _length, _left, _error in loop.turn():
                got = recv(sockets[slot], memory, WISHED, 0, null, 0)
                data = buffer[:got]
                if send(sockets[slot], data, got, 0, null, 0) != got:
                    raise RuntimeError("no room")
                done += 1
        took = time.perf_counter() - began
        loop.close()
    return rounds / took


def bulk(send: str, receive: str, size: int) -> float:
    """Bytes a second over one connection, 64 KiB at a time."""
    with Stack() as stack:
        ((client, server),) = connections(stack, 1)
        loop = LoopStack(stack)
        data, total = bytes(BLOCK), 0
        began = time.perf_counter()
        while total < size:
            with suppress(BlockingIOError):
                for _ in range(4):
                    if send == "reserve":
                        loop.send_lent(client.handle, loop.reserve(client.handle, BLOCK), 0, BLOCK)
                    else:
                        client.send(data, 0, 0)
            loop.turn()
            with suppress(BlockingIOError):
                while True:
                    if receive == "lend":
                        total += sum(len(piece.view) for piece in loop.lend(server.handle, 1 << 20))
                    else:
                        total += len(loop.read(server.handle, BLOCK))
        took = time.perf_counter() - began
        loop.close()
    return total / took


def datagrams(rounds: int) -> float:
    """64-byte datagrams a second, 64 at a time, with a view of each at the receiver."""
    with Stack() as stack:
        loop = LoopStack(stack)
        sender, receiver = stack.socket(AF_INET, SOCK_DGRAM), stack.socket(AF_INET, SOCK_DGRAM)
        receiver.bind("127.0.0.1", 9)
        sender.connect("127.0.0.1", 9)
        with suppress(BlockingIOError):
            loop.receive_batch(receiver.handle)
        parts, got = [MESSAGE] * 64, 0
        began = time.perf_counter()
        for _ in range(rounds):
            loop.send_batch(sender.handle, parts)
            loop.turn()
            got += len(loop.receive_batch(receiver.handle).views())
        took = time.perf_counter() - began
        loop.close()
    return got / took


def idle(count: int, rounds: int) -> float:
    """Wake-ups a second of one connection among *count* on which nothing happens."""
    with Stack() as stack:
        listener = stack.socket(AF_INET, SOCK_STREAM)
        listener.bind("0.0.0.0", 8000)
        listener.listen(4096)
        loop = LoopStack(stack)
        kept: list[tuple[Socket, int]] = []
        for number in range(count + 1):
            client = stack.socket(AF_INET, SOCK_STREAM)
            with suppress(BlockingIOError):
                client.connect(f"127.0.0.{2 + number // 10000}", 8000, 0)
            stack.run(0)
            server, _ = listener.accept(0)
            for sock in (client, server):
                sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                kept.append((sock, loop.add(sock.handle)))
        for _ in range(30):  # the timers of the handshakes run out
            for _ in loop.turn():
                pass
            time.sleep(0.05)
        ends = [slot for _, slot in kept[-2:]]
        for slot in ends:
            loop.slots[4 * slot + WISH] = WISHED
        loop.keys.append(ends[0] | len(MESSAGE) << 32)
        loop.parts.append(MESSAGE)
        done = 0
        began = time.perf_counter()
        while done < rounds:
            for slot, _events, _offset, length, _left, _error in loop.turn():
                loop.slots[4 * slot + WISH] = WISHED
                loop.keys.append(slot | length << 32)
                loop.parts.append(MESSAGE)
                done += 1
        took = time.perf_counter() - began
        loop.close()
    return done / took


def main() -> int:
    for count in (1, 64):
        for case in (rr_queued, rr_direct):
            best = max(case(count, 100000) for _ in range(3))
            print(
                f"{case.__name__:12} {count:4} connections: "
                f"{best / 1e3:8.1f} thousand rr/s, {1e6 / best:.2f} us"
            )
    for ways in (("copy", "read"), ("reserve", "lend")):
        best = max(bulk(*ways, 1 << 30) for _ in range(3))
        print(f"bulk         {'/'.join(ways)}: {best / 1e9:.1f} GB/s")
    print(f"datagrams    {max(datagrams(10000) for _ in range(3)) / 1e6:.2f} million/s")
    few, many = (max(idle(count, 50000) for _ in range(2)) for count in (100, 50000))
    print(
        f"idle         {1e6 / few:.2f} us among 100, {1e6 / many:.2f} us among 50000: "
        f"{few / many:.2f} times"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
