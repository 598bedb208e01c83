"""The class and originator that a connection's sends carry, captured at each send.

A socket keeps the tag it was given last, so most sends have nothing to do:

    adopted = adoption.get()
    held = None if adopted is None else adopted.voucher
    if held is not tag.voucher or context is not tag.context:
        tag.change(handle, held, context, flush)

Data that was queued under the former tag has to reach the socket first: that is *flush*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bsdcore._ffi import lib
from xsock.nw._voucher import (
    Originators,
    ServiceClass,
    Voucher,
    current_adopted,
    service_class_of,
)

if TYPE_CHECKING:
    from xsock.nw._context import ContentContext

__all__ = ["Tag"]


class Tag:
    """One connection's. *parameters* is the class that its parameters name.

    *voucher* and *context* are those of the last send; other code only compares them.
    """

    __slots__ = ("_connection", "_given", "_originators", "_parameters", "context", "voucher")

    def __init__(self, originators: Originators, parameters: ServiceClass | None = None) -> None:
        self._originators = originators
        self._parameters = parameters
        self._connection: ServiceClass | None = None
        # A socket's own tag: best effort, charged to nobody.
        self._given = (ServiceClass.BEST_EFFORT.index, 0)
        self.voucher: Voucher | None = None
        self.context: ContentContext | None = None

    def begin(self, handle: Any) -> None:
        """A new socket: its handshake goes under the voucher adopted here, in start()."""
        self._given = (ServiceClass.BEST_EFFORT.index, 0)
        self.change(handle, current_adopted(), None)

    def choose(
        self,
        handle: Any,
        chosen: ServiceClass | None,
        flush: Callable[[], object] | None = None,
    ) -> None:
        """set_service_class(): what the connection sends next is of this class; None ends that."""
        self._connection = chosen
        if handle is not None:
            self.change(handle, self.voucher, self.context, flush)

    def change(
        self,
        handle: Any,
        voucher: Voucher | None,
        context: ContentContext | None,
        flush: Callable[[], object] | None = None,
    ) -> None:
        """The next send goes under *voucher* with *context*; *flush* is called if that differs."""
        self.voucher, self.context = voucher, context
        asked = None if context is None else context.service_class
        service_class = service_class_of(asked, self._connection, self._parameters, voucher)
        origin = 0 if voucher is None else self._originators.intern(voucher.originator)
        wanted = (service_class.index, origin)
        if wanted != self._given:
            if flush is not None:
                flush()
            self._given = wanted
            # A socket that takes no tag has an error that its next send tells of.
            lib.bsd_set_tag(handle, *wanted)
