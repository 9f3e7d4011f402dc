"""
The gateway's status, composed from the plans of its models, the workers' reports and their counts. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from gateway.contract.counts import ArmCounts, ShadowCounts
from gateway.contract.observed import ObservedVersion
from gateway.contract.version_state import VersionState
from gateway.control.crashes.decide import NO_CRASHES, CrashView
from gateway.control.desired.reconcile import ModelPlan, held, isolation, roles
from gateway.control.fleet.progress import FleetView, WorkerView
from gateway.control.observe.model_readiness import ANY, UnreadyModel, are_enough, unready_models
from gateway.telemetry.merged_counts import Merged, by_version, quantile, summed
from registry.batching import batching_state
from registry.deployment import PARTS, Batching, Deployment
from registry.versions import Facts

# From the least to the most advanced state. An unknown state counts as the least advanced.
_ADVANCE: tuple[str, ...] = (
    VersionState.FAILED,
    VersionState.UNLOADED,
    VersionState.UNLOADING,
    VersionState.NEW,
    VersionState.LOADING,
    VersionState.WARMING,
    VersionState.DRAINING,
    VersionState.READY,
)
PENDING = "PENDING"  # desired, but some worker has not reported the version yet


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """
    One process of a worker. While a worker is replaced, there are two with its number.

    ``state`` is serving, starting, draining or away. ``restarts`` counts deaths, ``replacements`` counts rolling restarts.
    ``requests`` is the number of requests answered by all incarnations of the worker that control has seen. ``connections``
    is -1 if not known. ``started_at`` is Unix seconds; it and ``pid`` are 0 while the worker is away. ``last_death`` says how
    its last process died, and of what.
    """

    worker: int
    state: str
    pid: int = 0
    restarts: int = 0
    lane: str = ""
    rss_bytes: int = 0
    replacements: int = 0
    started_at: float = 0.0
    requests: int = 0
    in_flight: int = 0
    connections: int = -1
    last_death: str = ""


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """
    One desired version, over all workers.

    ``state`` is the least advanced one. ``private_bytes`` and ``in_flight`` are sums; ``load_ms`` and ``mapped_bytes``
    (shared by the workers) are the largest value; ``memory_bytes`` is private plus mapped. ``layout`` is the form of large
    weights, and the reason for it; ``batching`` is the ground on which requests share runs, or why they do not. ``deaths``
    counts processes that died while they ran the version; ``isolation`` is where it runs, "" for the workers;
    ``fenced_until`` is Unix seconds, 0 if it is not fenced. Counts are those of callers (arms default, candidate and
    pinned); latencies are in seconds.
    """

    version: int
    roles: tuple[str, ...]
    state: str
    reason: str = ""
    workers_ready: int = 0
    percent: float = 0.0
    memory_bytes: int = 0
    load_ms: float = 0.0
    in_flight: int = 0
    requests: int = 0
    errors: int = 0
    p50_s: float = 0.0
    p99_s: float = 0.0
    shadow_compared: int = 0
    shadow_disagreed: int = 0
    shadow_dropped: int = 0
    private_bytes: int = 0
    mapped_bytes: int = 0
    layout: str = ""
    batching: str = ""
    deaths: int = 0
    isolation: str = ""
    fenced_until: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model with its desired versions."""

    model: str
    deployment: Deployment | None
    versions: tuple[VersionStatus, ...]


