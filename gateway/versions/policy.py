"""
Policy: decides what to do with the versions of a model, from the desired and the observed state. Pure, and keeps nothing.

Availability comes first. A version gives leases while the route in force names it, and until its replacement is READY.
A route changes only when every version that it needs is READY. A desired version is never unloaded, any other is never
loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredVersion
from gateway.contract.version_state import VersionState

S = VersionState


class ActionKind(StrEnum):
    """What the manager can do with a version entry."""

    LOAD = "load"  # makes a new entry for a version that has none
    RETIRE = "retire"  # READY → DRAINING
    REINSTATE = "reinstate"  # DRAINING → READY
    UNLOAD = "unload"  # DRAINING → UNLOADING, once no lease is left
    ABANDON = "abandon"  # LOADING, WARMING → UNLOADING
    FORGET = "forget"  # drops the entry: unloaded, or FAILED and no longer desired


@dataclass(frozen=True, slots=True)
class EntryView:
    """
    A version entry, as far as decisions need it. A number has several entries while one load replaces another.

    ``is_idle``: no lease is held. ``is_spent``: unloading has begun, however it ended; the entry never serves again.
    """

    key: int
    desired: DesiredVersion
    state: VersionState
    is_idle: bool = True
    is_spent: bool = False


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: ``key`` names the entry; for LOAD ``version`` is the version to load."""

    kind: ActionKind
    key: int = -1
    version: DesiredVersion | None = None


def decide(
    desired: Mapping[int, DesiredVersion], entries: Collection[EntryView], routed: Collection[int]
) -> tuple[Action, ...]:
    """
    Returns the actions for one model, from its ``desired`` versions by number, its entries, and the numbers that the
    route in force names. After they are done there is no further action until an entry changes by itself.
    """
    serving = {entry.desired.number for entry in entries if entry.state is S.READY and is_as_desired(entry, desired)}
    kept = {*desired, *routed} - serving  # their outdated entries still have to serve
    kinds = [
        (entry, _fate(entry, is_as_desired(entry, desired), entry.desired.number in kept and not _is_suspect(entry, desired)))
        for entry in entries
    ]
    return (*(Action(kind, entry.key) for entry, kind in kinds if kind), *_loads(desired, entries))


def _is_suspect(entry: EntryView, desired: Mapping[int, DesiredVersion]) -> bool:
    """Whether the entry shares the worker's process and has to leave it, even before its replacement is READY."""
    version = desired.get(entry.desired.number)
    return version is not None and version.is_suspect and entry.desired.isolation == "none"


def _fate(entry: EntryView, is_desired: bool, is_kept: bool) -> ActionKind | None:
    if entry.is_spent:
        return ActionKind.FORGET if entry.state is not S.UNLOADING else None
    if is_desired:
        return ActionKind.REINSTATE if entry.state is S.DRAINING else None
    match entry.state:
        case S.LOADING | S.WARMING:
            return ActionKind.ABANDON
        case S.READY:
            return None if is_kept else ActionKind.RETIRE
        case S.DRAINING:
            return ActionKind.UNLOAD if entry.is_idle else None
        case S.FAILED:
            return ActionKind.FORGET
    return None


def _loads(desired: Mapping[int, DesiredVersion], entries: Collection[EntryView]) -> Iterator[Action]:
    present = {entry.desired.number for entry in entries if is_as_desired(entry, desired) and not entry.is_spent}
    for number, version in desired.items():
        if number not in present:
            yield Action(ActionKind.LOAD, version=version)


def is_as_desired(entry: EntryView, desired: Mapping[int, DesiredVersion]) -> bool:
    """Whether the entry is a desired version: the same number with the same digest and settings, and no load to repeat."""
    wanted = desired.get(entry.desired.number)
    return wanted is not None and wanted.is_met_by(entry.desired, entry.state)


def named(route: DesiredRoute) -> frozenset[int]:
    """Returns every version that a route can send requests to, the shadow included."""
    shadow = (route.shadow.version,) if route.shadow else ()
    return frozenset((*needed(route), *shadow))


def needed(route: DesiredRoute) -> frozenset[int]:
    """Returns every version that may answer callers: the route is in force only with all of them READY."""
    return frozenset((route.default, *(segment.version for segment in route.segments)))


def next_route(model: DesiredModel, states: Mapping[int, VersionState], current: DesiredRoute | None) -> DesiredRoute | None:
    """
    Returns the route to have in force: the desired one when every version it needs is READY, else the ``current`` one.

    ``states`` are those of the entries that are as desired, by number. A shadow that is being loaded is waited for. One
    that failed or is not there is left out of the route, so it cannot hold up the versions that answer callers. So is a
    version that is being isolated because it has ended a worker; if that is the default, there is no route.
    """
    route = model.route
    if route is None:
        return None
    suspects = {one.number for one in model.versions if one.is_suspect and states.get(one.number) is not S.READY}
    if suspects and current is not None:
        current = _without(current, suspects)
    if any(states.get(number) is not S.READY for number in needed(route)):
        return current
    if route.shadow is None:
        return route
    shadow_state = states.get(route.shadow.version)
    if shadow_state in (None, S.FAILED):
        return replace(route, shadow=None)
    return route if shadow_state is S.READY else current


def _without(route: DesiredRoute, numbers: Collection[int]) -> DesiredRoute | None:
    if route.default in numbers:
        return None
    segments = tuple(segment for segment in route.segments if segment.version not in numbers)
    shadow = None if route.shadow is None or route.shadow.version in numbers else route.shadow
    return replace(route, segments=segments, shadow=shadow)
