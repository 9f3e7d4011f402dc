"""A handle by which another thread ends a run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Halt:
    """Of one run. `now` may be called before the run, during it and after it, by any thread."""

    __slots__ = ("_is_due", "_lock", "_stop")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_due = False
        self._stop: Callable[[], None] | None = None

    def bind(self, stop: Callable[[], None]) -> None:
        """Says how the run is stopped; at once when it was asked for already."""
        with self._lock:
            self._stop = stop
            if self._is_due:
                stop()

    def now(self) -> None:
        """Nobody waits for the run any more."""
        with self._lock:
            self._is_due = True
            if self._stop is not None:
                self._stop()
