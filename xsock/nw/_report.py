"""Reports: how a connection came about, what it has carried, and what TCP knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Attempt", "DataTransferReport", "EstablishmentReport", "Resolution", "TCPInfo"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to connect to one address. Times are seconds; *error* is None for the winner."""

    endpoint: Any
    started_after: float
    duration: float
    error: OSError | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """One question to the resolver and how many addresses it gave. Seconds."""

    name: str
    source: str
    duration: float
    count: int


@dataclass(frozen=True, slots=True)
class EstablishmentReport:
    """How a connection came about. *duration* is from start() to READY, in seconds."""

    duration: float
    attempts: tuple[Attempt, ...]
    resolutions: tuple[Resolution, ...] = ()
    handshakes: tuple[tuple[str, float], ...] = ()

    @property
    def previous_attempt_count(self) -> int:
        """Attempts that were made beside the one that won."""
        return max(0, len(self.attempts) - 1)


@dataclass(frozen=True, slots=True)
class DataTransferReport:
    """What a connection carried since it was started; times are seconds, sizes bytes."""

    duration: float
    received_bytes: int
    sent_bytes: int
    retransmitted_bytes: int
    smoothed_rtt: float
    rtt_variance: float


@dataclass(frozen=True, slots=True)
class TCPInfo:
    """A snapshot of TCP's state. Times are seconds, windows and queues bytes.

    *state* is Linux's number (1 is ESTABLISHED), as in ``struct tcp_info``.
    """

    state: int
    mss: int
    smoothed_rtt: float
    rtt_variance: float
    congestion_window: int
    slow_start_threshold: int
    retransmitted_segments: int
    unacked_segments: int
    lost_segments: int
    send_queue: int
    receive_queue: int
