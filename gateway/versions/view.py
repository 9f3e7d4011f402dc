"""
Views of one model's version entries: for the request path (`Snapshot`) and for control (`ObservedVersion`). Decides only.

The view of a model that did not change is the same object again, so its compiled form can be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredVersion
from gateway.contract.observed import ObservedVersion
from gateway.contract.version_state import VersionState
from gateway.versions.entry import VersionEntry
from gateway.versions.loaded import LoadedVersion
from gateway.versions.snapshot import Snapshot

V = TypeVar("V")
_ON_THEIR_WAY = frozenset(str(state) for state in (VersionState.NEW, VersionState.LOADING, VersionState.WARMING))


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model's part of a `Snapshot`. ``route`` is the one in force; ``is_deployed``: there should be one."""

    route: DesiredRoute | None = None
    ready: Mapping[int, LoadedVersion] = field(default_factory=dict)
    states: Mapping[int, str] = field(default_factory=dict)
    desired: Mapping[int, DesiredVersion] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    is_deployed: bool = False
    unavailable: str = ""


NOTHING = ModelView()


def model_view(
    desired: DesiredModel | None, route: DesiredRoute | None, entries: Iterable[VersionEntry], before: ModelView
) -> ModelView:
    """
    Returns the view of a model with this route in force and these entries, oldest first; ``before`` itself if equal to it.
    """
    aliases = desired.aliases if desired else NOTHING.aliases
    shown = [_shown(same) for same in _by_number(entries)]
    ready = {one.desired.number: one.loaded for one in shown if one.state is VersionState.READY and one.loaded is not None}
    view = ModelView(
        before.route if route == before.route else route,
        _same_or(before.ready, ready),
        _same_or(before.states, {one.desired.number: str(one.state) for one in shown}),
        _same_or(before.desired, {one.desired.number: one.desired for one in shown}),
        before.aliases if aliases == before.aliases else aliases,
        desired is not None and (desired.route is not None or bool(desired.unavailable)),
        desired.unavailable if desired else "",
    )
    return before if view == before else view


def snapshot_of(views: Mapping[str, ModelView]) -> Snapshot:
    """Returns all models in one snapshot."""
    return Snapshot(
        routes=MappingProxyType({name: view.route for name, view in views.items() if view.route is not None}),
        ready=MappingProxyType({name: view.ready for name, view in views.items() if view.ready}),
        states=MappingProxyType({name: view.states for name, view in views.items() if view.states}),
        desired=MappingProxyType({name: view.desired for name, view in views.items() if view.desired}),
        aliases=MappingProxyType({name: view.aliases for name, view in views.items() if view.aliases}),
        unavailable=MappingProxyType({name: view.unavailable for name, view in views.items() if view.unavailable}),
        undeployed=frozenset(
            name for name, view in views.items() if view.states and not view.is_deployed and not _is_loading(view)
        ),
    )


def _is_undeployed(view: ModelView) -> bool:
    return bool(view.states) and not view.is_deployed and not _is_loading(view)


def _is_loading(view: ModelView) -> bool:
    """Whether a version is being loaded: it may be about to be deployed."""
    return not _ON_THEIR_WAY.isdisjoint(view.states.values())


def observed_versions(entries: Iterable[VersionEntry]) -> list[ObservedVersion]:
    """Returns one model's versions as control sees them, one per number."""
    return [_reported(same).observed() for same in _by_number(entries)]


def _by_number(entries: Iterable[VersionEntry]) -> Iterable[list[VersionEntry]]:
    found: dict[int, list[VersionEntry]] = {}
    for entry in entries:
        found.setdefault(entry.desired.number, []).append(entry)
    return found.values()


def _shown(entries: list[VersionEntry]) -> VersionEntry:
    """Returns the entry that callers see for a number: the newest READY one, else the newest."""
    ready = [entry for entry in entries if entry.state is VersionState.READY]
    return (ready or entries)[-1]


def _reported(entries: list[VersionEntry]) -> VersionEntry:
    """Returns the entry that control sees for a number: as `_shown`, but a failed replacement, because control waits for it."""
    newest = entries[-1]
    return newest if newest.state is VersionState.FAILED else _shown(entries)


def _same_or(before: Mapping[int, V], now: dict[int, V]) -> Mapping[int, V]:
    return before if before == now else MappingProxyType(now)
