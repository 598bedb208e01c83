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

AF_INET, SOCK_STREAM = 2, 1
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
            s.setsockopt(6, 1, 1)
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


def main() -> int:
    for count in (1, 64):
        for case in (rr_queued, rr_direct):
            best = max(case(count, 100000) for _ in range(3))
            print(
                f"{case.__name__:12} {count:4} connections: "
                f"{best / 1e3:8.1f} thousand rr/s, {1e6 / best:.2f} us"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
