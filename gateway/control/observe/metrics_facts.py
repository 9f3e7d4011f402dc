"""
Control's part of a scrape, as the facts that `telemetry.prometheus` renders: workers, versions, routes, live quality. Nothing
is rendered or counted here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import structlog

from gateway.clock import Clock
from gateway.control.desired.reconcile import ModelPlan, roles
from gateway.control.fleet.progress import FleetView
from gateway.errors import NotReady
from gateway.quality.metrics import VersionQuality
from gateway.quality.prediction_store import PredictionStore
from gateway.telemetry.facts import QualityFacts, RouteFacts, VersionFacts, WorkerFacts
from gateway.telemetry.limited_log import LimitedLog
from registry.deployment import PARTS

SWAPS = frozenset("deploy promote rollback split shadow configure undeploy".split())  # verbs that count as swaps
QUALITY_WINDOW_S = 3600.0  # s; quality is computed over the predictions of this window
QUALITY_AGE_S = 10.0  # s for which computed quality is reused: reading it takes queries on the prediction log
_limited = LimitedLog(structlog.get_logger("interlock.control"))


class QualityCache:
    """
    Live quality for scrapes. Reads the prediction log at most once per QUALITY_AGE_S, in one thread: others, and all of them
    while the log cannot be read, get what was read last. Thread-safe.
    """

    def __init__(self, log: PredictionStore, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._facts: tuple[QualityFacts, ...] = ()

    def facts(self) -> tuple[QualityFacts, ...]:
        """Returns one entry per model, version and arm, over the last QUALITY_WINDOW_S seconds."""
        now = self._clock.monotonic()
        if now - self._read_at >= QUALITY_AGE_S and self._lock.acquire(blocking=False):
            try:
                self._read_at = now
                self._facts = tuple(quality_facts(*one) for one in self._log.quality_of_all(QUALITY_WINDOW_S))
            except NotReady as error:
                _limited.error("quality_not_read", error=str(error))
            finally:
                self._lock.release()
        return self._facts


def quality_facts(model: str, quality: VersionQuality) -> QualityFacts:
    """Returns the figures of one version and arm; None for those that have no meaning or no data yet."""
    classes, values = quality.class_report, quality.value_report
    return QualityFacts(
        model=model,
        version=quality.version,
        arm=quality.arm,
        predictions=quality.predictions,
        labelled=quality.labelled,
        coverage=quality.coverage,
        accuracy=classes.accuracy if classes else None,
        precision_macro=classes.precision_macro if classes else None,
        recall_macro=classes.recall_macro if classes else None,
        f1_macro=classes.f1_macro if classes else None,
        mae=values.mae if values else None,
        rmse=values.rmse if values else None,
        r2=values.r2 if values else None,
    )


def worker_facts(view: FleetView) -> tuple[WorkerFacts, ...]:
    """Returns the facts of every worker that should be attached, including absent ones."""
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
    """Returns the facts of every version in every worker."""
    return tuple(
        VersionFacts(
            number, v.model, v.number, v.state, v.memory_bytes, v.in_flight, v.load_ms / 1e3, v.private_bytes, v.mapped_bytes
        )
        for number, worker in view.attached.items()
        for v in (worker.observed.versions if worker.observed else ())
    )


def known_versions(plans: Mapping[str, ModelPlan], view: FleetView) -> frozenset[tuple[str, int]]:
    """Returns (model, version) of all that should be loaded, or is loaded in a worker."""
    desired = {(name, number) for name, plan in plans.items() for number in roles(plan)}
    return frozenset(desired | {(version.model, version.version) for version in version_facts(view)})


def route_facts(plans: Mapping[str, ModelPlan]) -> tuple[RouteFacts, ...]:
    """Returns the desired route of every deployed model."""
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
