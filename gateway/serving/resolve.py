"""Which held version a caller means by a model's name and ``model_version``: "", a number or an alias. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.errors import ModelNotFound, NotReady
from gateway.versions.ports import Snapshot


def resolve(snapshot: Snapshot, model: str, version: str) -> int:
    """
    The number of a READY version. Raises ModelNotFound for what is not held here, NotReady for what is held but not
    READY, or not routed when ``version`` is "".
    """
    states = snapshot.states.get(model)
    if not states:
        raise ModelNotFound(f"model {model!r} is not served here", model=model)
    number = _number(snapshot, model, version)
    if number not in states:
        raise ModelNotFound(
            f"model {model!r}: version {version or number} is not served here, those held are {_listed(states)}",
            model=model,
            version=version,
        )
    if number not in snapshot.ready.get(model, {}):
        raise NotReady(f"model {model!r}: version {number} is {states[number]}", model=model, version=number)
    return number


def _number(snapshot: Snapshot, model: str, version: str) -> int:
    route = snapshot.routes.get(model)
    if version.isascii() and version.isdigit():
        return int(version)
    if route is None and version in snapshot.aliases.get(model, {}):
        return snapshot.aliases[model][version]
    if route is None and model in snapshot.undeployed:
        raise ModelNotFound(f"model {model!r} is not deployed: name one of its versions by number", model=model)
    if route is None:
        held = ", ".join(f"version {number} is {state}" for number, state in sorted(snapshot.states[model].items()))
        raise NotReady(f"model {model!r} is not deployed, or not ready yet: {held}", model=model)
    if not version:
        return route.default
    if version not in route.aliases:
        known = ", ".join(sorted(route.aliases)) or "none"
        raise ModelNotFound(f"model {model!r} has no alias {version!r}, its aliases: {known}", model=model, version=version)
    return route.aliases[version]


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))
