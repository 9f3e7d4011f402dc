"""
The serving table: what one snapshot of the lifecycle means for requests. Built whole, read without locks, replaced by one
assignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from gateway.errors import GatewayError, ModelNotFound, NotReady
from gateway.lifecycle.ports import Snapshot
from gateway.routing.table import PINNED, Route, compile_route
from gateway.worker.served import Served, Target


@dataclass(frozen=True, slots=True)
class ServingTable:
    """Routes by model. ``states`` are the states of held versions, for messages; ``named`` pins where no route is."""

    routes: Mapping[str, Route[Target]] = field(default_factory=dict)
    named: Mapping[str, Mapping[str, Target]] = field(default_factory=dict)
    states: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def in_flight(self) -> int:
        """Leases taken and not released, over all versions."""
        return sum({id(t.served): t.served.in_flight for named in self.named.values() for t in named.values()}.values())

    def missing(self, model: str) -> GatewayError:
        """Why nobody answers requests for a model."""
        states = self.states.get(model)
        if states:
            held = ", ".join(f"v{number} {state}" for number, state in sorted(states.items()))
            return NotReady(f"model {model!r} is not ready: {held}", model=model)
        return ModelNotFound(f"model {model!r}: not found among the models served here", model=model)

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


def compile_table(snapshot: Snapshot) -> ServingTable:
    """The table of a snapshot whose versions are `Served`."""
    routes: dict[str, Route[Target]] = {}
    pinned: dict[str, Mapping[str, Target]] = {}
    for model, versions in snapshot.ready.items():
        served = cast("Mapping[int, Served]", versions)
        pinned[model] = {str(number): version.target(PINNED) for number, version in served.items()}
        desired = snapshot.routes.get(model)
        if desired is not None:
            routes[model] = compile_route(desired, served, lambda number, arm, held=served: held[number].target(arm))  # type: ignore[misc]
    return ServingTable(routes, pinned, snapshot.states)
