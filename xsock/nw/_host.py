"""The stack of an event loop beside that of its process: the same interfaces and ports."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from xsock import _wiring

if TYPE_CHECKING:
    from bsdcore.stack import Stack as Core
    from xsock._host import Host

__all__ = ["Beside"]


class Beside:
    """A client of *process*, or of the process's default Stack; close() frees it.

    *core* is to be run whenever *doorbell*, an eventfd that is read first, is readable;
    refresh() comes in between.
    """

    def __init__(self, process: Any = None) -> None:
        process = process or _wiring.default()
        self.host: Host = process.host
        self.doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self._client = process.client(self.doorbell)
        except BaseException:
            os.close(self.doorbell)
            raise
        self.core: Core = self._client.stack
        self.refresh = self._client.refresh

    def close(self) -> None:
        """Reset what is open."""
        self._client.close()
        os.close(self.doorbell)
