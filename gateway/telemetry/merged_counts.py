"""
The sums of counts over incarnations, versions and arms, and the latency quantiles from them. Pure.

Workers send cumulative counts (`contract.counts.Telemetry`); `telemetry.aggregate` keeps the latest ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.contract.counts import LATENCY_BOUNDS_S, ArmCounts, ShadowCounts, Telemetry

ArmKey = tuple[str, int, str]  # model, resolved version, arm
ShadowKey = tuple[str, int, int]  # model, primary version, shadow version
LoadKey = tuple[str, int, str]  # model, version, "ok" or "failed"
K = TypeVar("K")


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
class Incarnation:
    """The latest telemetry of one incarnation, with its worker's number."""

    worker: int
    telemetry: Telemetry


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


def merge(base: Merged, incarnations: Iterable[Incarnation], workers: tuple[WorkerCounts, ...]) -> Merged:
    """Returns the sums of ``base`` and the incarnations, with ``workers`` as the connected ones."""
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
