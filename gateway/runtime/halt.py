"""A handle with which another thread stops a run."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Halt:
    """Stops one run. `now` may be called before the run, during it and after it, by any thread."""

    __slots__ = ("_is_due", "_lock", "_stop")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_due = False
        self._stop: Callable[[], None] | None = None

    def bind(self, stop: Callable[[], None]) -> None:
        """Sets the function that stops the run; calls it at once if the stop was asked for already."""
        with self._lock:
            self._stop = stop
            if self._is_due:
                stop()

    def now(self) -> None:
        """Stops the run."""
        with self._lock:
            self._is_due = True
            if self._stop is not None:
                self._stop()
