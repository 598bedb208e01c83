"""The 4.4BSD stack: sockets, mbufs, protosw, TCP, UDP, IP, Ethernet."""

from bsdcore.sockets import Socket
from bsdcore.stack import Stack

__all__ = ["Socket", "Stack"]
