"""Containment: takes in deaths of processes, counts them, and has their causes kept away from everything else."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

import structlog

from gateway.contract.counts import Telemetry
from gateway.contract.deaths import VersionName, WorkerDeath
from gateway.control.crashes.decide import CrashView
from gateway.telemetry.facts import DeathCount

_log = structlog.get_logger("interlock.control")
_Counts = Counter[tuple[VersionName | None, str]]  # by version and signal


class Containment:
    """Thread-safe. Counts since control started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: _Counts = Counter()
        self._isolated: _Counts = Counter()
        self._seen: dict[str, Counter[str]] = {}  # what an incarnation has counted
        self._last: dict[int, WorkerDeath] = {}

    def died(self, death: WorkerDeath) -> None:
        """Takes in the death of a worker."""
        _log.warning("worker_died", worker=death.worker, signal=death.signal, ran=[str(run) for run in death.runs])
        with self._lock:
            self._last[death.worker] = death
            names: set[VersionName | None] = {run.name for run in death.runs}
            for name in names or {None}:
                self._counts[name, death.signal] += 1

    def counted(self, telemetry: Telemetry) -> None:
        """Takes in the deaths of isolated versions' processes that a worker has counted."""
        if not telemetry.isolated_deaths:
            return
        with self._lock:
            counted = Counter(telemetry.isolated_deaths)
            for key, count in (counted - self._seen.get(telemetry.incarnation, Counter())).items():
                model, number, signal = key.split("|")
                self._isolated[(model, int(number)), signal] += count
            self._seen[telemetry.incarnation] = counted

    def left(self, incarnation: str) -> None:
        """Forgets what a process that is gone has counted."""
        with self._lock:
            self._seen.pop(incarnation, None)

    def view(self) -> CrashView:
        """Returns what is known now."""
        with self._lock:
            deaths: Counter[VersionName] = Counter()
            for (name, _), count in (self._counts + self._isolated).items():
                if name is not None:
                    deaths[name] += count
            return CrashView(deaths, {worker: str(death) for worker, death in self._last.items()})

    def counts(self) -> tuple[DeathCount, ...]:
        """Returns the deaths of workers by version and signal."""
        with self._lock:
            return tuple(_facts(self._counts))

    def isolated_counts(self) -> tuple[DeathCount, ...]:
        """Returns the deaths of isolated versions' own processes by version and signal."""
        with self._lock:
            return tuple(_facts(self._isolated))


def _facts(counts: _Counts) -> Iterable[DeathCount]:
    found = [(*(name or ("", 0)), signal, count) for (name, signal), count in counts.items()]
    return (DeathCount(*one) for one in sorted(found))
