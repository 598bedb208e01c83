"""What message connections carry."""

from __future__ import annotations

from dataclasses import dataclass

from xsock.nw._context import DEFAULT_MESSAGE, ContentContext
from xsock.nw._outbox import Buffer

__all__ = ["Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its bytes, its terms, and its type where the framing has types."""

    content: Buffer = b""
    context: ContentContext = DEFAULT_MESSAGE
    type: int | None = None
