"""
The routing table: a snapshot of the versions, compiled for requests. Built whole, read without locks, replaced by one
assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import is_

from gateway.contract.desired import DesiredRoute
from gateway.errors import GatewayError
from gateway.serving.arm import Arm, CountsOf, VersionArms
from gateway.serving.resolve import aliases_of, resolve
from gateway.serving.route import PINNED, Route, compile_route
from gateway.versions.loaded import LoadedVersion
from gateway.versions.snapshot import Snapshot

Source = tuple[Mapping[int, LoadedVersion], DesiredRoute | None, Mapping[str, int]]  # ready versions, route, aliases
_NO_ALIASES: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """
    ``routes`` by model; ``pins`` are the arms of versions by number and alias, by model. ``arms`` are those of every READY
    version. ``sources`` is what each model's part was compiled from.
    """

    snapshot: Snapshot = field(default_factory=Snapshot)
    routes: Mapping[str, Route[Arm]] = field(default_factory=dict)
    pins: Mapping[str, Mapping[str, Arm]] = field(default_factory=dict)
    arms: Mapping[LoadedVersion, VersionArms] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)

    def in_flight(self) -> int:
        """Returns the leases taken and not ended, over all READY versions."""
        return sum(version.in_flight for version in self.arms)

    def pinned(self, model: str, version: str) -> Arm:
        """Returns the arm of the version that a request names, by number or alias. Raises ModelNotFound or NotReady."""
        pins = self.pins.get(model)
        arm = pins.get(version) if pins is not None else None
        if arm is None:
            number = resolve(self.snapshot, model, version)
            arm = self.pins[model][str(number)]
        return arm

    def has(self, model: str, version: str) -> bool:
        """Whether `pinned` finds this version."""
        try:
            self.pinned(model, version)
        except GatewayError:
            return False
        return True


def compile_table(snapshot: Snapshot, before: RoutingTable, counts_of: CountsOf) -> RoutingTable:
    """Compiles a snapshot. The parts of models that did not change since ``before``, and arms with their caches, are kept."""
    routes: dict[str, Route[Arm]] = {}
    pins: dict[str, Mapping[str, Arm]] = {}
    arms: dict[LoadedVersion, VersionArms] = {}
    sources: dict[str, Source] = {}
    for model, versions in snapshot.ready.items():
        route = snapshot.routes.get(model)
        sources[model] = source = versions, route, snapshot.aliases.get(model, _NO_ALIASES)
        for version in versions.values():
            arms[version] = before.arms.get(version) or VersionArms(version, counts_of)
        is_kept = model in before.sources and all(map(is_, before.sources[model], source))
        if is_kept:
            pins[model] = before.pins[model]
        else:
            pins[model] = _pins(snapshot, model, versions, arms)
        if route is not None:
            routes[model] = before.routes[model] if is_kept else _compiled(route, versions, arms)
    return RoutingTable(snapshot, routes, pins, arms, sources)


def _pins(
    snapshot: Snapshot, model: str, versions: Mapping[int, LoadedVersion], arms: Mapping[LoadedVersion, VersionArms]
) -> Mapping[str, Arm]:
    pins = {str(number): arms[version].arm(PINNED) for number, version in versions.items()}
    return pins | {alias: pins[str(number)] for alias, number in aliases_of(snapshot, model).items()}


def _compiled(
    route: DesiredRoute, versions: Mapping[int, LoadedVersion], arms: Mapping[LoadedVersion, VersionArms]
) -> Route[Arm]:
    return compile_route(route, versions, lambda number, name: arms[versions[number]].arm(name))
