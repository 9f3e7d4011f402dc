"""
What is known about the crashes of versions, and what follows from it. Pure.

A version that has ended a worker is isolated: it runs in a process of its own. One that goes on dying there is fenced: its
calls are refused for a while, and for longer each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.contract.deaths import WINDOW_S, VersionName
from gateway.control.desired.reconcile import ModelPlan

FENCE_DEATHS = 3  # deaths of isolated processes of a version within WINDOW_S after which it is fenced
FIRST_FENCE_S, LONGEST_FENCE_S = 5.0, 300.0  # seconds of the first fence, doubling to the longest
FORGIVEN_S = 600.0  # seconds without another fence after which the next one is a first one


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """
    What is kept about one version. ``is_suspect``: it has ended a worker, and is isolated for that. ``reason`` says of what.
    ``fences`` are those in a row, ``fenced_until`` the end of the last one in Unix seconds.
    """

    model: str
    version: int
    is_suspect: bool = False
    reason: str = ""
    fences: int = 0
    fenced_until: float = 0.0

    @property
    def name(self) -> VersionName:
        """The version."""
        return self.model, self.version


def after_deaths(record: CrashRecord, deaths: Sequence[float], now: float) -> CrashRecord:
    """
    Returns the record of a version after ``deaths`` of its isolated processes (Unix seconds), fenced if they are too many.
    Deaths from before the last fence's end count no more.
    """
    counted = [at for at in deaths if now - at <= WINDOW_S and at > record.fenced_until]
    if len(counted) < FENCE_DEATHS:
        return record
    fences = record.fences + 1 if now - record.fenced_until < FORGIVEN_S else 1
    return replace(record, fences=fences, fenced_until=now + fence_s(fences))


def fence_s(fences: int) -> float:
    """Returns the seconds of the fence that is the so many-th in a row, from 1."""
    return float(min(LONGEST_FENCE_S, FIRST_FENCE_S * 2 ** min(fences - 1, 32)))


@dataclass(frozen=True, slots=True)
class RouteChange:
    """The change of a deployment that takes a fenced version out: ``split`` with ``percents``, ``shadow`` or ``rollback``."""

    verb: str
    percents: Mapping[str, float] = field(default_factory=dict)


def route_change(plan: ModelPlan, number: int) -> RouteChange | None:
    """
    Returns what to change after a version was fenced; None to leave the deployment. The default stays, unless the deployment
    says that a crash rolls it back, and its predecessor is another version and still warm.
    """
    deployment = plan.deployment
    if deployment is None or deployment.default is None:
        return None
    if number == deployment.default:
        has_other = plan.warm is not None and plan.warm.default not in (None, number)
        return RouteChange("rollback") if deployment.on_crash == "rollback" and has_other else None
    parts = deployment.weights()
    if number in parts:
        parts[deployment.default] += parts.pop(number)
        return RouteChange("split", {str(version): part / 100 for version, part in parts.items()})
    return RouteChange("shadow") if deployment.shadow and deployment.shadow.version == number else None


@dataclass(frozen=True, slots=True)
class CrashView:
    """
    What `interlock status` shows. ``deaths`` are numbers of processes that died while they ran a version; ``last`` describes
    the last death of a worker; ``fenced`` are the ends of fences in Unix seconds.
    """

    deaths: Mapping[VersionName, int] = field(default_factory=dict)
    last: Mapping[int, str] = field(default_factory=dict)
    fenced: Mapping[VersionName, float] = field(default_factory=dict)


NO_CRASHES = CrashView()


def fences(records: Iterable[CrashRecord], now: float) -> dict[VersionName, float]:
    """Returns the ends of the fences that stand now."""
    return {record.name: record.fenced_until for record in records if record.fenced_until > now}
