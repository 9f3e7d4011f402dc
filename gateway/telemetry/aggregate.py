"""
The latest counts of every worker, summed over deaths and reconnections.

Workers send cumulative counts (`contract.counts.Telemetry`), one stream per incarnation, in which the last message replaces
the ones before. Dead incarnations stay in the sums, so no total ever falls. While a worker is replaced, two of its
incarnations count at once. Nothing is rendered or measured here; `merged_counts` does the arithmetic.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from gateway.contract.counts import Telemetry
from gateway.telemetry.merged_counts import Incarnation, Merged, WorkerCounts, merge

# Dead incarnations whose counts are kept apart: their worker may only have lost its connection, and reconnect. The counts of
# older ones are folded into one base sum, and their later messages are ignored.
MAX_DEAD = 64
MAX_FOLDED = 4096  # names of folded incarnations that are remembered, so that a late message is not counted twice
MAX_ALIVE = 2  # incarnations of one worker that are alive at once: the one that serves, and its replacement or predecessor


class Aggregate:
    """Keeps the latest counts of every incarnation and sums them. Thread-safe. Takes ownership of the counts it is given."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, Incarnation] = {}  # by name, in the order of the first message
        self._connected: dict[int, list[str]] = {}  # worker -> names of its live incarnations, newest last
        self._base = Merged()  # the sum of the folded incarnations
        self._folded: dict[str, None] = {}  # their names, as an ordered set

    def __repr__(self) -> str:
        return f"Aggregate(connected={self._connected}, incarnations={len(self._latest)}, folded={len(self._folded)})"

    def update(self, worker: int, telemetry: Telemetry) -> None:
        """
        Replaces the incarnation's earlier counts. A new incarnation becomes the worker's newest. A late message of an earlier
        incarnation counts, but does not make that incarnation alive again.
        """
        with self._lock:
            incarnation = telemetry.incarnation
            if incarnation in self._folded:
                return
            is_new = incarnation not in self._latest
            self._latest[incarnation] = Incarnation(worker, telemetry)
            if is_new or worker not in self._connected:
                self._connected[worker] = [*self._connected.get(worker, ()), incarnation][-MAX_ALIVE:]
                self._fold()

    def forget(self, worker: int, incarnation: str | None = None) -> None:
        """Notes that an ``incarnation`` of the worker has ended, or all of them (None). Its counts stay in the sums."""
        with self._lock:
            left = [name for name in self._connected.pop(worker, ()) if incarnation not in (None, name)]
            if left:
                self._connected[worker] = left
            self._fold()

    def merged(self) -> Merged:
        """Returns the sums of this moment."""
        with self._lock:
            workers = tuple(self._worker(worker, names) for worker, names in sorted(self._connected.items()))
            return merge(self._base, self._latest.values(), workers)

    def _worker(self, worker: int, names: Sequence[str]) -> WorkerCounts:
        reports = [self._latest[name].telemetry for name in names]
        known = [one.connections for one in reports if one.connections >= 0]
        return WorkerCounts(
            worker,
            names[-1],
            sum(one.in_flight for one in reports),
            sum(one.rss_bytes for one in reports),
            sum(known) if known else -1,
            sum(one.parked for one in reports),
        )

    def _fold(self) -> None:
        """Adds the oldest dead incarnations to the base sum while there are more than MAX_DEAD."""
        alive = {name for names in self._connected.values() for name in names}
        dead = [name for name in self._latest if name not in alive]
        for name in dead[: max(0, len(dead) - MAX_DEAD)]:
            self._base = merge(self._base, (self._latest.pop(name),), ())
            self._folded[name] = None
        while len(self._folded) > MAX_FOLDED:
            del self._folded[next(iter(self._folded))]
