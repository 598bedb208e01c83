"""Sockets of the facade under vouchers: what a voucher makes of what is sent from now on.

Imported when the first voucher is adopted. Until then a send asks only whether
``_socket.voucher`` is None. What goes through a descriptor that others use (_proxy.py) is tagged
when the stack takes it from there, so a tag may come a little late. A tag belongs to the
socket: threads that send on one socket at the same moment under different vouchers may get
each other's.
"""

from __future__ import annotations

from typing import Any, Final

from bsdcore._ffi import ffi, lib

__all__ = ["originators_of", "vouch"]

SOL_SOCKET: Final = 1
SO_TRAFFIC_CLASS: Final = 0x1086
INT_BYTES: Final = 4
SVC_OWN: Final = -1  # the class that the socket has without a tag


def originators_of(owner: Any) -> Any:
    """The Originators of a Host, made when somebody first wants them."""
    if owner.originators is None:
        from xsock.nw._voucher import Originators

        with owner._lock:
            owner.originators = owner.originators or Originators()
    return owner.originators


def vouch(sock: Any, voucher: Any) -> None:
    """What *sock* sends from now on is sent under *voucher*, a nw.Voucher or None.

    A class that the program chose for the socket counts more than the voucher's; the
    voucher's originator pays all the same.
    """
    sock._xs_voucher = voucher
    handle = sock._xs_h
    if handle is None:
        return
    svc, origin = SVC_OWN, 0
    if voucher is not None:
        try:
            chosen = sock._xs_chosen
        except AttributeError:
            chosen = sock._xs_chosen = _was_chosen(handle)
        if not chosen:
            svc = voucher.effective_class.index
        if voucher.originator is not None:
            origin = originators_of(sock._xs_host).intern(voucher.originator)
    # A socket that takes no tag has an error that its next send tells of.
    lib.bsd_set_tag(handle, svc, origin)


def _was_chosen(handle: Any) -> bool:
    """The program chose a class for the listener that the socket came from."""
    value, length = ffi.new("int *"), ffi.new("size_t *", INT_BYTES)
    result = lib.bsd_getsockopt(handle, SOL_SOCKET, SO_TRAFFIC_CLASS, value, length)
    return bool(result == 0 and value[0] != 0)
