"""The only import of bsdcore's C: ``ffi``, ``lib``, and errno results as exceptions."""

import os

from bsdcore._bsdcore import ffi, lib
from nic._ffi import lib as _nic

__all__ = ["check", "ffi", "lib"]

# Packets and ports pass between the two by pointer.
if (lib.bsd_sizeof_pkt(), lib.bsd_sizeof_port()) != (_nic.nic_sizeof_pkt(), _nic.nic_sizeof_port()):
    raise ImportError("nic and bsdcore were compiled from different headers: run make build")


def check(result: int) -> int:
    """Return *result*, or raise the OSError that a negative errno stands for."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
