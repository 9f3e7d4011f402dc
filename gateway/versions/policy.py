"""
What to do next, decided from what is desired and what is there. Pure: values in, actions out, and nothing is remembered.

Availability first: a version stays leasable while the route in force names it, and until its replacement is ready;
a route changes only when everything it needs is READY. What is desired is never unloaded, what is not is never loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredVersion
from gateway.contract.version_state import VersionState

S = VersionState


class ActionKind(StrEnum):
    """What can be done to a copy of a version."""

    LOAD = "load"  # a new copy, for a version that has none
    RETIRE = "retire"  # READY → DRAINING
    REINSTATE = "reinstate"  # DRAINING → READY
    UNLOAD = "unload"  # DRAINING → UNLOADING, leases have run out
    ABANDON = "abandon"  # LOADING, WARMING → UNLOADING
    FORGET = "forget"  # gone, or FAILED and not desired any more


@dataclass(frozen=True, slots=True)
class Copy:
    """
    One load of a version, as far as decisions need it. Several copies of a number exist while one replaces another.
    ``is_idle``: no lease is held. ``is_spent``: unloading has begun, however it ended; it will never serve again.
    """

    key: int
    desired: DesiredVersion
    state: VersionState
    is_idle: bool = True
    is_spent: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: ``key`` names the copy, or ``version`` what to load."""

    kind: ActionKind
    key: int = -1
    version: DesiredVersion | None = None


def decide(wanted: Mapping[int, DesiredVersion], copies: Collection[Copy], routed: Collection[int]) -> tuple[Action, ...]:
    """
    The actions for one model: ``wanted`` by number, the copies that exist, and the numbers that the route in force names.
    Deciding again after they are done finds nothing more to do until a copy changes by itself.
    """
    serving = {copy.desired.number for copy in copies if copy.state is S.READY and is_wanted(copy, wanted)}
    kept = {*wanted, *routed} - serving  # numbers whose outdated copies still have to serve
    kinds = [(copy, _fate(copy, is_wanted(copy, wanted), copy.desired.number in kept)) for copy in copies]
    return (*(Action(kind, copy.key) for copy, kind in kinds if kind), *_loads(wanted, copies))


def _fate(copy: Copy, is_desired: bool, is_kept: bool) -> ActionKind | None:
    if copy.is_spent:
        return ActionKind.FORGET if copy.state is not S.UNLOADING else None
    if is_desired:
        return ActionKind.REINSTATE if copy.state is S.DRAINING else None
    match copy.state:
        case S.LOADING | S.WARMING:
            return ActionKind.ABANDON
        case S.READY:
            return None if is_kept else ActionKind.RETIRE
        case S.DRAINING:
            return ActionKind.UNLOAD if copy.is_idle else None
        case S.FAILED:
            return ActionKind.FORGET
    return None


def _loads(wanted: Mapping[int, DesiredVersion], copies: Collection[Copy]) -> Iterator[Action]:
    present = {copy.desired.number for copy in copies if is_wanted(copy, wanted) and not copy.is_spent}
    for number, version in wanted.items():
        if number not in present:
            yield Action(ActionKind.LOAD, version=version)


def is_wanted(copy: Copy, wanted: Mapping[int, DesiredVersion]) -> bool:
    """Whether this copy is what is desired now: the same number with the same digest and settings."""
    return wanted.get(copy.desired.number) == copy.desired


def named(route: DesiredRoute) -> frozenset[int]:
    """Every version that a route can send requests to, the shadow included."""
    shadow = (route.shadow.version,) if route.shadow else ()
    return frozenset((*needed(route), *shadow))


def needed(route: DesiredRoute) -> frozenset[int]:
    """Every version that may answer callers: without all of them the route cannot be in force."""
    return frozenset((route.default, *(segment.version for segment in route.segments)))


def next_route(model: DesiredModel, states: Mapping[int, VersionState], current: DesiredRoute | None) -> DesiredRoute | None:
    """
    The route to have in force: the desired one when all it needs is READY, else the ``current`` one.

    ``states`` are those of the desired copies by number. A shadow that is still coming is waited for; one that failed or
    is not held is left out, so it cannot hold up those who answer callers.
    """
    route = model.route
    if route is None:
        return None
    if any(states.get(number) is not S.READY for number in needed(route)):
        return current
    if route.shadow is None:
        return route
    shadow_state = states.get(route.shadow.version)
    if shadow_state in (None, S.FAILED):
        return replace(route, shadow=None)
    return route if shadow_state is S.READY else current
