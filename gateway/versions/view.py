"""
What is shown of one model: to the request path (`Snapshot`) and to control (`ObservedVersion`).

Views of models that did not change are the same objects again, so whoever compiles them can keep what it made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredVersion
from gateway.contract.observed import ObservedVersion
from gateway.contract.version_state import VersionState
from gateway.versions.entry import ManagedVersion
from gateway.versions.ports import Held, Snapshot

V = TypeVar("V")
_ON_THEIR_WAY = frozenset(str(state) for state in (VersionState.NEW, VersionState.LOADING, VersionState.WARMING))


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model's part of a `Snapshot`. ``route`` is the one in force; ``is_deployed``: there should be one."""

    route: DesiredRoute | None = None
    ready: Mapping[int, Held] = field(default_factory=dict)
    states: Mapping[int, str] = field(default_factory=dict)
    desired: Mapping[int, DesiredVersion] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    is_deployed: bool = False
    unavailable: str = ""


NOTHING = ModelView()


def model_view(
    wanted: DesiredModel | None, route: DesiredRoute | None, copies: Iterable[ManagedVersion], before: ModelView
) -> ModelView:
    """The view of a model with this route in force and these copies, oldest first; ``before`` itself when nothing differs."""
    aliases = wanted.aliases if wanted else NOTHING.aliases
    shown = [_shown(same) for same in _by_number(copies)]
    ready = {one.desired.number: one.held for one in shown if one.state is VersionState.READY and one.held is not None}
    view = ModelView(
        before.route if route == before.route else route,
        _same_or(before.ready, ready),
        _same_or(before.states, {one.desired.number: str(one.state) for one in shown}),
        _same_or(before.desired, {one.desired.number: one.desired for one in shown}),
        before.aliases if aliases == before.aliases else aliases,
        wanted is not None and (wanted.route is not None or bool(wanted.unavailable)),
        wanted.unavailable if wanted else "",
    )
    return before if view == before else view


def snapshot_of(views: Mapping[str, ModelView]) -> Snapshot:
    """All models together."""
    return Snapshot(
        routes=MappingProxyType({name: view.route for name, view in views.items() if view.route is not None}),
        ready=MappingProxyType({name: view.ready for name, view in views.items() if view.ready}),
        states=MappingProxyType({name: view.states for name, view in views.items() if view.states}),
        desired=MappingProxyType({name: view.desired for name, view in views.items() if view.desired}),
        aliases=MappingProxyType({name: view.aliases for name, view in views.items() if view.aliases}),
        unavailable=MappingProxyType({name: view.unavailable for name, view in views.items() if view.unavailable}),
        undeployed=frozenset(name for name, view in views.items() if view.states and not view.is_deployed and not _comes(view)),
    )


def _comes(view: ModelView) -> bool:
    """Whether a version is on its way: it may be there to be deployed next."""
    return not _ON_THEIR_WAY.isdisjoint(view.states.values())


def observed_versions(copies: Iterable[ManagedVersion]) -> list[ObservedVersion]:
    """One model's versions as control is told, one entry per number."""
    return [_told(same).observed() for same in _by_number(copies)]


def _by_number(copies: Iterable[ManagedVersion]) -> Iterable[list[ManagedVersion]]:
    found: dict[int, list[ManagedVersion]] = {}
    for copy in copies:
        found.setdefault(copy.desired.number, []).append(copy)
    return found.values()


def _shown(copies: list[ManagedVersion]) -> ManagedVersion:
    """The copy that stands for a number: the newest READY one, else the newest."""
    ready = [copy for copy in copies if copy.state is VersionState.READY]
    return (ready or copies)[-1]


def _told(copies: list[ManagedVersion]) -> ManagedVersion:
    """As `_shown`, but a failed replacement is told, because control waits for it."""
    newest = copies[-1]
    return newest if newest.state is VersionState.FAILED else _shown(copies)


def _same_or(before: Mapping[int, V], now: dict[int, V]) -> Mapping[int, V]:
    return before if before == now else MappingProxyType(now)
