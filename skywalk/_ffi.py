"""The only import of skywalk's C: ``ffi``, ``lib``, and errno results as exceptions."""

import os

from nic._ffi import lib as _nic
from skywalk._skywalk import ffi, lib

__all__ = ["check", "ffi", "lib"]

# Packets and ports pass between the two by pointer.
if (lib.sk_sizeof_pkt(), lib.sk_sizeof_port()) != (_nic.nic_sizeof_pkt(), _nic.nic_sizeof_port()):
    raise ImportError("nic and skywalk were compiled from different headers: run make build")


def check(result: int) -> int:
    """Return *result*, or raise the OSError that a negative errno stands for."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
