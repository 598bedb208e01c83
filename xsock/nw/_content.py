"""What message connections carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xsock.nw._context import DEFAULT_MESSAGE, ContentContext

__all__ = ["Message"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its bytes, its terms, and its type where the framing has types.

    The *content* of a message that was received is bytes; any buffer may be sent.
    """

    content: Any = b""
    context: ContentContext = DEFAULT_MESSAGE
    type: int | None = None
