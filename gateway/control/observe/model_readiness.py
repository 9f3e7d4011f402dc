"""
Which deployed models answer their callers, and whether these are enough for the gateway to be called ready. Pure.

A word says which are enough: `ANY` (one, if any is deployed), `ALL`, `NONE` (a worker that serves is enough), or names of
models with commas between them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from gateway.contract.version_state import VersionState
from gateway.control.desired.reconcile import ModelPlan
from gateway.control.fleet.progress import FleetView

ANY, ALL, NONE = "any", "all", "none"


@dataclass(frozen=True, slots=True)
class UnreadyModel:
    """A model that no worker answers. ``state`` and ``reason`` are those of its default version, empty if not known."""

    model: str
    version: int = 0
    state: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if not self.version:
            return f"{self.model} is not deployed"
        why = f": {self.state}{f', {self.reason}' if self.reason else ''}" if self.state else ""
        return f"{self.model} v{self.version} is not ready in any worker{why}"


def unready_models(plans: Mapping[str, ModelPlan], view: FleetView, words: str = ANY) -> tuple[UnreadyModel, ...]:
    """Returns the deployed models whose default version is READY in no worker, and models named by ``words`` without one."""
    return tuple(_unready(plans, view, words))


def _unready(plans: Mapping[str, ModelPlan], view: FleetView, words: str) -> Iterator[UnreadyModel]:
    deployed = _deployed(plans)
    for name, number in deployed.items():
        found = (worker.version(name, number) for worker in view.attached.values())
        versions = [version for version in found if version is not None]
        if not any(version.state == VersionState.READY for version in versions):
            worst = min(versions, key=lambda version: version.state != VersionState.FAILED, default=None)
            yield UnreadyModel(name, number, worst.state if worst else "", worst.reason if worst else "")
    yield from (UnreadyModel(name) for name in sorted(_named(words) - set(deployed)))


def are_enough(plans: Mapping[str, ModelPlan], unready: Collection[UnreadyModel], words: str) -> bool:
    """Returns whether enough models answer. ``words`` say which ones must."""
    lacking, deployed = {one.model for one in unready}, set(_deployed(plans))
    match words:
        case "none":
            return True
        case "any":
            return not deployed or bool(deployed - lacking)
        case "all":
            return not lacking
    return not _named(words) & lacking


def _named(words: str) -> set[str]:
    return set() if words in (ANY, ALL, NONE) else {name for name in words.split(",") if name}


def _deployed(plans: Mapping[str, ModelPlan]) -> dict[str, int]:
    deployments = {name: plan.deployment for name, plan in plans.items() if plan.deployment}
    return {name: one.default for name, one in deployments.items() if one.default is not None}
