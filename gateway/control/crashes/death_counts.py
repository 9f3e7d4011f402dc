"""Counts deaths of processes by version and signal, since control started."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator

from gateway.contract.counts import Telemetry
from gateway.contract.deaths import VersionName, WorkerDeath
from gateway.contract.handshake import Hello
from gateway.telemetry.facts import DeathCount

MAX_SEEN = 1024  # worker processes whose counts are remembered

_Counts = Counter[tuple[VersionName | None, str]]  # by version and signal


class DeathCounts:
    """
    Not thread-safe. ``known_until`` (Unix seconds): an earlier control has taken in what workers that started before then
    have counted up to now; 0 if there was none.
    """

    def __init__(self, known_until: float) -> None:
        self._known_until = known_until
        self._workers: _Counts = Counter()
        self._isolated: _Counts = Counter()
        self._seen: OrderedDict[str, Counter[str] | None] = OrderedDict()  # by incarnation; None: not yet known
        self._last: dict[int, WorkerDeath] = {}

    def joined(self, hello: Hello) -> None:
        """Notes a worker process whose counts will come."""
        if hello.incarnation not in self._seen:
            self._seen[hello.incarnation] = None if hello.started_at < self._known_until else Counter()
            while len(self._seen) > MAX_SEEN:
                self._seen.popitem(last=False)

    def worker_died(self, death: WorkerDeath) -> None:
        """Counts the death of a worker."""
        self._last[death.worker] = death
        names: set[VersionName | None] = {run.name for run in death.runs}
        for name in names or {None}:
            self._workers[name, death.signal] += 1

    def isolated_died(self, telemetry: Telemetry) -> Iterator[tuple[VersionName, str]]:
        """Counts deaths of isolated versions' processes. Returns each that is new: its version and signal."""
        counted, seen = Counter(telemetry.isolated_deaths), self._seen.get(telemetry.incarnation)
        self._seen[telemetry.incarnation] = counted
        for key, count in (counted - seen).items() if seen is not None else ():
            model, number, signal = key.split("|")
            name = model, int(number)
            self._isolated[name, signal] += count
            yield from [(name, signal)] * count

    def by_version(self) -> dict[VersionName, int]:
        """Returns the deaths of all processes that ran a version."""
        deaths: Counter[VersionName] = Counter()
        for (name, _), count in (self._workers + self._isolated).items():
            if name is not None:
                deaths[name] += count
        return deaths

    def last(self) -> dict[int, str]:
        """Describes the last death of each worker that died."""
        return {worker: str(death) for worker, death in self._last.items()}

    def worker_facts(self) -> tuple[DeathCount, ...]:
        """Returns the deaths of workers."""
        return _facts(self._workers)

    def isolated_facts(self) -> tuple[DeathCount, ...]:
        """Returns the deaths of isolated versions' own processes."""
        return _facts(self._isolated)


def _facts(counts: _Counts) -> tuple[DeathCount, ...]:
    found = [(*(name or ("", 0)), signal, count) for (name, signal), count in counts.items()]
    return tuple(DeathCount(*one) for one in sorted(found))
