"""
Log lines of faults that repeat: the first at once, then at most one per period, with the number that was left out.

For loops that meet the same fault again and again while a disk is full or descriptors are short. Here is no text of an event.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PERIOD_S = 30.0  # seconds between two lines of one event: often enough to see that the fault lasts


@dataclass(slots=True)
class _Event:
    logged_s: float
    left_out: int = 0


class LimitedLog:
    """
    Logs to ``log``, a structlog logger. Each event name has its own limit of one line in ``period_s`` seconds of
    ``monotonic()``. A line has ``left_out`` if lines of its event were left out since the last one. Thread-safe.
    """

    def __init__(self, log: Any, *, period_s: float = PERIOD_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log, self._period_s, self._monotonic = log, period_s, monotonic
        self._lock = threading.Lock()
        self._events: dict[str, _Event] = {}

    def error(self, event: str, **facts: Any) -> None:
        """Logs an error, unless a line of this event was logged within the period."""
        left_out = self._take(event)
        if left_out is not None:
            self._log.error(event, **facts, **({"left_out": left_out} if left_out else {}))

    def _take(self, event: str) -> int | None:
        """Returns how many lines were left out before this one; None if this one is left out too."""
        now_s = self._monotonic()
        with self._lock:
            known = self._events.get(event)
            if known is not None and now_s - known.logged_s < self._period_s:
                known.left_out += 1
                return None
            self._events[event] = _Event(now_s)
            return known.left_out if known is not None else 0
