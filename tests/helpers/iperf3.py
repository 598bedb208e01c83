"""A client of iperf3's protocol over the plain socket module: one TCP stream, either way.

The peer is a real ``iperf3 -s``. A control connection opens with a cookie of
36 characters and a NUL; the server then leads with one-byte states:
PARAM_EXCHANGE (the client answers with its parameters), CREATE_STREAMS (the
client connects again and sends the cookie), TEST_START, TEST_RUNNING. The
client ends the test with TEST_END, results are exchanged both ways, and
IPERF_DONE closes. JSON travels behind its length, four bytes, big endian.
A negative state is a refusal.

``python -m tests.helpers.iperf3 HOST PORT BYTES [--reverse]`` prints one JSON object.
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
from typing import Any, Final

BLOCK: Final = 128 * 1024
COOKIE_SIZE: Final = 37
# What a server fills its blocks with when asked for a payload that repeats.
PATTERN: Final = (b"0123456789" * (BLOCK // 10 + 1))[:BLOCK]


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
    """Bytes as each end counted them, and the SHA-256 of those on our side."""

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
    """Counts, hashes and compares what comes."""

    def __init__(self, data: socket.socket) -> None:
        self.data = data
        self.size = 0
        self.digest = hashlib.sha256()
        self._buffer = bytearray(BLOCK)

    def take(self) -> bool:
        """One receive call; False at the end of the stream. ValueError if a byte is wrong."""
        got = self.data.recv_into(self._buffer)
        piece = memoryview(self._buffer)[:got]
        at = self.size % BLOCK
        if bytes(piece) != (PATTERN[at:] + PATTERN[:at])[:got]:
            raise ValueError(f"wrong data within {got} bytes at offset {self.size}")
        self.digest.update(piece)
        self.size += got
        return got > 0


def run(host: str, port: int, size: int, reverse: bool = False) -> Result:
    """Move *size* bytes to the server, or with *reverse* at least as many from it."""
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
            control.say(State.TEST_END)
            elapsed = time.monotonic() - start
            # A server that sends goes on until it has read our TEST_END.
            while reverse and receiver.take():
                pass
            if reverse:
                ours, digest = receiver.size, receiver.digest.hexdigest()
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
    args = parser.parse_args()
    print(json.dumps(asdict(run(args.host, args.port, args.size, args.reverse))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
