"""
The one mechanism that makes what is held follow what is desired: takes in outcomes, asks the policy, does what it says.

Nothing here blocks: loading, warming up and freeing run on the executor, which is never the inference thread. All state
is behind one lock that no request takes; the request path reads the published `Snapshot` only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol

import structlog

from gateway.clock import Clock
from gateway.fleet import DesiredModel, DesiredRoute, DesiredState, DesiredVersion, Observed, ObservedVersion
from gateway.lifecycle import managed, policy
from gateway.lifecycle.managed import ManagedVersion, Outcome
from gateway.lifecycle.policy import Action, ActionKind
from gateway.lifecycle.ports import Held, Loader, Publish, Snapshot
from gateway.lifecycle.states import VersionEvent, VersionState

Announce = Callable[[Observed], None]
SETTLED = frozenset({VersionState.READY, VersionState.FAILED})
_log = structlog.get_logger("interlock.lifecycle")


class Executor(Protocol):
    """Where jobs run: as much of `concurrent.futures.Executor` as is needed."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Runs ``fn(*args)`` some time, on another thread."""
        ...


class VersionManager:
    """
    Holds the versions of one worker. `apply` says what is desired (the last one wins), `tick` carries on with it;
    ``wake`` is called from the executor's threads when a tick has something to do.

    Order: a version is published before it is announced READY, and announced DRAINING before it is unpublished.
    """

    def __init__(
        self,
        loader: Loader,
        publish: Publish,
        announce: Announce,
        executor: Executor,
        clock: Clock,
        *,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._loader, self._publish_to, self._announce_to = loader, publish, announce
        self._executor, self._clock, self._wake = executor, clock, wake
        self._lock = threading.RLock()
        self._outcomes: deque[Outcome] = deque()
        self._desired = DesiredState(revision=0)
        self._versions: dict[int, ManagedVersion] = {}  # by key, oldest first
        self._next_key = 0
        self._routes: dict[str, DesiredRoute] = {}
        self._snapshot = Snapshot()
        self._announced: Observed | None = None
        self._loads: dict[str, int] = {}

    # ---- what others call ------------------------------------------------------------------------------------------

    def apply(self, desired: DesiredState) -> None:
        """Takes the whole desired state in place of the one before, and starts what follows from it."""
        with self._lock:
            self._desired = desired
            self.tick()

    def tick(self) -> bool:
        """Takes in what jobs have come to and does what is due. True when versions drain: tick again soon then."""
        with self._lock:
            while True:
                self._take_outcomes()
                self._publish()
                self._announce()
                if not self._act():
                    break
            return any(version.state is VersionState.DRAINING for version in self._versions.values())

    def observed(self) -> Observed:
        """What is there now, one entry per version; ``is_serving`` is not known here and False."""
        with self._lock:
            versions = tuple(_observed(copies) for copies in self._by_number().values())
            routes = {name: route.revision for name, route in self._routes.items()}
            return Observed(self._desired.revision, versions, routes, is_serving=False)

    def is_settled(self) -> bool:
        """Whether every version that a desired route names, and that is held, is READY or FAILED."""
        with self._lock:
            return all(
                state in SETTLED
                for model in self._desired.models
                if model.route
                for number, state in self._states(model).items()
                if number in policy.named(model.route)
            )

    def loads(self) -> dict[str, int]:
        """Loads that have ended since the start: ``model|version|ok`` and ``model|version|failed``."""
        with self._lock:
            return dict(self._loads)

    # ---- taking in --------------------------------------------------------------------------------------------------

    def _post(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._wake()

    def _take_outcomes(self) -> None:
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if outcome.version.is_spent:
                self._end(outcome)
            else:
                self._go_on(outcome)

    def _go_on(self, outcome: Outcome) -> None:
        """A step of a load that is still wanted."""
        version = outcome.version
        version.held = outcome.held
        if outcome.event is VersionEvent.FAILED:
            self._count(version, "failed")
            version.held = None
            if outcome.held is not None:  # was never published, so nobody holds a lease
                self._executor.submit(_close_quietly, outcome.held)
        version.take(outcome.event, outcome.reason)
        if outcome.event is VersionEvent.WARMED and outcome.held is not None:
            version.memory_bytes, version.load_ms = outcome.held.memory_bytes, outcome.load_ms
            self._count(version, "ok")

    def _end(self, outcome: Outcome) -> None:
        """A step of a copy that is being unloaded; an abandoned load is freed when its job has ended."""
        version = outcome.version
        version.held = outcome.held or version.held
        if not outcome.is_last:
            return
        if outcome.event is VersionEvent.UNLOADED or version.held is None:
            version.take(VersionEvent.UNLOADED)
        elif outcome.event is VersionEvent.FAILED and outcome.held is None:
            version.take(VersionEvent.FAILED, outcome.reason)
        else:
            self._executor.submit(managed.close, version, version.held, self._post)

    def _count(self, version: ManagedVersion, result: str) -> None:
        key = f"{version.model}|{version.desired.number}|{result}"
        self._loads[key] = self._loads.get(key, 0) + 1

    # ---- doing ------------------------------------------------------------------------------------------------------

    def _act(self) -> bool:
        """Does what the policy says for every model; whether there was anything."""
        wanted = {model.name: model for model in self._desired.models}
        names = dict.fromkeys([*wanted, *(version.model for version in self._versions.values())])
        actions = [(name, action) for name in names for action in self._decide(name, wanted.get(name))]
        for name, action in actions:
            self._do(name, action)
        return bool(actions)

    def _decide(self, name: str, model: DesiredModel | None) -> tuple[Action, ...]:
        wanted = {version.number: version for version in model.versions} if model else {}
        copies = [version.as_copy() for version in self._versions.values() if version.model == name]
        route = self._routes.get(name)
        return policy.decide(wanted, copies, policy.named(route) if route else ())

    def _do(self, model: str, action: Action) -> None:
        if action.kind is ActionKind.LOAD and action.version is not None:
            self._load(model, action.version)
            return
        version = self._versions[action.key]
        match action.kind:
            case ActionKind.RETIRE:
                self._retire(version)
            case ActionKind.REINSTATE:
                self._reinstate(version)
            case ActionKind.ABANDON:
                version.take(VersionEvent.ABANDONED)
            case ActionKind.UNLOAD:
                version.take(VersionEvent.DRAINED)
                self._executor.submit(managed.close, version, version.held, self._post)
            case ActionKind.FORGET:
                del self._versions[action.key]

    def _load(self, model: str, desired: DesiredVersion) -> None:
        version = ManagedVersion(self._next_key, model, desired)
        self._next_key += 1
        self._versions[version.key] = version
        version.take(VersionEvent.LOAD_STARTED)
        self._executor.submit(managed.load, version, self._loader, self._clock, self._post)

    def _retire(self, version: ManagedVersion) -> None:
        version.take(VersionEvent.DRAIN_STARTED)
        try:
            self._announce()
            self._publish()
        finally:  # a reader that still has the snapshot before is refused from here on, so it can be freed safely
            if version.held is not None:
                version.held.retire()

    def _reinstate(self, version: ManagedVersion) -> None:
        if version.held is not None:
            version.held.reinstate()
        version.take(VersionEvent.REINSTATED)
        self._publish()
        self._announce()

    # ---- showing ----------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        self._routes = self._routes_in_force()
        snapshot = self._made_snapshot()
        if snapshot != self._snapshot:
            self._publish_to(snapshot)
            self._snapshot = snapshot

    def _routes_in_force(self) -> dict[str, DesiredRoute]:
        routes = {}
        for model in self._desired.models:
            route = policy.next_route(model, self._states(model), self._routes.get(model.name))
            if route is not None:
                routes[model.name] = route
                if model.route and route.shadow is None and model.route.shadow and route != self._routes.get(model.name):
                    _log.warning("shadow_left_out", model=model.name, version=model.route.shadow.version)
        return routes

    def _states(self, model: DesiredModel) -> dict[int, VersionState]:
        """The states of the copies that are exactly what is desired, by number; LOADING stands for none."""
        wanted = {version.number: version for version in model.versions}
        states = dict.fromkeys(wanted, VersionState.LOADING)
        for version in self._versions.values():
            if version.model == model.name and not version.is_spent and wanted.get(version.desired.number) == version.desired:
                states[version.desired.number] = version.state
        return states

    def _made_snapshot(self) -> Snapshot:
        ready: dict[str, dict[int, Held]] = {}
        states: dict[str, dict[int, str]] = {}
        desired: dict[str, dict[int, DesiredVersion]] = {}
        for (model, number), copies in self._by_number().items():
            shown = _shown(copies)
            states.setdefault(model, {})[number] = str(shown.state)
            desired.setdefault(model, {})[number] = shown.desired
            if shown.state is VersionState.READY and shown.held is not None:
                ready.setdefault(model, {})[number] = shown.held
        return Snapshot(_frozen(self._routes), _frozen(ready), _frozen(states), _frozen(desired))

    def _by_number(self) -> dict[tuple[str, int], list[ManagedVersion]]:
        copies: dict[tuple[str, int], list[ManagedVersion]] = {}
        for version in self._versions.values():
            copies.setdefault((version.model, version.desired.number), []).append(version)
        return copies

    def _announce(self) -> None:
        observed = self.observed()
        quiet = replace(observed, versions=tuple(replace(version, in_flight=0) for version in observed.versions))
        if quiet != self._announced:
            self._announce_to(observed)
            self._announced = quiet


def _shown(copies: list[ManagedVersion]) -> ManagedVersion:
    """The copy that stands for a number: the newest READY one, else the newest."""
    ready = [copy for copy in copies if copy.state is VersionState.READY]
    return (ready or copies)[-1]


def _observed(copies: list[ManagedVersion]) -> ObservedVersion:
    """As `_shown`, but a failed replacement is told, because control waits for it."""
    newest = copies[-1]
    return (newest if newest.state is VersionState.FAILED else _shown(copies)).observed()


def _frozen(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(
        {key: MappingProxyType(value) if isinstance(value, dict) else value for key, value in values.items()}
    )


def _close_quietly(held: Held) -> None:
    """Job: frees what failed to warm up; its state is FAILED with the reason that counts."""
    try:
        held.close()
    except Exception as error:  # a job is its own supervisor
        _log.error("unexpected_load_error", doing="freeing", exc_info=error)
