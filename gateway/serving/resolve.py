"""
Resolves what a caller names (a model, and "", a version number or an alias) to a READY version. Decides only.

The only place that does: the request path asks it for what `table.RoutingTable` has not compiled, the other services of the
data port ask it directly.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import GatewayError, ModelNotFound, NotReady
from gateway.versions.snapshot import Snapshot
from registry.names import version_number


def resolve(snapshot: Snapshot, model: str, version: str) -> int:
    """
    Returns the number of the version that answers: the route's default for "". Raises ModelNotFound for a name that is
    not served here, NotReady for one that is not READY.
    """
    if not version:
        route = snapshot.routes.get(model)
        if route is None:
            raise unrouted(snapshot, model)
        return route.default
    states = snapshot.states.get(model)
    if not states:
        raise unrouted(snapshot, model)
    number = number_of(snapshot, model, version)
    ready = snapshot.ready.get(model, {})
    if number in ready:
        return number
    if number in states:
        raise NotReady(f"model {model!r}: version {number} is {states[number]}", model=model, version=number)
    known = ", ".join([*map(str, sorted(ready)), *sorted(aliases_of(snapshot, model))]) or "none"
    raise ModelNotFound(
        f"model {model!r} has no version or alias {version!r} loaded here, there is {known}", model=model, version=version
    )


def number_of(snapshot: Snapshot, model: str, version: str) -> int:
    """Returns the number that an alias or a number names, whether or not it is loaded; 0 for what can name no version."""
    return _aliases(snapshot, model).get(version) or version_number(version) or 0


def aliases_of(snapshot: Snapshot, model: str) -> dict[str, int]:
    """Returns the aliases of a model whose versions are READY."""
    ready = snapshot.ready.get(model, {})
    return {alias: number for alias, number in _aliases(snapshot, model).items() if number in ready}


def _aliases(snapshot: Snapshot, model: str) -> Mapping[str, int]:
    route = snapshot.routes.get(model)
    return route.aliases if route is not None else snapshot.aliases.get(model, {})


def unrouted(snapshot: Snapshot, model: str) -> GatewayError:
    """Returns the reason why nothing answers requests that name only the model."""
    if model in snapshot.unavailable:
        return NotReady(f"model {model!r} is not ready: {snapshot.unavailable[model]}, try again", model=model)
    if model in snapshot.undeployed:
        return ModelNotFound(f"model {model!r} is not deployed: name one of its versions", model=model)
    if states := snapshot.states.get(model):
        listed = ", ".join(f"v{number} {state}" for number, state in sorted(states.items()))
        return NotReady(f"model {model!r} is not ready: {listed}", model=model)
    return ModelNotFound(f"model {model!r}: not found among the models served here", model=model)
