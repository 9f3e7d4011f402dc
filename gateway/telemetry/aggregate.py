"""
The sum of what all workers counted, over their deaths and reconnections.

Workers send cumulative counts (`contract.counts.Telemetry`), one stream per incarnation: the last one wins. Dead
incarnations stay in the sums, so no total ever falls. While a worker is replaced, two of its incarnations count at once.
Nothing here renders or measures anything.
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

# Dead incarnations kept apart, because their worker may only have lost its connection and come back; older ones are
# summed into one and can not come back.
MAX_DEAD = 64
# Names of summed incarnations that are remembered, to refuse what would be counted twice.
MAX_BURIED = 4096
# Incarnations of one worker that may be alive at once: the one that serves, and its replacement or predecessor.
MAX_LIVES = 2


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """
    What a connected worker last said about itself; while it is replaced, the sum over both processes. ``incarnation`` is
    the newest. ``rss_bytes`` is its resident memory, ``connections`` -1 where not known.
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
    Sums over every incarnation known since control started. ``not_routed`` is by gRPC code name, ``workers`` holds the
    connected ones only, sorted by number. ``worker_requests`` are the requests each worker has answered, shadow copies left
    out. The counts are copies: nobody else writes to them.
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
        """Requests that the connected workers hold now."""
        return sum(worker.in_flight for worker in self.workers)


@dataclass(frozen=True, slots=True)
class _Life:
    worker: int
    telemetry: Telemetry


class Aggregate:
    """The latest telemetry of every incarnation, and their sum. Thread-safe; takes ownership of what it is given."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, _Life] = {}  # by incarnation, in order of first sight
        self._connected: dict[int, list[str]] = {}  # worker -> incarnations, the newest last
        self._base = Merged()
        self._buried: dict[str, None] = {}  # ordered set

    def update(self, worker: int, telemetry: Telemetry) -> None:
        """
        Takes a worker's counts in place of its earlier ones. A new incarnation becomes the worker's newest; a late
        message of an earlier one counts, but does not bring it back.
        """
        with self._lock:
            incarnation = telemetry.incarnation
            if incarnation in self._buried:
                return
            is_new = incarnation not in self._latest
            self._latest[incarnation] = _Life(worker, telemetry)
            if is_new or worker not in self._connected:
                self._connected[worker] = [*self._connected.get(worker, ()), incarnation][-MAX_LIVES:]
                self._bury()

    def forget(self, worker: int, incarnation: str | None = None) -> None:
        """
        The worker is gone, or only one ``incarnation`` of it: no facts about it any more, but its counts stay.
        """
        with self._lock:
            left = [name for name in self._connected.pop(worker, ()) if incarnation not in (None, name)]
            if left:
                self._connected[worker] = left
            self._bury()

    def merged(self) -> Merged:
        """The sums now."""
        with self._lock:
            workers = tuple(self._worker(worker, names) for worker, names in sorted(self._connected.items()))
            return _merge(self._base, self._latest.values(), workers)

    def _worker(self, worker: int, names: Sequence[str]) -> WorkerCounts:
        said = [self._latest[name].telemetry for name in names]
        known = [one.connections for one in said if one.connections >= 0]
        return WorkerCounts(
            worker,
            names[-1],
            sum(one.in_flight for one in said),
            sum(one.rss_bytes for one in said),
            sum(known) if known else -1,
            sum(one.parked for one in said),
        )

    def _bury(self) -> None:
        """Sums the oldest dead incarnations into the base when there are more than MAX_DEAD."""
        alive = {name for names in self._connected.values() for name in names}
        dead = [name for name in self._latest if name not in alive]
        for name in dead[: max(0, len(dead) - MAX_DEAD)]:
            self._base = _merge(self._base, (self._latest.pop(name),), ())
            self._buried[name] = None
        while len(self._buried) > MAX_BURIED:
            del self._buried[next(iter(self._buried))]


def quantile(counts: ArmCounts | Sequence[int], q: float) -> float:
    """
    The latency in seconds below which the share ``q`` (0 to 1) of the requests lies, from an arm's histogram (or its
    buckets). 0.0 without requests.

    The bucket that holds the rank q·n is found, and the place inside it by linear interpolation between its bounds, as
    Prometheus' ``histogram_quantile`` does: the first bucket starts at 0, and in the last one (+Inf) the answer is the
    highest finite bound. So the error is at most the bucket's width.
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
    """The arms of every (model, version) that counted anything, shadow arms included."""
    found: dict[tuple[str, int], list[ArmCounts]] = {}
    for (model, number, _), arm in merged.arms.items():
        found.setdefault((model, number), []).append(arm)
    return found


def summed(arms: Iterable[ArmCounts]) -> ArmCounts:
    """One count for several arms of one version (or several versions): the names are the first one's."""
    total: ArmCounts | None = None
    for arm in arms:
        total = total or ArmCounts(arm.model, arm.version, arm.arm)
        _add_arm(total, arm)
    return total or ArmCounts("", 0, "")


def _merge(base: Merged, lives: Iterable[_Life], workers: tuple[WorkerCounts, ...]) -> Merged:
    arms: dict[ArmKey, ArmCounts] = {}
    shadows: dict[ShadowKey, ShadowCounts] = {}
    not_routed, loads, answered = Counter(base.not_routed), Counter(base.loads), Counter(base.worker_requests)
    predictions_dropped, traces_dropped = base.predictions_dropped, base.traces_dropped
    _add_all(arms, shadows, base.arms.values(), base.shadows.values())
    for life in lives:
        telemetry = life.telemetry
        answered[life.worker] += _answered(telemetry)
        _add_all(arms, shadows, telemetry.arms, telemetry.shadows)
        not_routed.update(telemetry.not_routed)
        loads.update({_load_key(key): count for key, count in telemetry.loads.items()})
        predictions_dropped += telemetry.predictions_dropped
        traces_dropped += telemetry.traces_dropped
    return Merged(arms, shadows, dict(not_routed), dict(loads), predictions_dropped, traces_dropped, workers, dict(answered))


def _answered(telemetry: Telemetry) -> int:
    """Requests of callers; a shadow's copies are none."""
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
