"""
The rule from what is registered and deployed to what every worker should load and route. Pure.

Loaded are, per model: the versions that answer callers, the shadow, the targets of aliases (while the model is deployed),
versions that a change prepares, everything that the predecessor needs during the rollback window, and versions that callers
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredVersion
from registry.batching import can_split
from registry.deployment import Batching, Deployment
from registry.versions import ModelVersion

ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True)
class Preparing:
    """Versions that a running change needs loaded, with the settings they will be served with."""

    versions: frozenset[int]
    batching: Batching
    isolation: str = "none"


@dataclass(frozen=True, slots=True)
class Found:
    """
    A registered version, the ONNX file to load it from, the session configuration that the file needs, and the file of its
    examples ("" if there is none or it is damaged). ``damage`` says why the version cannot be loaded; then it has no path.
    """

    version: ModelVersion
    path: str
    examples: str = ""
    session_config: tuple[tuple[str, str], ...] = ()
    damage: str = ""


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """
    All facts that decide which versions of one model are loaded. ``warm`` is the predecessor while the rollback window is
    open, else None. ``on_demand`` are versions loaded because callers named them. ``freed`` are versions that a running
    change frees before it loads others: they are not loaded whoever names them, and the model has no route meanwhile.
    ``attempts`` counts, by version, how often a failed load was asked for again. ``suspects`` have ended a worker. ``fences``
    are the times (Unix seconds) until which calls of a version are refused.
    """

    deployment: Deployment | None = None
    warm: Deployment | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    preparing: Preparing | None = None
    on_demand: frozenset[int] = frozenset()
    freed: frozenset[int] = frozenset()
    attempts: Mapping[int, int] = field(default_factory=dict)
    suspects: frozenset[int] = frozenset()
    fences: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_deployed(self) -> bool:
        """Whether callers are answered."""
        return self.deployment is not None and self.deployment.default is not None


def needed_versions(deployment: Deployment) -> frozenset[int]:
    """Returns every version that the deployment sends requests to: those that answer callers, and the shadow."""
    shadow = {deployment.shadow.version} if deployment.shadow else set()
    return deployment.routed_versions() | shadow


def warm_until(deployment: Deployment) -> float:
    """Returns the Unix time in seconds until which the predecessor stays warm; 0 if there is none."""
    return deployment.created_at + deployment.rollback_window_s if deployment.predecessor is not None else 0.0


def roles(plan: ModelPlan) -> dict[int, tuple[str, ...]]:
    """
    Returns the roles of each version that should be loaded: default, candidate, shadow, alias, warm, preparing, on-demand.
    Other versions are not loaded.
    """
    found: dict[int, list[str]] = {}
    current = plan.deployment
    if current is not None and current.default is not None:
        for number in sorted(current.routed_versions(), key=lambda n: (n != current.default, n)):
            found.setdefault(number, []).append("default" if number == current.default else "candidate")
        if current.shadow:
            found.setdefault(current.shadow.version, []).append("shadow")
        for number in plan.aliases.values():
            if "alias" not in found.setdefault(number, []):
                found[number].append("alias")
    for number in sorted(needed_versions(plan.warm)) if plan.warm else ():
        found.setdefault(number, []).append("warm")
    for number in sorted(plan.preparing.versions) if plan.preparing else ():
        found.setdefault(number, []).append("preparing")
    for number in sorted(plan.on_demand):
        found.setdefault(number, []).append(ON_DEMAND)
    return {number: tuple(names) for number, names in found.items() if number not in plan.freed}


def freed_first(plan: ModelPlan, deployment: Deployment) -> frozenset[int]:
    """
    Returns the versions to free before those of the new deployment are loaded. With the swap order ``memory``, if the
    default changes, these are all loaded versions that the new deployment sends no requests to. Targets of aliases and
    versions loaded on demand stay, because callers name them.
    """
    current = plan.deployment
    if current is None or current.swap_order != "memory" or None in (current.default, deployment.default):
        return frozenset()
    if current.default == deployment.default:
        return frozenset()
    return frozenset(roles(plan)) - needed_versions(deployment) - frozenset(plan.aliases.values()) - plan.on_demand


def keeps_warm(deployment: Deployment, predecessor: Deployment) -> bool:
    """
    Whether the predecessor stays loaded for a rollback. With the swap order ``memory``, of either deployment, it does not:
    only one copy is in memory at a time.
    """
    return "memory" not in (deployment.swap_order, predecessor.swap_order)


def held(plan: ModelPlan) -> dict[int, Batching]:
    """
    Returns the versions to load, each with its settings: those that a running change asks for, else those of the deployment
    that serves it, or would first.
    """
    settings: dict[int, Batching] = {}
    for number, names in roles(plan).items():
        if plan.preparing is not None and "preparing" in names:
            settings[number] = plan.preparing.batching
        elif plan.deployment is not None and {"default", "candidate", "shadow", "alias"} & set(names):
            settings[number] = plan.deployment.batching
        elif plan.warm is not None and "warm" in names:
            settings[number] = plan.warm.batching
        else:
            settings[number] = plan.deployment.batching if plan.deployment else Batching()
    return dict(sorted(settings.items()))


def route(plan: ModelPlan) -> DesiredRoute | None:
    """Returns the route of callers; None if nothing is deployed."""
    current = plan.deployment
    if current is None or current.default is None or plan.freed:
        return None
    aliases = dict(sorted(plan.aliases.items()))
    return DesiredRoute(current.revision, current.default, current.segments, current.salt, current.shadow, aliases)


def desired_model(name: str, plan: ModelPlan, find: Callable[[str, int], Found]) -> DesiredModel | None:
    """
    Returns one model's part of the desired state; None if no version should be loaded. ``find(model, number)`` returns a
    registered version.
    """
    versions = tuple(_version(find(name, number), batching, plan) for number, batching in held(plan).items())
    if not versions and not plan.freed:
        return None
    made = route(plan)
    pins = {} if made else {alias: number for alias, number in sorted(plan.aliases.items()) if number in plan.on_demand}
    return DesiredModel(name, versions, made, pins, _unavailable(plan), plan.fences)


def isolation(plan: ModelPlan, number: int) -> str:
    """
    Returns ``process`` if the version runs in a process of its own: its deployment or a running change says so, or it has
    ended a worker.
    """
    if number in plan.suspects:
        return "process"
    if plan.preparing is not None and number in plan.preparing.versions:
        return plan.preparing.isolation
    return plan.deployment.isolation if plan.deployment else "none"


def _unavailable(plan: ModelPlan) -> str:
    if not plan.freed:
        return ""
    old = ", ".join(f"v{number}" for number in sorted(plan.freed))
    return f"{old} is freed before the next version is loaded (swap order memory)"


def _version(found: Found, batching: Batching, plan: ModelPlan) -> DesiredVersion:
    version, facts = found.version, found.version.facts
    return DesiredVersion(
        number=version.number,
        path=found.path,
        digest=version.artifact.digest,
        signature=facts.signature,
        prediction=facts.prediction,
        is_batchable=facts.is_batchable,
        batching=batching,
        examples=found.examples,
        session_config=found.session_config,
        batched_inputs=facts.batched_inputs,
        can_split=can_split(facts),
        isolation=isolation(plan, version.number),
        is_suspect=version.number in plan.suspects,
        attempt=plan.attempts.get(version.number, 0),
        damage=found.damage,
    )
