"""
The version manager: makes the observed state follow the desired one. Takes in job outcomes, asks the policy, and acts.

Nothing here blocks: loading, warming up and unloading run on the executor, never on the inference thread. One lock guards
all state, and no request takes it: the request path reads the published `Snapshot` only.

The cost of a change depends on the models that it concerns, not on all models: a tick visits only the models in
``_changed`` and those that drain.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any, Protocol

import structlog

from gateway.clock import Clock
from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredState, DesiredVersion
from gateway.contract.observed import Observed
from gateway.contract.version_state import VersionState
from gateway.versions import entry as jobs
from gateway.versions import policy
from gateway.versions.entry import JobOutcome, VersionEntry
from gateway.versions.loaded import Loader
from gateway.versions.policy import Action, ActionKind
from gateway.versions.snapshot import Publish
from gateway.versions.states import VersionEvent
from gateway.versions.view import NOTHING, ModelView, model_view, observed_versions, snapshot_of

Announce = Callable[[Observed], None]
SETTLED = frozenset({VersionState.READY, VersionState.FAILED})
_log = structlog.get_logger("interlock.versions")


class Executor(Protocol):
    """Runs jobs: the part of `concurrent.futures.Executor` that the manager uses."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Runs ``fn(*args)`` later, on another thread."""
        ...


