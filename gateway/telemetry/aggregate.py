"""
The sums of all workers' counts, over deaths and reconnections of workers.

Workers send cumulative counts (`contract.counts.Telemetry`), one stream per incarnation, in which the last message replaces
the ones before. Dead incarnations stay in the sums, so no total ever falls. While a worker is replaced, two of its
incarnations count at once. Nothing is rendered or measured here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.contract.counts import LATENCY_BOUNDS_S, ArmCounts, ShadowCounts, Telemetry

ArmKey = tuple[str, int, str]  # model, resolved version, arm
ShadowKey = tuple[str, int, int]  # model, primary version, shadow version
LoadKey = tuple[str, int, str]  # model, version, "ok" or "failed"
K = TypeVar("K")

# Dead incarnations whose counts are kept apart: their worker may only have lost its connection, and reconnect. The counts of
# older ones are folded into one base sum, and their later messages are ignored.
MAX_DEAD = 64
MAX_FOLDED = 4096  # names of folded incarnations that are remembered, so that a late message is not counted twice
MAX_ALIVE = 2  # incarnations of one worker that are alive at once: the one that serves, and its replacement or predecessor


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """
    The last report of a connected worker about itself; while it is replaced, the sum over both processes. ``incarnation`` is
    the newest one. ``rss_bytes`` is resident memory; ``connections`` is -1 if not known.
    """

    worker: int
    incarnation: str
    in_flight: int
    rss_bytes: int
    connections: int = -1
    parked: int = 0  # requests that wait for a version to be loaded


@dataclass(frozen=True, slots=True)
class Merged:
    """
    The sums over every incarnation since control started.

    ``not_routed`` is by gRPC code name. ``workers`` has only the connected workers, sorted by number. ``worker_requests`` is
    the number of requests that each worker answered, without shadow copies. All counts are copies that nothing else changes.
    """

    arms: Mapping[ArmKey, ArmCounts] = field(default_factory=dict)
    shadows: Mapping[ShadowKey, ShadowCounts] = field(default_factory=dict)
    not_routed: Mapping[str, int] = field(default_factory=dict)
    loads: Mapping[LoadKey, int] = field(default_factory=dict)
    predictions_dropped: int = 0
    traces_dropped: int = 0
    workers: tuple[WorkerCounts, ...] = ()
    worker_requests: Mapping[int, int] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        """Number of requests that are in the connected workers now."""
        return sum(worker.in_flight for worker in self.workers)


@dataclass(frozen=True, slots=True)
class _Incarnation:
    worker: int
    telemetry: Telemetry


class Aggregate:
    """Keeps the latest counts of every incarnation and sums them. Thread-safe. Takes ownership of the counts it is given."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, _Incarnation] = {}  # by name, in the order of the first message
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
            self._latest[incarnation] = _Incarnation(worker, telemetry)
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
            return _merge(self._base, self._latest.values(), workers)

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
            self._base = _merge(self._base, (self._latest.pop(name),), ())
            self._folded[name] = None
        while len(self._folded) > MAX_FOLDED:
            del self._folded[next(iter(self._folded))]


