"""Stops runs whose deadline has passed: one thread that sleeps until the earliest deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

IDLE_S = 3600.0


class Watchdog:
    """Stops watched runs. Thread-safe. The thread starts with the first watch and is a daemon: it has nothing to finish."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[object, tuple[float, Callable[[], None]]] = {}
        self._earliest = float("inf")
        self._has_thread = False

    @contextmanager
    def watching(self, until: float, stop: Callable[[], None]) -> Iterator[None]:
        """Calls ``stop`` if the monotonic time ``until`` (seconds) passes inside the block; never after it."""
        key = object()
        with self._changed:
            self._watched[key] = (until, stop)
            if until < self._earliest:
                self._earliest = until
                self._start()
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.pop(key, None)

    def _start(self) -> None:
        if not self._has_thread:
            self._has_thread = True
            threading.Thread(target=self._loop, name="watchdog", daemon=True).start()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(min(max(self._earliest - time.monotonic(), 0.0), IDLE_S))
                now = time.monotonic()
                for key, (until, stop) in list(self._watched.items()):
                    if until <= now:
                        stop()
                        del self._watched[key]
                self._earliest = min((until for until, _ in self._watched.values()), default=float("inf"))
