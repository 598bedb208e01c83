"""The only import of nic's C: ``ffi``, ``lib``, and errno results as exceptions."""

import os

from nic._nic import ffi, lib

__all__ = ["check", "ffi", "lib"]


def check(result: int) -> int:
    """Return *result*, or raise the OSError that a negative errno stands for."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
