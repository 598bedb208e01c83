"""Negative results of C calls as the exceptions that the standard socket raises."""

from __future__ import annotations

import errno
import os
from time import monotonic_ns

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Final, NoReturn

__all__ = ["EAGAIN", "EINPROGRESS", "EINTR", "oserror", "retry", "throw"]

# As the C calls answer them.
EAGAIN: Final = -errno.EAGAIN
EINTR: Final = -errno.EINTR
EINPROGRESS: Final = -errno.EINPROGRESS
FOREVER: Final = -1


def oserror(code: int) -> OSError:
    """The exception for errno *code*: BlockingIOError, ConnectionResetError, ..."""
    return OSError(code, os.strerror(code))


def throw(result: int) -> NoReturn:
    """Raise what the negative errno *result* stands for."""
    raise oserror(-result)


def retry(result: int, end: int) -> int:
    """After a signal answer the time left, so that the call may be made again; else raise.

    *end* is the deadline on the monotonic clock in nanoseconds, 0 for a call
    that waits for ever or never. Signal handlers have run, or run before the
    next call: that is PEP 475, with one deadline for all attempts.
    """
    if result == EINTR:
        return max(0, end - monotonic_ns()) if end else FOREVER
    if result == EAGAIN and end:
        raise TimeoutError("timed out")
    throw(result)
