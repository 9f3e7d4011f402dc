"""
Everything that /metrics tells, as plain values: control fills `MetricsFacts`, `gateway.telemetry.prometheus` renders it.

Swaps, which happen in control itself, are counted here too, by `SwapRecorder`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.telemetry.aggregate import Merged

# Upper bounds in seconds of the histogram of a swap's duration; one bucket more is +Inf.
SWAP_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """
    One worker process that should run. ``restarts`` (after a death) and ``replacements`` (by rolling restarts, None where
    it is away) count since the gateway started; ``started_at`` is Unix seconds, 0 = not known.
    """

    worker: int
    is_up: bool
    is_serving: bool = False
    revision: int = 0  # of the last desired state it took
    restarts: int = 0
    replacements: int | None = None
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version in one worker, as `contract.observed.ObservedVersion` says. ``load_s`` is the time it took to load."""

    worker: int
    model: str
    version: int
    state: str
    memory_bytes: int = 0
    in_flight: int = 0
    load_s: float = 0.0
    private_bytes: int = 0
    mapped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What should be served for a model: ``shares`` is the part of the callers (0 to 1) per version."""

    model: str
    revision: int
    shares: Mapping[int, float]
    shadow: int | None = None
    shadow_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class SwapCounts:
    """Finished changes of who serves; ``verb`` is deploy, promote, rollback…, ``result`` ok or failed."""

    model: str
    verb: str
    result: str
    buckets: tuple[int, ...]  # per bound of SWAP_BOUNDS_S and +Inf, not cumulative
    sum_s: float


@dataclass(frozen=True, slots=True)
class QualityFacts:
    """Live quality of a version and arm over the configured window; None where it has no meaning (yet)."""

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
class LoadingCounts:
    """
    Versions loaded because callers named them: ``loads`` begun, ``failures`` and ``evictions`` since control started;
    ``held`` and ``waiting`` are versions now.
    """

    loads: int = 0
    failures: int = 0
    evictions: int = 0
    held: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class MetricsFacts:
    """Everything that one scrape shows. ``build`` becomes the labels of ``interlock_build_info``."""

    merged: Merged = field(default_factory=Merged)
    workers: tuple[WorkerFacts, ...] = ()
    versions: tuple[VersionFacts, ...] = ()
    routes: tuple[RouteFacts, ...] = ()
    swaps: tuple[SwapCounts, ...] = ()
    quality: tuple[QualityFacts, ...] = ()
    predictions_recorded: int = 0
    predictions_dropped: int = 0  # by control; the workers' own are in `merged`
    loading: LoadingCounts | None = None  # None: nothing is loaded on demand
    build: Mapping[str, str] = field(default_factory=dict)


class SwapRecorder:
    """Counts the changes of who serves, as control finishes them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._swaps: dict[tuple[str, str, str], SwapCounts] = {}

    def record(self, model: str, verb: str, *, is_ok: bool, duration_s: float) -> None:
        """Counts a finished operation that changes who serves, from the request to the last acknowledgement."""
        key = (model, verb, "ok" if is_ok else "failed")
        place = bisect_left(SWAP_BOUNDS_S, duration_s)
        with self._lock:
            old = self._swaps.get(key) or SwapCounts(*key, (0,) * (len(SWAP_BOUNDS_S) + 1), 0.0)
            buckets = tuple(count + (index == place) for index, count in enumerate(old.buckets))
            self._swaps[key] = SwapCounts(*key, buckets, old.sum_s + duration_s)

    def counts(self) -> tuple[SwapCounts, ...]:
        """All counts since control started."""
        with self._lock:
            return tuple(self._swaps[key] for key in sorted(self._swaps))
