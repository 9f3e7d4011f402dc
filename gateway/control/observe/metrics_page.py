"""What control knows, in the form that /metrics renders."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from gateway.clock import Clock
from gateway.control.desired.reconcile import ModelPlan
from gateway.control.fleet.progress import FleetView
from gateway.quality.gauges import figures
from gateway.quality.metrics import VersionQuality
from gateway.telemetry.facts import QualityFacts, RouteFacts, VersionFacts, WorkerFacts
from registry.deployment import PARTS

SWAPS = frozenset("deploy promote rollback split shadow configure undeploy".split())  # verbs counted as swaps
QUALITY_WINDOW_S = 3600.0
QUALITY_AGE_S = 10.0
_FIGURES = frozenset(QualityFacts.__dataclass_fields__)


class QualitySource(Protocol):
    """What `PredictionLog` gives here."""

    def quality_of_all(self, window_s: float = 0.0) -> tuple[tuple[str, VersionQuality], ...]:
        """(model, quality) of every version and arm."""
        ...


class QualityFigures:
    """Live quality for scrapes. It is read from the log's file, so an answer is given again for QUALITY_AGE_S seconds."""

    def __init__(self, log: QualitySource, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._facts: tuple[QualityFacts, ...] = ()

    def facts(self) -> tuple[QualityFacts, ...]:
        """One entry per model, version and arm, over the last QUALITY_WINDOW_S seconds."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._read_at >= QUALITY_AGE_S:
                self._facts = tuple(_quality(*one) for one in self._log.quality_of_all(QUALITY_WINDOW_S))
                self._read_at = now
            return self._facts


def _quality(model: str, quality: VersionQuality) -> QualityFacts:
    found = {name: value for name, value in figures(quality).items() if name in _FIGURES}
    counts = {"predictions": quality.predictions, "labelled": quality.labelled}
    return QualityFacts(model, quality.version, quality.arm, **(found | counts))  # type: ignore[arg-type]


def worker_facts(view: FleetView) -> tuple[WorkerFacts, ...]:
    """Every worker that should be there."""
    present = [
        WorkerFacts(
            number,
            is_up=True,
            is_serving=worker.is_serving,
            revision=worker.observed.revision if worker.observed else 0,
            restarts=view.restarts.get(number, 0),
            replacements=worker.hello.replacements,
            started_at=worker.hello.started_at,
        )
        for number, worker in view.attached.items()
    ]
    absent = [WorkerFacts(number, is_up=False, restarts=view.restarts.get(number, 0)) for number in view.away()]
    return (*present, *absent)


def version_facts(view: FleetView) -> tuple[VersionFacts, ...]:
    """Every version in every worker."""
    return tuple(
        VersionFacts(
            number, v.model, v.number, v.state, v.memory_bytes, v.in_flight, v.load_ms / 1e3, v.private_bytes, v.mapped_bytes
        )
        for number, worker in view.attached.items()
        for v in (worker.observed.versions if worker.observed else ())
    )


def route_facts(plans: Mapping[str, ModelPlan]) -> tuple[RouteFacts, ...]:
    """Who should answer callers."""
    found = []
    for name, plan in plans.items():
        deployment = plan.deployment
        if deployment is not None and deployment.default is not None:
            shares = {number: parts / PARTS for number, parts in deployment.weights().items()}
            shadow = deployment.shadow
            facts = RouteFacts(name, deployment.revision, shares)
            if shadow is not None:
                facts = RouteFacts(name, deployment.revision, shares, shadow.version, shadow.percent)
            found.append(facts)
    return tuple(found)
