"""Frames in, frames out: packets, ports and NIC backends. Knows no protocol."""

from nic.backends import (
    NicError,
    open_pair,
    open_port,
    open_ports,
    wrap_capoff,
    wrap_fault,
    wrap_pcapng,
)
from nic.pool import Pool, PoolStatistics
from nic.port import (
    NEVER,
    Caps,
    CaptureStatistics,
    FaultStatistics,
    Gso,
    Offload,
    Port,
    PortInfo,
    PortStatistics,
)
from nic.spec import FaultSpec, NicSpec, SpecError

__all__ = [
    "NEVER",
    "Caps",
    "CaptureStatistics",
    "FaultSpec",
    "FaultStatistics",
    "Gso",
    "NicError",
    "NicSpec",
    "Offload",
    "Pool",
    "PoolStatistics",
    "Port",
    "PortInfo",
    "PortStatistics",
    "SpecError",
    "open_pair",
    "open_port",
    "open_ports",
    "wrap_capoff",
    "wrap_fault",
    "wrap_pcapng",
]
