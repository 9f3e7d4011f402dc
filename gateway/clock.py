"""Where time comes from: passed in, so that tests can move it."""

from __future__ import annotations

import time
from typing import Protocol

NO_DEADLINE_UNIX_S = 32_503_680_000.0  # Unix seconds, the year 3000: gRPC's "no deadline" lies beyond


class Clock(Protocol):
    """
    Two clocks: wall time for what is stored, monotonic time for durations and deadlines. Both in seconds; thread-safe. Wall
    time may be set, forwards and backwards, while the process runs. `time.perf_counter` is the monotonic clock too.
    """

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def monotonic_at(unix_s: float) -> float:
    """Returns the monotonic time of a deadline in Unix seconds that was told just now; infinity if it is none."""
    return unix_s - time.time() + time.monotonic() if unix_s < NO_DEADLINE_UNIX_S else float("inf")