@dataclass(frozen=True, slots=True)
class GatewayReadiness:
    """
    Readiness of the gateway: ``is_ready`` if a worker serves, and enough models are answered by some worker
    (`model_readiness`). ``problems`` also lists problems that do not prevent readiness, such as an absent worker.
    """

    is_ready: bool
    problems: tuple[str, ...] = ()
    unready: tuple[UnreadyModel, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The status of workers and models at one moment."""

    workers: tuple[WorkerStatus, ...]
    models: tuple[ModelStatus, ...]
    readiness: GatewayReadiness


def gateway_status(
    plans: Mapping[str, ModelPlan],
    view: FleetView,
    merged: Merged,
    layouts: Mapping[tuple[str, int], str] = MappingProxyType({}),
    facts: Mapping[tuple[str, int], Facts] = MappingProxyType({}),
    crashes: CrashView = NO_CRASHES,
    enough: str = ANY,
) -> GatewayStatus:
    """
    Returns the status of all workers and of the models in ``plans``. ``layouts`` and ``facts`` are by model and version.
    ``enough`` says which models make the gateway ready (`model_readiness`).
    """
    counts = _Counts(by_version(merged), _by_shadow(merged), layouts, facts, crashes)
    models = tuple(_model(name, plan, view, counts) for name, plan in plans.items())
    return GatewayStatus(_workers(view, merged, crashes), models, readiness(plans, view, enough))


@dataclass(frozen=True, slots=True)
class _Counts:
    """Counts, layouts, facts and crashes by (model, version); shadow counts by the version that is the shadow."""

    arms: Mapping[tuple[str, int], Sequence[ArmCounts]]
    shadows: Mapping[tuple[str, int], Sequence[ShadowCounts]]
    layouts: Mapping[tuple[str, int], str]
    facts: Mapping[tuple[str, int], Facts]
    crashes: CrashView


def _by_shadow(merged: Merged) -> dict[tuple[str, int], list[ShadowCounts]]:
    found: dict[tuple[str, int], list[ShadowCounts]] = {}
    for (model, _, shadow), counts in merged.shadows.items():
        found.setdefault((model, shadow), []).append(counts)
    return found


def _workers(view: FleetView, merged: Merged, crashes: CrashView) -> tuple[WorkerStatus, ...]:
    present = [_worker(worker, view, merged) for worker in view.lives()]
    absent = [
        WorkerStatus(number, "away", restarts=view.restarts.get(number, 0), requests=merged.worker_requests.get(number, 0))
        for number in view.away()
    ]
    workers = (replace(worker, last_death=crashes.last.get(worker.worker, "")) for worker in [*present, *absent])
    return tuple(sorted(workers, key=lambda worker: worker.worker))


def _worker(worker: WorkerView, view: FleetView, merged: Merged) -> WorkerStatus:
    hello, telemetry = worker.hello, worker.telemetry
    return WorkerStatus(
        hello.worker,
        _worker_state(worker),
        hello.pid,
        view.restarts.get(hello.worker, 0),
        hello.lane,
        telemetry.rss_bytes if telemetry else 0,
        hello.replacements,
        hello.started_at,
        merged.worker_requests.get(hello.worker, 0),
        telemetry.in_flight if telemetry else 0,
        telemetry.connections if telemetry else -1,
    )


def _worker_state(worker: WorkerView) -> str:
    if worker.is_serving:
        return "serving"
    return "draining" if worker.has_served else "starting"


def _model(name: str, plan: ModelPlan, view: FleetView, counts: _Counts) -> ModelStatus:
    weights = plan.deployment.weights() if plan.deployment else {}
    versions = tuple(
        replace(
            _version(name, number, names, weights.get(number, 0) * 100 / PARTS, view, counts),
            batching=_batching(name, number, plan, counts),
            isolation=_isolation(plan, number),
        )
        for number, names in sorted(roles(plan).items())
    )
    return ModelStatus(name, plan.deployment, versions)


def _batching(model: str, number: int, plan: ModelPlan, counted: _Counts) -> str:
    facts = counted.facts.get((model, number))
    return batching_state(held(plan).get(number, Batching()), facts) if facts is not None else ""


def _isolation(plan: ModelPlan, number: int) -> str:
    place = isolation(plan, number)
    return "" if place == "none" else f"{place}: it has ended a worker" if number in plan.suspects else place


def _version(
    model: str, number: int, names: tuple[str, ...], percent: float, view: FleetView, counted: _Counts
) -> VersionStatus:
    observed = [worker.version(model, number) for worker in view.attached.values()]
    seen = [version for version in observed if version is not None]
    state, reason = _least_advanced(observed)
    counts = callers_counts(counted.arms.get((model, number), ()))
    shadows = counted.shadows.get((model, number), ())
    private_bytes = sum(version.private_bytes for version in seen)
    mapped_bytes = max((version.mapped_bytes for version in seen), default=0)
    return VersionStatus(
        version=number,
        roles=names,
        state=state,
        reason=reason,
        workers_ready=sum(version.state == VersionState.READY for version in seen),
        percent=percent,
        memory_bytes=private_bytes + mapped_bytes,
        load_ms=max((version.load_ms for version in seen), default=0.0),
        in_flight=sum(version.in_flight for version in seen),
        requests=sum(counts.requests.values()),
        errors=sum(count for code, count in counts.requests.items() if code != "OK"),
        p50_s=quantile(counts, 0.5),
        p99_s=quantile(counts, 0.99),
        shadow_compared=sum(one.compared for one in shadows),
        shadow_disagreed=sum(one.disagreed for one in shadows),
        shadow_dropped=sum(one.dropped for one in shadows),
        private_bytes=private_bytes,
        mapped_bytes=mapped_bytes,
        layout=counted.layouts.get((model, number), ""),
        deaths=counted.crashes.deaths.get((model, number), 0),
        fenced_until=counted.crashes.fenced.get((model, number), 0.0),
    )


def _least_advanced(observed: list[ObservedVersion | None]) -> tuple[str, str]:
    seen = [version for version in observed if version is not None]
    if not seen or len(seen) < len(observed):
        failed = next((version for version in seen if version.state == VersionState.FAILED), None)
        return (failed.state, failed.reason) if failed else (PENDING, "")
    least = min(seen, key=lambda version: _ADVANCE.index(version.state) if version.state in _ADVANCE else 0)
    return least.state, least.reason


def callers_counts(arms: Iterable[ArmCounts]) -> ArmCounts:
    """Returns a version's counts of callers' requests: the sum of all arms except the shadow's."""
    return summed(arm for arm in arms if arm.arm != "shadow")


def readiness(plans: Mapping[str, ModelPlan], view: FleetView, enough: str = ANY) -> GatewayReadiness:
    """Returns whether some worker answers the callers of as many models as are ``enough``, and the problems."""
    problems = [f"worker {number} is away" for number in view.away()]
    problems += [
        f"worker {number} is {_worker_state(worker)}"
        for number, worker in view.attached.items()
        if _worker_state(worker) != "serving"
    ]
    has_server = any(_worker_state(worker) == "serving" for worker in view.attached.values())
    unready = unready_models(plans, view, enough)
    is_ready = has_server and are_enough(plans, unready, enough)
    return GatewayReadiness(is_ready, (*problems, *map(str, unready)), unready)