def quantile(counts: ArmCounts | Sequence[int], q: float) -> float:
    """
    Returns the ``q`` quantile (0 to 1) of the latency in seconds, from an arm's histogram or its buckets. 0.0 without
    requests.

    Interpolates linearly between the bounds of the bucket that holds the rank q·n, as Prometheus' ``histogram_quantile``
    does: the first bucket starts at 0, and in the last one (+Inf) the result is the highest finite bound. So the error is at
    most the bucket's width.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q: got {q}, expected 0 to 1")
    buckets = counts.latency_buckets if isinstance(counts, ArmCounts) else counts
    rank, below, lower = q * sum(buckets), 0, 0.0
    for count, upper in zip(buckets, LATENCY_BOUNDS_S, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * max(0.0, rank - below) / count
        below, lower = below + count, upper
    return lower if sum(buckets) else 0.0


def by_version(merged: Merged) -> dict[tuple[str, int], list[ArmCounts]]:
    """Returns the arms of every (model, version) that has counts, shadow arms included."""
    found: dict[tuple[str, int], list[ArmCounts]] = {}
    for (model, number, _), arm in merged.arms.items():
        found.setdefault((model, number), []).append(arm)
    return found


def summed(arms: Iterable[ArmCounts]) -> ArmCounts:
    """Returns the sum of several arms, with the model, version and arm of the first."""
    total: ArmCounts | None = None
    for arm in arms:
        total = total or ArmCounts(arm.model, arm.version, arm.arm)
        _add_arm(total, arm)
    return total or ArmCounts("", 0, "")


def _merge(base: Merged, incarnations: Iterable[_Incarnation], workers: tuple[WorkerCounts, ...]) -> Merged:
    arms: dict[ArmKey, ArmCounts] = {}
    shadows: dict[ShadowKey, ShadowCounts] = {}
    not_routed, loads, answered = Counter(base.not_routed), Counter(base.loads), Counter(base.worker_requests)
    predictions_dropped, traces_dropped = base.predictions_dropped, base.traces_dropped
    _add_all(arms, shadows, base.arms.values(), base.shadows.values())
    for incarnation in incarnations:
        telemetry = incarnation.telemetry
        answered[incarnation.worker] += _answered(telemetry)
        _add_all(arms, shadows, telemetry.arms, telemetry.shadows)
        not_routed.update(telemetry.not_routed)
        loads.update({_load_key(key): count for key, count in telemetry.loads.items()})
        predictions_dropped += telemetry.predictions_dropped
        traces_dropped += telemetry.traces_dropped
    return Merged(arms, shadows, dict(not_routed), dict(loads), predictions_dropped, traces_dropped, workers, dict(answered))


def _answered(telemetry: Telemetry) -> int:
    """Number of callers' requests, without the copies for a shadow."""
    routed = sum(sum(arm.requests.values()) for arm in telemetry.arms if arm.arm != "shadow")
    return routed + sum(telemetry.not_routed.values())


def _add_all(
    arms: dict[ArmKey, ArmCounts],
    shadows: dict[ShadowKey, ShadowCounts],
    more_arms: Iterable[ArmCounts],
    more_shadows: Iterable[ShadowCounts],
) -> None:
    for arm in more_arms:
        key = (arm.model, arm.version, arm.arm)
        _add_arm(arms.setdefault(key, ArmCounts(*key)), arm)
    for shadow in more_shadows:
        pair = (shadow.model, shadow.primary, shadow.shadow)
        _add_shadow(shadows.setdefault(pair, ShadowCounts(*pair)), shadow)


def _load_key(text: str) -> LoadKey:
    model, version, result = text.rsplit("|", 2)
    return model, int(version), result


def _add_arm(total: ArmCounts, more: ArmCounts) -> None:
    _add_counts(total.requests, more.requests)
    _add_counts(total.executions, more.executions)
    _add_counts(total.run_ns_by_size, more.run_ns_by_size)
    total.latency_buckets = [a + b for a, b in zip(total.latency_buckets, more.latency_buckets, strict=True)]
    total.latency_sum_s += more.latency_sum_s
    total.rows += more.rows
    total.queue_ns += more.queue_ns
    total.decode_ns += more.decode_ns
    total.run_ns += more.run_ns
    total.encode_ns += more.encode_ns
    total.last_inference_ms = max(total.last_inference_ms, more.last_inference_ms)


def _add_shadow(total: ShadowCounts, more: ShadowCounts) -> None:
    total.compared += more.compared
    total.disagreed += more.disagreed
    total.dropped += more.dropped
    total.failed += more.failed
    total.values += more.values
    total.sum_abs_diff += more.sum_abs_diff
    total.max_abs_diff = max(total.max_abs_diff, more.max_abs_diff)


def _add_counts(total: dict[K, int], more: Mapping[K, int]) -> None:
    for key, count in more.items():
        total[key] = total.get(key, 0) + count
