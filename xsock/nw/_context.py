"""What goes with one message: priority, deadline, dependency, class, protocol metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

from xsock.nw._options import Metadata
from xsock.nw._value import Value, check_seconds
from xsock.nw._voucher import ServiceClass

__all__ = ["DEFAULT_MESSAGE", "DEFAULT_STREAM", "FINAL_MESSAGE", "ContentContext"]

M = TypeVar("M", bound=Metadata)


@dataclass(frozen=True, slots=True, repr=False)
class ContentContext(Value):
    """One message's terms. The same object on several sends means the same message.

    *priority* is 0.0 to 1.0, higher first. *expiration* is in seconds from the
    send; data still queued then is dropped. *antecedent* is sent before this. *track* asks for
    a receipt.
    """

    identifier: str = "message"
    priority: float = field(default=0.5, kw_only=True)
    expiration: float | None = field(default=None, kw_only=True)
    is_final: bool = field(default=False, kw_only=True)
    antecedent: ContentContext | None = field(default=None, kw_only=True)
    service_class: ServiceClass | None = field(default=None, kw_only=True)
    track: bool = field(default=False, kw_only=True)
    metadata: tuple[Metadata, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not 0.0 <= self.priority <= 1.0:
            raise ValueError(f"priority: 0.0 to 1.0 is allowed, not {self.priority}")
        check_seconds("expiration", self.expiration)
        if not isinstance(self.antecedent, ContentContext | None):
            raise TypeError(f"antecedent: a ContentContext is wanted, not {self.antecedent!r}")
        if not isinstance(self.service_class, ServiceClass | None):
            raise TypeError(f"service_class: a ServiceClass is wanted, not {self.service_class!r}")
        if not isinstance(self.metadata, tuple) or not all(
            isinstance(item, Metadata) for item in self.metadata
        ):
            raise TypeError(f"metadata: a tuple of Metadata is wanted, not {self.metadata!r}")

    def get(self, kind: type[M]) -> M | None:
        """The metadata of this kind, as in ``context.get(TLV.Metadata)``; None if there is none."""
        for item in self.metadata:
            if isinstance(item, kind):
                return item
        return None

    def __getitem__(self, kind: type[M]) -> M:
        found = self.get(kind)
        if found is None:
            raise KeyError(kind)
        return found

    def with_metadata(self, item: Metadata) -> ContentContext:
        """A copy in which *item* stands for its kind."""
        others = tuple(old for old in self.metadata if type(old) is not type(item))
        return self.replace(metadata=(*others, item))


DEFAULT_MESSAGE: Final = ContentContext()
FINAL_MESSAGE: Final = ContentContext("final", is_final=True)
DEFAULT_STREAM: Final = ContentContext("stream")
