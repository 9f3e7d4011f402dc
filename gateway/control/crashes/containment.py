"""Containment: takes in deaths of workers, counts them, and has their causes kept away from everything else."""

from __future__ import annotations

import threading
from collections import Counter

import structlog

from gateway.contract.deaths import VersionName, WorkerDeath
from gateway.control.crashes.decide import CrashView
from gateway.telemetry.facts import DeathCount

_log = structlog.get_logger("interlock.control")


class Containment:
    """Thread-safe. Counts since control started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[VersionName | None, str]] = Counter()
        self._last: dict[int, WorkerDeath] = {}

    def died(self, death: WorkerDeath) -> None:
        """Takes in the death of a worker."""
        _log.warning("worker_died", worker=death.worker, signal=death.signal, ran=[str(run) for run in death.runs])
        with self._lock:
            self._last[death.worker] = death
            names: set[VersionName | None] = {run.name for run in death.runs}
            for name in names or {None}:
                self._counts[name, death.signal] += 1

    def view(self) -> CrashView:
        """Returns what is known now."""
        with self._lock:
            deaths: Counter[VersionName] = Counter()
            for (name, _), count in self._counts.items():
                if name is not None:
                    deaths[name] += count
            return CrashView(deaths, {worker: str(death) for worker, death in self._last.items()})

    def counts(self) -> tuple[DeathCount, ...]:
        """Returns the deaths by version and signal."""
        with self._lock:
            counted = [(*(name or ("", 0)), signal, count) for (name, signal), count in self._counts.items()]
        return tuple(DeathCount(*one) for one in sorted(counted))
