"""Datagrams: connections to one peer, and sockets with many."""

from __future__ import annotations

from xsock.nw._connection import Connection

__all__ = ["DatagramConnection"]


class DatagramConnection(Connection):
    """Datagrams to and from one peer."""
