"""A client of iperf3's protocol over the plain socket module: one TCP stream, either way.

The peer is a real ``iperf3 -s``. A control connection opens with a cookie of
36 characters and a NUL; the server then leads with one-byte states:
PARAM_EXCHANGE (the client answers with its parameters), CREATE_STREAMS (the
client connects again and sends the cookie), TEST_START, TEST_RUNNING. The
client ends the test with TEST_END, results are exchanged both ways, and
IPERF_DONE closes. JSON travels behind its length, four bytes, big endian.
A negative state is a refusal.

The server stops counting when it reads TEST_END, whatever is still on its way on
the other connection; *sink*, the file that it was told to write, says when all has come.

``python -m tests.helpers.iperf3 HOST PORT BYTES [--reverse | --sink FILE]`` prints one
JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

BLOCK: Final = 131_070  # whole periods of the pattern, so that blocks join without a seam
COOKIE_SIZE: Final = 37
PERIOD: Final = b"0123456789"
# What a server fills its blocks with when asked for a payload that repeats.
PATTERN: Final = PERIOD * (BLOCK // len(PERIOD))
ALL_THERE: Final = 40.0  # seconds until *sink* must be complete


class State(IntEnum):
    TEST_START = 1
    TEST_RUNNING = 2
    TEST_END = 4
    PARAM_EXCHANGE = 9
    CREATE_STREAMS = 10
    SERVER_TERMINATE = 11
    EXCHANGE_RESULTS = 13
    DISPLAY_RESULTS = 14
    IPERF_DONE = 16
    ACCESS_DENIED = -1
    SERVER_ERROR = -2


class Refused(Exception):
    """The server said no, or something that does not belong there."""


@dataclass(frozen=True, slots=True)
class Result:
    """Bytes as each end counted them, and the SHA-256 of those that we sent."""

    sent: int
    received: int
    sha256: str
    seconds: float


def _exactly(sock: socket.socket, size: int) -> bytes:
    out = bytearray()
    while len(out) < size:
        piece = sock.recv(size - len(out))
        if not piece:
            raise EOFError(f"{size - len(out)} bytes missing")
        out += piece
    return bytes(out)


class Control:
    """The control connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def expect(self, wanted: State) -> None:
        """Wait for the server's next state, which must be *wanted*."""
        state = State(struct.unpack("b", _exactly(self.sock, 1))[0])
        if state is State.SERVER_ERROR:
            number, _ = struct.unpack("!ii", _exactly(self.sock, 8))
            raise Refused(f"server error {number}")
        if state is not wanted:
            raise Refused(f"{state.name} instead of {wanted.name}")

    def say(self, state: State) -> None:
        self.sock.sendall(struct.pack("b", state))

    def put(self, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode()
        self.sock.sendall(struct.pack("!I", len(text)) + text)

    def get(self) -> dict[str, Any]:
        (size,) = struct.unpack("!I", _exactly(self.sock, 4))
        value: dict[str, Any] = json.loads(_exactly(self.sock, size))
        return value


def payload(size: int) -> hashlib._Hash:
    """The SHA-256 of *size* bytes of what either end sends: whole blocks of the pattern."""
    digest = hashlib.sha256()
    for left in range(size, 0, -BLOCK):
        digest.update(PATTERN[: min(left, BLOCK)])
    return digest


def _send(data: socket.socket, size: int) -> tuple[int, str]:
    for left in range(size, 0, -BLOCK):
        data.sendall(PATTERN[: min(left, BLOCK)])
    return size, payload(size).hexdigest()


class Receiver:
    """Counts and compares what comes.

    A server whose write was cut short goes on from the start of its block, so the
    pattern may begin again anywhere, but nothing else may come than it.
    """

    def __init__(self, data: socket.socket) -> None:
        self.data = data
        self.size = 0
        self.seams = 0
        self._at = 0  # where in the period
        self._buffer = bytearray(BLOCK)
        self._pattern = PATTERN + PERIOD

    def take(self) -> bool:
        """One receive call; False at the end of the stream. ValueError if a byte is wrong."""
        got = self.data.recv_into(self._buffer)
        piece = bytes(memoryview(self._buffer)[:got])
        done = 0
        while piece[done:] != self._pattern[self._at : self._at + got - done]:
            same = self._same(piece, done)
            done += same
            if piece[done : done + 1] != PERIOD[:1] or (not same and self._at == 0):
                raise ValueError(
                    f"wrong data at offset {self.size + done}: {piece[done : done + 16]!r}"
                )
            self._at = 0
            self.seams += 1
        self._at = (self._at + got - done) % len(PERIOD)
        self.size += got
        return got > 0

    def _same(self, piece: bytes, start: int) -> int:
        """How many bytes from *start* are as they should be."""
        low, high = 0, len(piece) - start
        while low < high:
            middle = (low + high + 1) // 2
            if piece[start : start + middle] == self._pattern[self._at : self._at + middle]:
                low = middle
            else:
                high = middle - 1
        return low


def _wait_for(sink: Path, size: int) -> None:
    """Return when the server's file has *size* bytes."""
    end = time.monotonic() + ALL_THERE
    while sink.stat().st_size < size:
        if time.monotonic() > end:
            raise TimeoutError(f"{sink} has {sink.stat().st_size} of {size} bytes")
        time.sleep(0.002)


def run(host: str, port: int, size: int, reverse: bool = False, sink: Path | None = None) -> Result:
    """Move *size* bytes to the server, or with *reverse* at least as many from it.

    The hash is that of bytes sent; received ones are compared as they come.
    """
    cookie = hashlib.sha256(f"{host}:{port}".encode()).hexdigest()[: COOKIE_SIZE - 1].encode()
    address = (host, port)
    with socket.create_connection(address) as sock:
        control = Control(sock)
        sock.sendall(cookie + b"\0")
        control.expect(State.PARAM_EXCHANGE)
        params = {"tcp": True, "omit": 0, "time": 0, "num": size, "blockcount": 0, "parallel": 1,
                  "len": BLOCK, "pacing_timer": 1000, "repeating_payload": 1,
                  "client_version": "3.12"}  # fmt: skip
        control.put(params | ({"reverse": True} if reverse else {}))
        control.expect(State.CREATE_STREAMS)
        with socket.create_connection(address) as data:
            data.sendall(cookie + b"\0")
            control.expect(State.TEST_START)
            control.expect(State.TEST_RUNNING)
            start = time.monotonic()
            receiver = Receiver(data)
            if reverse:
                while receiver.size < size and receiver.take():
                    pass
                ours, digest = receiver.size, ""
            else:
                ours, digest = _send(data, size)
                if sink:
                    _wait_for(sink, size)
            control.say(State.TEST_END)
            elapsed = time.monotonic() - start
            # A server that sends goes on until it has read our TEST_END.
            while reverse and receiver.take():
                pass
            if reverse:
                ours = receiver.size
            control.expect(State.EXCHANGE_RESULTS)
            stream = {"id": 1, "bytes": ours, "retransmits": -1, "jitter": 0, "errors": 0,
                      "packets": 0, "start_time": 0, "end_time": elapsed}  # fmt: skip
            control.put({"cpu_util_total": 0, "cpu_util_user": 0, "cpu_util_system": 0,
                         "sender_has_retransmits": -1, "streams": [stream]})  # fmt: skip
            theirs = control.get()["streams"][0]["bytes"]
            control.expect(State.DISPLAY_RESULTS)
            control.say(State.IPERF_DONE)
    sent, received = (theirs, ours) if reverse else (ours, theirs)
    return Result(sent, received, digest, elapsed)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.helpers.iperf3")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("size", type=int, metavar="BYTES")
    parser.add_argument("--reverse", action="store_true", help="the server sends")
    parser.add_argument("--sink", type=Path, help="the file that the server writes (its -F)")
    args = parser.parse_args()
    print(json.dumps(asdict(run(args.host, args.port, args.size, args.reverse, args.sink))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
