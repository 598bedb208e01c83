"""What became of a tracked send: accepted, then acknowledged or lost with the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from xsock.nw._bytes import TCPConnection
    from xsock.nw._errors import NetworkError

__all__ = ["SendReceipt"]

POLL_MIN: Final = 0.001  # seconds between looks at what is acknowledged
POLL_MAX: Final = 0.05


class SendReceipt:
    """Of a send whose context has ``track``: the stack has taken the bytes.

    *failed* is the connection's error if it ended before they were acknowledged.
    """

    __slots__ = ("_connection", "_is_acked", "_mark")

    def __init__(self, connection: TCPConnection, mark: int) -> None:
        self._connection = connection
        self._mark = mark
        self._is_acked = False

    @property
    def accepted(self) -> bool:
        """The stack has the bytes: always, or the send would have raised."""
        return True

    @property
    def failed(self) -> NetworkError | None:
        """Why they will never be acknowledged; None as far as is known."""
        return None if self.is_acked else self._connection.error

    @property
    def is_acked(self) -> bool:
        """The peer's TCP has the bytes; whether its program read them nobody can tell."""
        if not self._is_acked:
            acked = self._connection.acknowledged
            self._is_acked = acked is not None and acked >= self._mark
        return self._is_acked

    async def acked(self) -> None:
        """Wait until is_acked; raises the connection's error, or ClosedResourceError."""
        delay = POLL_MIN
        while not self.is_acked:
            self._connection._check_alive()
            await anyio.sleep(delay)
            delay = min(2 * delay, POLL_MAX)
