"""Counts the deaths of isolated versions' processes, for control. Their calls fail; nothing else notices."""

from __future__ import annotations

import threading

import structlog

_log = structlog.get_logger("interlock.versions")


class IsolatedDeaths:
    """Cumulative since the worker started. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, model: str, number: int, signal: str) -> None:
        """Counts one."""
        _log.error("isolated_version_died", model=model, version=number, signal=signal)
        key = f"{model}|{number}|{signal}"
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + 1

    def counts(self) -> dict[str, int]:
        """Returns the counts by ``model|version|signal``."""
        with self._lock:
            return dict(self._counts)
