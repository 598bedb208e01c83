"""Memory lent: what was received, where it lies, for as long as somebody looks at it.

    with await conn.receive_packet() as packet:
        parse(packet.data)

Leaving the with-block gives the packet back; its own views say ValueError then. A slice
that somebody kept still shows its bytes: the memory goes back to the pool only with the
last slice, so nothing in Python can see it used again. What is lent is bounded
(kern.ipc.lendmax); beyond that packets are copies, which nothing else distinguishes.

A batch makes no object per packet until it is asked for one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from xsock.nw._context import DEFAULT_MESSAGE, ContentContext

if TYPE_CHECKING:
    from types import TracebackType

    from bsdcore.loop import Datagrams, Lent
    from xsock.nw._connection import Connection
    from xsock.nw._endpoint import Endpoint
    from xsock.nw._loop import Driver

__all__ = ["Copied", "DatagramBatch", "Packet", "PacketBatch", "SendBuffer"]

GONE: Final = "the packet was given back"


class Copied:
    """Bytes in the place of memory lent by the piece."""

    __slots__ = ("lend", "start", "view")

    def __init__(self, data: bytes | memoryview) -> None:
        self.lend: Any = None
        self.start = 0
        self.view = memoryview(data)


class _Loan(ABC):
    """Something lent for a with-block, or until release() if it was retained."""

    __slots__ = ("_is_retained",)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_retained:
            self.release()

    @abstractmethod
    def release(self) -> None:
        """Give the memory back, as far as no slice of it lives. Twice is harmless."""

    @abstractmethod
    def _held(self) -> object:
        """What is lent; ValueError once it was given back."""

    def retain(self) -> Self:
        """Keep it beyond the with-block; release() it some time."""
        self._held()
        self._is_retained = True
        return self


class Packet(_Loan):
    """Received bytes in place. Use it in ``with``, or call release()."""

    __slots__ = ("_pieces", "_views", "context", "remote")

    def __init__(
        self,
        pieces: Sequence[Lent | Copied],
        context: ContentContext = DEFAULT_MESSAGE,
        remote: Endpoint | None = None,
    ) -> None:
        self._pieces: Sequence[Lent | Copied] | None = pieces
        self._views = tuple(piece.view.toreadonly() for piece in pieces)
        self._is_retained = False
        self.context = context
        self.remote = remote

    def release(self) -> None:
        """Give the memory back, as far as no slice of it lives. Twice is harmless."""
        self._pieces, self._views = None, ()

    @property
    def segments(self) -> Sequence[memoryview]:
        """All of the bytes, piece by piece, read-only."""
        if self._pieces is None:
            raise ValueError(GONE)
        return self._views

    @property
    def data(self) -> memoryview:
        """The first segment; a packet of one segment is all there."""
        views = self.segments
        return views[0] if views else memoryview(b"")

    def __len__(self) -> int:
        return sum(map(len, self._views))

    def copy(self) -> bytes:
        """The bytes, copied out."""
        return b"".join(self.segments)

    def detach(self) -> bytes:
        """The bytes, copied out, and the packet given back."""
        data = self.copy()
        self.release()
        return data

    def _held(self) -> Sequence[Lent | Copied]:
        if self._pieces is None:
            raise ValueError(GONE)
        return self._pieces

    def forward(self, other: Connection, context: ContentContext | None = None) -> bool:
        """Queue the packet to *other* without copying it, and give it back here.

        False, and nothing has happened, if *other* has no room. A packet that is a copy, or that
        belongs to another stack, is copied.
        """
        if not other._forward(self._held()):
            return False
        self.release()
        return True


class PacketBatch(_Loan):
    """Several packets received at once, given back in one step."""

    __slots__ = ("_pieces", "context")

    def __init__(
        self, pieces: list[Lent | Copied], context: ContentContext = DEFAULT_MESSAGE
    ) -> None:
        self._pieces: list[Lent | Copied] | None = pieces
        self._is_retained = False
        self.context = context

    def release(self) -> None:
        """Give all of the memory back, as far as no slice of it lives."""
        self._pieces = None

    def _held(self) -> list[Lent | Copied]:
        if self._pieces is None:
            raise ValueError(GONE)
        return self._pieces

    def __len__(self) -> int:
        return len(self._held())

    @property
    def lengths(self) -> array[int]:
        """The size of each, in bytes."""
        return array("I", (len(piece.view) for piece in self._held()))

    def views(self) -> list[memoryview]:
        """A read-only view of each."""
        return [piece.view.toreadonly() for piece in self._held()]

    def copies(self) -> list[bytes]:
        """The bytes of each, copied out."""
        return [bytes(piece.view) for piece in self._held()]

    def __getitem__(self, index: int) -> Packet:
        return Packet((self._held()[index],), self.context)

    def __iter__(self) -> Iterator[Packet]:
        for piece in self._held():
            yield Packet((piece,), self.context)

    def select(self, mask: Sequence[bool]) -> Self:
        """Keep those for which *mask* is true; the others are given back."""
        self._pieces = [p for p, keep in zip(self._held(), mask, strict=True) if keep]
        return self

    def forward(self, other: Connection, mask: Sequence[bool] | None = None) -> int:
        """Queue packets to *other* without copying; how many went.

        Those, and what *mask* leaves out, are given back; the rest stays, for when there is room.
        """
        pieces = self._held()
        if mask is not None:
            pieces = [p for p, keep in zip(pieces, mask, strict=True) if keep]
        for count, piece in enumerate(pieces):
            if not other._forward((piece,)):
                self._pieces = pieces[count:]
                return count
        self._pieces = []
        return len(pieces)


class DatagramBatch(_Loan):
    """Datagrams received at once, in one slab of memory."""

    __slots__ = ("_datagrams", "_unpack", "_views")

    def __init__(self, datagrams: Datagrams, unpack: Any) -> None:
        self._datagrams: Datagrams | None = datagrams
        self._unpack = unpack
        self._views: list[memoryview] | None = None
        self._is_retained = False

    def release(self) -> None:
        """Give the memory back, as far as no slice of it lives."""
        self._datagrams = self._views = None

    def _held(self) -> Datagrams:
        if self._datagrams is None:
            raise ValueError(GONE)
        return self._datagrams

    def __len__(self) -> int:
        return len(self._held())

    def views(self) -> list[memoryview]:
        """A read-only view of each, in order."""
        if self._views is None:
            self._views = self._held().views()
        return self._views

    def copies(self) -> list[bytes]:
        """The bytes of each, copied out."""
        return [bytes(view) for view in self.views()]

    @property
    def lengths(self) -> array[int]:
        """The size of each, in bytes."""
        return array("I", map(len, self.views()))

    def _column(self, field: int) -> list[int]:
        return [run[field] for run in self._held().runs for _ in range(run[4])]

    @property
    def timestamps(self) -> array[int]:
        """When each arrived: nanoseconds of the stack's clock."""
        return array("Q", self._column(6))

    @property
    def ecn(self) -> array[int]:
        """The ECN bits of each (RFC 3168)."""
        return array("B", (tos & 3 for tos in self._column(7)))

    @property
    def remotes(self) -> list[Endpoint]:
        """Who sent each."""
        answer: list[Endpoint] = []
        for run in self._held().runs:
            answer += [self._unpack(run[0])] * run[4]
        return answer

    def __iter__(self) -> Iterator[Packet]:
        for view, remote in zip(self.views(), self.remotes, strict=True):
            yield Packet((Copied(view),), remote=remote)

    def __getitem__(self, index: int) -> Packet:
        return Packet((Copied(self.views()[index]),), remote=self.remotes[index])

    def forward(self, other: Connection, mask: Sequence[bool] | None = None) -> int:
        """Queue datagrams to *other* as one batch; how many were taken."""
        views = self.views()
        if mask is not None:
            views = [view for view, keep in zip(views, mask, strict=True) if keep]
        taken = other._forward_datagrams(views)
        self._views = views[taken:]
        return taken


class SendBuffer:
    """Packet memory to write into: fill ``view``, then commit() how much of it is to be sent.

    Left without a commit, nothing is sent.
    """

    __slots__ = ("_driver", "_lent", "_send")

    def __init__(self, driver: Driver, lent: Lent, send: Any) -> None:
        self._driver = driver
        self._lent: Lent | None = lent
        self._send = send

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lent = None

    @property
    def view(self) -> memoryview:
        """The memory; not to be written to after commit()."""
        if self._lent is None:
            raise ValueError("the buffer was sent, or given back")
        return self._lent.view

    def commit(self, size: int) -> None:
        """Send the first *size* bytes, where they lie."""
        if not 0 <= size <= len(self.view):
            raise ValueError(f"0 to {len(self.view)} bytes can be sent, not {size}")
        lent, self._lent = self._lent, None
        if size:
            self._send(lent, size)
