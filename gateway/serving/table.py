"""
The serving table: what one snapshot of the lifecycle means for requests. Built whole, read without locks, replaced by one
assignment.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from operator import is_
from typing import cast

from gateway.contract.desired import DesiredRoute
from gateway.errors import GatewayError, ModelNotFound, NotReady
from gateway.serving.route import PINNED, Route, compile_route
from gateway.serving.served import Served, Target
from gateway.versions.ports import Held, Snapshot

Source = tuple[Mapping[int, Held], DesiredRoute | None, Mapping[str, int]]  # ready versions, route, aliases
_NO_ALIASES: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class ServingTable:
    """
    Routes by model. ``states`` are the states of held versions, for messages; ``named`` pins where no route is.
    ``undeployed`` as in `Snapshot`; ``made_of`` is what each model's part was compiled of.
    """

    routes: Mapping[str, Route[Target]] = field(default_factory=dict)
    named: Mapping[str, Mapping[str, Target]] = field(default_factory=dict)
    states: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    undeployed: Set[str] = frozenset()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    made_of: Mapping[str, Source] = field(default_factory=dict)

    def in_flight(self) -> int:
        """Leases taken and not released, over all versions."""
        return sum({id(t.served): t.served.in_flight for named in self.named.values() for t in named.values()}.values())

    def missing(self, model: str) -> GatewayError:
        """Why nobody answers requests for a model."""
        states = self.states.get(model)
        if model in self.unavailable:
            return NotReady(f"model {model!r} is not ready: {self.unavailable[model]}, try again", model=model)
        if model in self.undeployed:
            return ModelNotFound(f"model {model!r} is not deployed: name one of its versions", model=model)
        if states:
            held = ", ".join(f"v{number} {state}" for number, state in sorted(states.items()))
            return NotReady(f"model {model!r} is not ready: {held}", model=model)
        return ModelNotFound(f"model {model!r}: not found among the models served here", model=model)

    def has(self, model: str, version: str) -> bool:
        """Whether `pinned` finds this version."""
        route = self.routes.get(model)
        return version in (route.named if route else self.named.get(model, {}))

    def pinned(self, model: str, version: str) -> Target:
        """The version that a request names, by number or alias. Raises ModelNotFound or NotReady."""
        route = self.routes.get(model)
        named = route.named if route else self.named.get(model, {})
        target = named.get(version)
        if target is not None:
            return target
        states = self.states.get(model)
        if states is None:
            raise self.missing(model)
        if version.isdigit() and int(version) in states:
            raise NotReady(f"model {model!r} version {version} is {states[int(version)]}", model=model, version=version)
        known = ", ".join(sorted(named)) or "none"
        raise ModelNotFound(
            f"model {model!r} has no version or alias {version!r} loaded here, there is {known}", model=model, version=version
        )


NO_TABLE = ServingTable()


def compile_table(snapshot: Snapshot, before: ServingTable = NO_TABLE) -> ServingTable:
    """The table of a snapshot whose versions are `Served`. Parts of models that are as they were ``before`` are kept."""
    routes: dict[str, Route[Target]] = {}
    named: dict[str, Mapping[str, Target]] = {}
    made_of: dict[str, Source] = {}
    for model, versions in snapshot.ready.items():
        source = versions, snapshot.routes.get(model), snapshot.aliases.get(model, _NO_ALIASES)
        made_of[model] = source
        is_kept = model in before.made_of and all(map(is_, before.made_of[model], source))
        named[model] = before.named[model] if is_kept else _named(versions, source[2])
        if source[1] is not None:
            routes[model] = before.routes[model] if is_kept else _route(source[1], versions)
    return ServingTable(routes, named, snapshot.states, snapshot.undeployed, snapshot.unavailable, made_of)


def _named(versions: Mapping[int, Held], aliases: Mapping[str, int]) -> Mapping[str, Target]:
    served = cast("Mapping[int, Served]", versions)
    named = {str(number): version.target(PINNED) for number, version in served.items()}
    return named | {alias: served[number].target(PINNED) for alias, number in aliases.items() if number in served}


def _route(desired: DesiredRoute, versions: Mapping[int, Held]) -> Route[Target]:
    served = cast("Mapping[int, Served]", versions)
    return compile_route(desired, served, lambda number, arm: served[number].target(arm))
