"""
The one mechanism that makes what is held follow what is desired: takes in outcomes, asks the policy, does what it says.

Nothing here blocks: loading, warming up and freeing run on the executor, which is never the inference thread. All state
is behind one lock that no request takes; the request path reads the published `Snapshot` only.

What a change costs does not grow with the models that it does not concern: only those in ``_stirred`` are looked at, and
those that drain.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import structlog

from gateway.clock import Clock
from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredState, DesiredVersion
from gateway.contract.observed import Observed
from gateway.contract.version_state import VersionState
from gateway.versions import entry as managed
from gateway.versions import policy
from gateway.versions.entry import ManagedVersion, Outcome
from gateway.versions.policy import Action, ActionKind
from gateway.versions.ports import Held, Loader, Publish
from gateway.versions.states import VersionEvent
from gateway.versions.view import NOTHING, ModelView, model_view, observed_versions, snapshot_of

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
        self._revision = 0
        self._wanted: dict[str, DesiredModel] = {}
        self._copies: dict[str, dict[int, ManagedVersion]] = {}  # by model, then by key, oldest first
        self._next_key = 0
        self._views: dict[str, ModelView] = {}
        self._stirred: set[str] = set()  # models to look at: something about them has changed
        self._draining: set[str] = set()  # models to look at always: leases run out without a word
        self._announced: Observed | None = None
        self._is_announced = False
        self._is_published = True
        self._loads: dict[str, int] = {}

    # ---- what others call ------------------------------------------------------------------------------------------

    def apply(self, desired: DesiredState) -> None:
        """Takes the whole desired state in place of the one before, and starts what follows from it."""
        with self._lock:
            before, self._wanted = self._wanted, {}
            for model in desired.models:
                old = before.pop(model.name, None)
                if old == model:
                    model = old  # as it was: its versions are compared by identity first, which is quick
                else:
                    self._stirred.add(model.name)
                self._wanted[model.name] = model
            self._stirred.update(before)
            self._revision, self._is_announced = desired.revision, False
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
            return bool(self._draining)

    def observed(self) -> Observed:
        """What is there now, one entry per version; ``is_serving`` is not known here and False."""
        with self._lock:
            versions = tuple(one for copies in self._copies.values() for one in observed_versions(copies.values()))
            routes = {name: view.route.revision for name, view in self._views.items() if view.route is not None}
            return Observed(self._revision, versions, routes, is_serving=False)

    def is_settled(self) -> bool:
        """Whether every version that a desired route names, and that is held, is READY or FAILED."""
        with self._lock:
            return all(
                state in SETTLED
                for model in self._wanted.values()
                if model.route
                for number, state in self._states(model).items()
                if number in policy.named(model.route)
            )

    def lacking(self) -> tuple[str, ...]:
        """What callers of a desired route would miss here: the versions that may answer them and are not READY, and why."""
        with self._lock:
            reasons = {(version.model, version.number): version.reason for version in self.observed().versions}
            return tuple(
                f"{model.name} v{number} is {state.name} {reasons.get((model.name, number), '')}".rstrip()
                for model in self._wanted.values()
                if model.route
                for number, state in self._states(model).items()
                if number in policy.needed(model.route) and state is not VersionState.READY
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
        self._move(version, outcome.event, outcome.reason)
        if outcome.event is VersionEvent.WARMED and outcome.held is not None:
            version.private_bytes, version.mapped_bytes = outcome.held.private_bytes, outcome.held.mapped_bytes
            version.load_ms = outcome.load_ms
            self._count(version, "ok")

    def _end(self, outcome: Outcome) -> None:
        """A step of a copy that is being unloaded; an abandoned load is freed when its job has ended."""
        version = outcome.version
        version.held = outcome.held or version.held
        if not outcome.is_last:
            return
        if outcome.event is VersionEvent.UNLOADED or version.held is None:
            self._move(version, VersionEvent.UNLOADED)
        elif outcome.event is VersionEvent.FAILED and outcome.held is None:
            self._move(version, VersionEvent.FAILED, outcome.reason)
        else:
            self._executor.submit(managed.close, version, version.held, self._post)

    def _count(self, version: ManagedVersion, result: str) -> None:
        key = f"{version.model}|{version.desired.number}|{result}"
        self._loads[key] = self._loads.get(key, 0) + 1

    # ---- doing ------------------------------------------------------------------------------------------------------

    def _act(self) -> bool:
        """Does what the policy says for every model that may need it; whether there was anything."""
        names, self._stirred = self._stirred | self._draining, set()
        try:
            actions = [(name, action) for name in sorted(names) for action in self._decide(name)]
            for name, action in actions:
                self._do(name, action)
        except BaseException:
            self._stirred |= names  # the next tick carries on where this one broke off
            raise
        return bool(actions)

    def _decide(self, name: str) -> tuple[Action, ...]:
        model, route = self._wanted.get(name), self._route(name)
        wanted = {version.number: version for version in model.versions} if model else {}
        copies = [version.as_copy() for version in self._of(name)]
        return policy.decide(wanted, copies, policy.named(route) if route else ())

    def _of(self, model: str) -> Iterator[ManagedVersion]:
        yield from self._copies.get(model, {}).values()

    def _route(self, model: str) -> DesiredRoute | None:
        return self._views.get(model, NOTHING).route

    def _move(self, version: ManagedVersion, event: VersionEvent, reason: str = "") -> None:
        """Every change of a state goes through here, so that no model is forgotten that must be looked at."""
        version.take(event, reason)
        self._stir(version.model)

    def _stir(self, model: str) -> None:
        self._stirred.add(model)
        self._is_announced = False
        if any(version.state is VersionState.DRAINING for version in self._of(model)):
            self._draining.add(model)
        else:
            self._draining.discard(model)

    def _do(self, model: str, action: Action) -> None:
        if action.kind is ActionKind.LOAD and action.version is not None:
            self._load(model, action.version)
            return
        version = self._copies[model][action.key]
        match action.kind:
            case ActionKind.RETIRE:
                self._retire(version)
            case ActionKind.REINSTATE:
                self._reinstate(version)
            case ActionKind.ABANDON:
                self._move(version, VersionEvent.ABANDONED)
            case ActionKind.UNLOAD:
                self._move(version, VersionEvent.DRAINED)
                self._executor.submit(managed.close, version, version.held, self._post)
            case ActionKind.FORGET:
                self._forget(version)

    def _load(self, model: str, desired: DesiredVersion) -> None:
        version = ManagedVersion(self._next_key, model, desired)
        self._next_key += 1
        self._copies.setdefault(model, {})[version.key] = version
        self._move(version, VersionEvent.LOAD_STARTED)
        self._executor.submit(managed.load, version, self._loader, self._clock, self._post)

    def _forget(self, version: ManagedVersion) -> None:
        copies = self._copies[version.model]
        del copies[version.key]
        if not copies:
            del self._copies[version.model]
        self._stir(version.model)

    def _retire(self, version: ManagedVersion) -> None:
        self._move(version, VersionEvent.DRAIN_STARTED)
        try:
            self._announce()
            self._publish()
        finally:  # a reader that still has the snapshot before is refused from here on, so it can be freed safely
            if version.held is not None:
                version.held.retire()

    def _reinstate(self, version: ManagedVersion) -> None:
        if version.held is not None:
            version.held.reinstate()
        self._move(version, VersionEvent.REINSTATED)
        self._publish()
        self._announce()

    # ---- showing ----------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        for name in sorted(self._stirred):
            before = self._views.get(name, NOTHING)
            view = model_view(self._wanted.get(name), self._route_in_force(name, before.route), self._of(name), before)
            if view is not before:
                self._is_published = False
                self._views[name] = view
            if view == NOTHING:
                self._views.pop(name, None)
        if not self._is_published:
            self._publish_to(snapshot_of(self._views))
            self._is_published = True

    def _route_in_force(self, name: str, before: DesiredRoute | None) -> DesiredRoute | None:
        model = self._wanted.get(name)
        if model is None:
            return None
        route = policy.next_route(model, self._states(model), before)
        if route is not None and model.route and model.route.shadow and route.shadow is None and route != before:
            _log.warning("shadow_left_out", model=name, version=model.route.shadow.version)
        return route

    def _states(self, model: DesiredModel) -> dict[int, VersionState]:
        """The states of the copies that are exactly what is desired, by number; LOADING stands for none."""
        wanted = {version.number: version for version in model.versions}
        states = dict.fromkeys(wanted, VersionState.LOADING)
        for version in self._of(model.name):
            if not version.is_spent and wanted.get(version.desired.number) == version.desired:
                states[version.desired.number] = version.state
        return states

    def _announce(self) -> None:
        if self._is_announced:
            return
        observed = self.observed()
        quiet = replace(observed, versions=tuple(replace(version, in_flight=0) for version in observed.versions))
        if quiet != self._announced:
            self._announce_to(observed)
            self._announced = quiet
        self._is_announced = True


def _close_quietly(held: Held) -> None:
    """Job: frees what failed to warm up; its state is FAILED with the reason that counts."""
    try:
        held.close()
    except Exception as error:  # a job is its own supervisor
        _log.error("unexpected_load_error", doing="freeing", exc_info=error)
