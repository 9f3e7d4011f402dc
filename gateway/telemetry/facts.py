"""
The facts of one scrape of /metrics, as plain values. Control fills `MetricsFacts`; `gateway.telemetry.prometheus` renders it.

`SwapRecorder` is here too: it counts swaps, which happen in control itself.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.contract.version_state import VersionState
from gateway.telemetry.merged_counts import Merged

# s; upper bounds of the buckets of a swap's duration. One more bucket is +Inf.
SWAP_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """
    A worker that should be attached. ``restarts`` (after a death) and ``replacements`` (by rolling restarts; None while the
    worker is away) count since the gateway started. ``started_at`` is Unix seconds, 0 if not known.
    """

    worker: int
    is_up: bool
    is_serving: bool = False
    revision: int = 0  # of the last desired state that the worker applied
    restarts: int = 0
    replacements: int | None = None
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeathCount:
    """
    Workers, or isolated versions' own processes, that died of a ``signal`` while they ran a version; "" and 0 if they ran
    none.
    """

    model: str
    version: int
    signal: str
    count: int


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version in one worker, from `contract.observed.ObservedVersion`. ``load_s`` is the duration of its load."""

    worker: int
    model: str
    version: int
    state: VersionState
    memory_bytes: int = 0
    in_flight: int = 0
    load_s: float = 0.0
    private_bytes: int = 0
    mapped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """The desired route of a model. ``shares`` is the share of the callers (0 to 1) per version."""

    model: str
    revision: int
    shares: Mapping[int, float]
    shadow: int | None = None
    shadow_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class SwapCounts:
    """Finished traffic changes of a model. ``verb`` is deploy, promote, rollback…; ``result`` is ok or failed."""

    model: str
    verb: str
    result: str
    buckets: tuple[int, ...]  # one count per bound of SWAP_BOUNDS_S and one for +Inf; not cumulative
    sum_s: float


@dataclass(frozen=True, slots=True)
class QualityFacts:
    """Live quality of a version and arm over the window of /metrics. A figure without meaning or data is None."""

    model: str
    version: int
    arm: str
    predictions: int = 0
    labelled: int = 0
    coverage: float | None = None
    accuracy: float | None = None
    precision_macro: float | None = None
    recall_macro: float | None = None
    f1_macro: float | None = None
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None


@dataclass(frozen=True, slots=True)
class OnDemandCounts:
    """
    Loading on demand. ``loads`` begun, ``failures`` and ``evictions`` count since control started. ``loaded`` (or loading)
    and ``waiting`` are the numbers of versions now.
    """

    loads: int = 0
    failures: int = 0
    evictions: int = 0
    loaded: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """
    Labels that arrived before their prediction, since control started: ``joined_late`` when the prediction was recorded,
    ``lapsed`` without it, ``refused_late`` because they did not fit the prediction. Each got the verdict PENDING.
    """

    joined_late: int = 0
    lapsed: int = 0
    refused_late: int = 0


@dataclass(frozen=True, slots=True)
class MetricsFacts:
    """All facts of one scrape. ``build`` becomes the labels of ``interlock_build_info``."""

    merged: Merged = field(default_factory=Merged)
    workers: tuple[WorkerFacts, ...] = ()
    versions: tuple[VersionFacts, ...] = ()
    routes: tuple[RouteFacts, ...] = ()
    deaths: tuple[DeathCount, ...] = ()
    isolated_deaths: tuple[DeathCount, ...] = ()
    swaps: tuple[SwapCounts, ...] = ()
    quality: tuple[QualityFacts, ...] = ()
    predictions_recorded: int = 0
    predictions_dropped: int = 0  # by control; the workers' are in `merged`
    feedback: FeedbackCounts = FeedbackCounts()
    loading: OnDemandCounts | None = None  # None: loading on demand is off
    build: Mapping[str, str] = field(default_factory=dict)


class SwapRecorder:
    """Counts finished traffic changes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._swaps: dict[tuple[str, str, str], SwapCounts] = {}

    def record(self, model: str, verb: str, *, is_ok: bool, duration_s: float) -> None:
        """Counts one finished change. ``duration_s`` is the time from the request to the last acknowledgement."""
        key = (model, verb, "ok" if is_ok else "failed")
        bucket = bisect_left(SWAP_BOUNDS_S, duration_s)
        with self._lock:
            old = self._swaps.get(key) or SwapCounts(*key, (0,) * (len(SWAP_BOUNDS_S) + 1), 0.0)
            buckets = tuple(count + (index == bucket) for index, count in enumerate(old.buckets))
            self._swaps[key] = SwapCounts(*key, buckets, old.sum_s + duration_s)

    def counts(self) -> tuple[SwapCounts, ...]:
        """Returns all counts since control started."""
        with self._lock:
            return tuple(self._swaps[key] for key in sorted(self._swaps))