class VersionManager:
    """
    Manages the versions of one worker. `apply` takes a desired state (the last one wins), `tick` works towards it.
    The executor's threads call ``wake`` when a tick has something to do.

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
        self._outcomes: deque[JobOutcome] = deque()
        self._revision = 0
        self._desired: dict[str, DesiredModel] = {}
        self._entries: dict[str, dict[int, VersionEntry]] = {}  # by model, then by key, oldest first
        self._next_key = 0
        self._views: dict[str, ModelView] = {}
        self._changed: set[str] = set()  # models that the next tick visits
        self._draining: set[str] = set()  # models that every tick visits: the last lease to end does not notify the manager
        self._announced: Observed | None = None
        self._is_announced = False
        self._is_published = True
        self._loads: dict[str, int] = {}

    # ---- called by others ------------------------------------------------------------------------------------------

    def apply(self, desired: DesiredState) -> None:
        """Replaces the whole desired state, and starts to work towards it."""
        with self._lock:
            before, self._desired = self._desired, {}
            for model in desired.models:
                old = before.pop(model.name, None)
                if old == model:
                    model = old  # unchanged: its versions then compare by identity first, which is quick
                else:
                    self._changed.add(model.name)
                self._desired[model.name] = model
            self._changed.update(before)
            self._revision, self._is_announced = desired.revision, False
            self.tick()

    def tick(self) -> bool:
        """Takes in job outcomes and does what is due. True if versions drain: then the caller ticks again soon."""
        with self._lock:
            while True:
                self._take_outcomes()
                self._publish()
                self._announce()
                if not self._act():
                    break
            return bool(self._draining)

    def observed(self) -> Observed:
        """Returns the observed state, one value per version; ``is_serving`` is not known here and False."""
        with self._lock:
            versions = tuple(one for name in self._entries for one in observed_versions(self._reportable(name)))
            routes = {name: view.route.revision for name, view in self._views.items() if view.route is not None}
            return Observed(self._revision, versions, routes, is_serving=False)

    def is_settled(self) -> bool:
        """Whether every desired version that a desired route names is READY or FAILED."""
        with self._lock:
            return all(
                state in SETTLED
                for model in self._desired.values()
                if model.route
                for number, state in self._states(model).items()
                if number in policy.named(model.route)
            )

    def lacking(self, excused: Collection[tuple[str, int]] = ()) -> tuple[str, ...]:
        """
        Returns why callers of a desired route would not be answered here: its versions that are not READY, with reasons,
        without the ``excused`` ones (model and number).
        """
        with self._lock:
            reasons = {(version.model, version.number): version.reason for version in self.observed().versions}
            return tuple(
                f"{model.name} v{number} is {state.name} {reasons.get((model.name, number), '')}".rstrip()
                for model in self._desired.values()
                if model.route
                for number, state in self._states(model).items()
                if number in policy.needed(model.route)
                and state is not VersionState.READY
                and (model.name, number) not in excused
            )

    def loads(self) -> dict[str, int]:
        """Returns the loads that have ended since the start: counts by ``model|version|ok`` and ``model|version|failed``."""
        with self._lock:
            return dict(self._loads)

    # ---- taking in --------------------------------------------------------------------------------------------------

    def _post(self, outcome: JobOutcome) -> None:
        self._outcomes.append(outcome)
        self._wake()

    def _take_outcomes(self) -> None:
        while self._outcomes:
            outcome = self._outcomes.popleft()
            if outcome.entry.is_spent:
                self._end(outcome)
            else:
                self._go_on(outcome)

    def _go_on(self, outcome: JobOutcome) -> None:
        """Takes in a step of a load that is still desired."""
        entry = outcome.entry
        entry.loaded = outcome.loaded
        if outcome.event is VersionEvent.FAILED:
            self._count(entry, "failed")
            entry.loaded = None
            if outcome.loaded is not None:  # it was never published, so there is no lease
                self._executor.submit(jobs.discard, outcome.loaded)
        self._move(entry, outcome.event, outcome.reason)
        if outcome.event is VersionEvent.WARMED and outcome.loaded is not None:
            entry.private_bytes, entry.mapped_bytes = outcome.loaded.private_bytes, outcome.loaded.mapped_bytes
            entry.load_ms = outcome.load_ms
            self._count(entry, "ok")

    def _end(self, outcome: JobOutcome) -> None:
        """Takes in a step of an entry that is being unloaded. An abandoned load is freed when its job has ended."""
        entry = outcome.entry
        entry.loaded = outcome.loaded or entry.loaded
        if not outcome.is_last:
            return
        if outcome.event is VersionEvent.UNLOADED or entry.loaded is None:
            self._move(entry, VersionEvent.UNLOADED)
        elif outcome.event is VersionEvent.FAILED and outcome.loaded is None:
            self._move(entry, VersionEvent.FAILED, outcome.reason)
        else:
            self._executor.submit(jobs.unload, entry, entry.loaded, self._post)

    def _count(self, entry: VersionEntry, result: str) -> None:
        key = f"{entry.model}|{entry.desired.number}|{result}"
        self._loads[key] = self._loads.get(key, 0) + 1

    # ---- acting -----------------------------------------------------------------------------------------------------

    def _act(self) -> bool:
        """Carries out the policy's actions for every model that may need one. Returns whether there was any."""
        names, self._changed = self._changed | self._draining, set()
        try:
            actions = [(name, action) for name in sorted(names) for action in self._decide(name)]
            for name, action in actions:
                self._do(name, action)
        except BaseException:
            self._changed |= names  # the next tick goes on where this one broke off
            raise
        return bool(actions)

    def _decide(self, name: str) -> tuple[Action, ...]:
        model, route = self._desired.get(name), self._route(name)
        desired = {version.number: version for version in model.versions} if model else {}
        entries = [entry.view() for entry in self._of(name)]
        return policy.decide(desired, entries, policy.named(route) if route else ())

    def _of(self, model: str) -> Iterator[VersionEntry]:
        yield from self._entries.get(model, {}).values()

    def _reportable(self, model: str) -> Iterator[VersionEntry]:
        """
        Yields all entries but failed ones that are no longer desired. Those are about to be forgotten, and control would take
        them for the outcome of the load that it asked for now.
        """
        found = self._desired.get(model)
        desired = {version.number: version for version in found.versions} if found else {}
        for entry in self._of(model):
            if entry.state is not VersionState.FAILED or policy.is_as_desired(entry.view(), desired):
                yield entry

    def _route(self, model: str) -> DesiredRoute | None:
        return self._views.get(model, NOTHING).route

    def _move(self, entry: VersionEntry, event: VersionEvent, reason: str = "") -> None:
        """Moves a state. Every move goes through here, so that the next tick visits the model."""
        entry.take(event, reason)
        self._note_change(entry.model)

    def _note_change(self, model: str) -> None:
        self._changed.add(model)
        self._is_announced = False
        if any(entry.state is VersionState.DRAINING for entry in self._of(model)):
            self._draining.add(model)
        else:
            self._draining.discard(model)

    def _do(self, model: str, action: Action) -> None:
        if action.kind is ActionKind.LOAD and action.version is not None:
            self._load(model, action.version)
            return
        entry = self._entries[model][action.key]
        match action.kind:
            case ActionKind.RETIRE:
                self._retire(entry)
            case ActionKind.REINSTATE:
                self._reinstate(entry)
            case ActionKind.ABANDON:
                self._move(entry, VersionEvent.ABANDONED)
            case ActionKind.UNLOAD:
                self._move(entry, VersionEvent.DRAINED)
                self._executor.submit(jobs.unload, entry, entry.loaded, self._post)
            case ActionKind.FORGET:
                self._forget(entry)

    def _load(self, model: str, desired: DesiredVersion) -> None:
        entry = VersionEntry(self._next_key, model, desired)
        self._next_key += 1
        self._entries.setdefault(model, {})[entry.key] = entry
        self._move(entry, VersionEvent.LOAD_STARTED)
        self._executor.submit(jobs.load, entry, self._loader, self._clock, self._post)

    def _forget(self, entry: VersionEntry) -> None:
        entries = self._entries[entry.model]
        del entries[entry.key]
        if not entries:
            del self._entries[entry.model]
        self._note_change(entry.model)

    def _retire(self, entry: VersionEntry) -> None:
        self._move(entry, VersionEvent.DRAIN_STARTED)
        try:
            self._announce()
            self._publish()
        finally:  # from here on a reader with the previous snapshot is refused, so unloading is safe
            if entry.loaded is not None:
                entry.loaded.retire()

    def _reinstate(self, entry: VersionEntry) -> None:
        if entry.loaded is not None:
            entry.loaded.reinstate()
        self._move(entry, VersionEvent.REINSTATED)
        self._publish()
        self._announce()

    # ---- publishing and announcing -------------------------------------------------------------------------------------

    def _publish(self) -> None:
        for name in sorted(self._changed):
            self._fence(name)
            before = self._views.get(name, NOTHING)
            view = model_view(self._desired.get(name), self._route_in_force(name, before.route), self._of(name), before)
            if view is not before:
                self._is_published = False
                self._views[name] = view
            if view == NOTHING:
                self._views.pop(name, None)
        if not self._is_published:
            self._publish_to(snapshot_of(self._views))
            self._is_published = True

    def _fence(self, name: str) -> None:
        model = self._desired.get(name)
        for entry in self._of(name):
            if model is not None and entry.loaded is not None:
                entry.loaded.fenced_until = model.fences.get(entry.desired.number, 0.0)

    def _route_in_force(self, name: str, before: DesiredRoute | None) -> DesiredRoute | None:
        model = self._desired.get(name)
        if model is None:
            return None
        route = policy.next_route(model, self._states(model), before)
        if route is not None and model.route and model.route.shadow and route.shadow is None and route != before:
            _log.warning("shadow_left_out", model=name, version=model.route.shadow.version)
        return route

    def _states(self, model: DesiredModel) -> dict[int, VersionState]:
        """Returns the states of the entries that are as desired, by number; LOADING where there is no entry."""
        desired = {version.number: version for version in model.versions}
        states = dict.fromkeys(desired, VersionState.LOADING)
        for entry in self._of(model.name):
            if not entry.is_spent and policy.is_as_desired(entry.view(), desired):
                states[entry.desired.number] = entry.state
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
