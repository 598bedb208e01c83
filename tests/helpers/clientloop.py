"""An event loop of a few lines for a client stack: it runs it until something has happened."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from types import TracebackType

from bsdcore.sockets import Socket
from xsock._wiring import Stack

POLLIN, POLLOUT, POLLERR = 1, 4, 8
LIMIT = 20.0  # seconds after which a test fails
NEVER = 2**63


def family(host: str) -> int:
    """AF_INET or AF_INET6."""
    return 10 if ":" in host else 2


class ClientLoop:
    """A client stack of *host*, and the doorbell it is woken by."""

    def __init__(self, host: Stack) -> None:
        self.doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.parts = host.client(self.doorbell)
        self.stack = self.parts.stack

    def __enter__(self) -> ClientLoop:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stack and the doorbell."""
        self.parts.close()
        os.close(self.doorbell)

    def until(self, done: Callable[[], object], limit: float = LIMIT) -> None:
        """Run the stack until *done* answers something true; TimeoutError after *limit* seconds."""
        end = time.monotonic() + limit
        while True:
            while self.stack.run(0):
                pass
            if done():
                return
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("the client's loop waited in vain")
            at = self.stack.poll_at()
            wait = (at - self.stack.now()) / 1e9 if at < NEVER else left
            if select.select([self.doorbell], [], [], min(max(wait, 0), left))[0]:
                os.eventfd_read(self.doorbell)
                self.parts.refresh()

    def wait(self, sock: Socket, events: int) -> None:
        """Until one of *events* holds for *sock*."""
        self.until(lambda: sock.poll() & events)

    def connect(self, host: str, port: int) -> Socket:
        """A TCP connection that stands, or the OSError that it ended with."""
        sock = self.stack.socket(family(host), 1)
        try:
            sock.connect(host, port, 0)
        except BlockingIOError:
            self.until(lambda: sock.poll() & (POLLOUT | POLLERR))
            if sock.poll() & POLLERR:
                sock.connect(host, port, 0)  # says why
        return sock

    def listen(self, host: str, port: int) -> Socket:
        """A listener."""
        sock = self.stack.socket(family(host), 1)
        sock.bind(host, port)
        sock.listen(16)
        return sock

    def accept(self, listener: Socket) -> Socket:
        """The next connection of *listener*."""
        self.until(lambda: listener.poll() & POLLIN)
        return listener.accept(0)[0]

    def receive(self, sock: Socket, size: int) -> bytes:
        """*size* bytes, or fewer at the end of the stream."""
        data = bytearray()
        while len(data) < size:
            self.until(lambda: sock.poll() & POLLIN)
            piece = sock.recv(size - len(data), 0, 0)
            if not piece:
                break
            data += piece
        return bytes(data)

    def send(self, sock: Socket, data: bytes) -> None:
        """All of *data*."""
        while data:
            self.until(lambda: sock.poll() & POLLOUT)
            data = data[sock.send(data, 0, 0) :]
