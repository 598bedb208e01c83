"""Frames in, frames out: packets, ports and NIC backends. Knows no protocol."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes as long to import as all of this package
if TYPE_CHECKING:
    from typing import Any

    from nic.backends import (
        NicError,
        open_pair,
        open_port,
        open_ports,
        wrap_capoff,
        wrap_classq,
        wrap_fault,
        wrap_pcapng,
    )
    from nic.pool import Pool, PoolStatistics
    from nic.port import (
        NEVER,
        Caps,
        CaptureStatistics,
        ClassqFlow,
        ClassqStatistics,
        FaultStatistics,
        Gso,
        Offload,
        Port,
        PortInfo,
        PortStatistics,
    )
    from nic.spec import ClassqSpec, FaultSpec, NicSpec, SpecError

__all__ = [
    "NEVER",
    "Caps",
    "CaptureStatistics",
    "ClassqFlow",
    "ClassqSpec",
    "ClassqStatistics",
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
    "wrap_classq",
    "wrap_fault",
    "wrap_pcapng",
]

# Loading _nic loads this package, and whoever opens no interface, such as a program that
# only imports sockets, must not pay for what opens them.
_HOMES = {
    "nic.backends": (
        "NicError",
        "open_pair",
        "open_port",
        "open_ports",
        "wrap_capoff",
        "wrap_classq",
        "wrap_fault",
        "wrap_pcapng",
    ),
    "nic.pool": ("Pool", "PoolStatistics"),
    "nic.port": (
        "NEVER",
        "Caps",
        "CaptureStatistics",
        "ClassqFlow",
        "ClassqStatistics",
        "FaultStatistics",
        "Gso",
        "Offload",
        "Port",
        "PortInfo",
        "PortStatistics",
    ),
    "nic.spec": ("ClassqSpec", "FaultSpec", "NicSpec", "SpecError"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for the first time."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
