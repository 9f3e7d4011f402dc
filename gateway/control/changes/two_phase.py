"""
Two-phase changes: prepare, commit, acknowledge. `TwoPhase.change` is the whole of it; its failure cases follow it.

*Prepare*: every worker loads and warms up the versions; nothing changes for callers. *Commit*: one durable compare-and-set
write, then the new desired state. *Acknowledge*: every worker has put the new route in force by one assignment.

A caller decides what to change. Here nothing is left half done: a change that fails before its write changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from gateway.contract.version_state import VersionState
from gateway.control.catalog.memory_budget import MemoryBudget
from gateway.control.changes.operations import Note
from gateway.control.desired.reconcile import Preparing, freed_first, held
from gateway.control.desired.state_store import DesiredStateStore
from gateway.control.fleet.progress import (
    Commitment,
    FleetView,
    Preparation,
    Progress,
    failed_versions,
    missing,
    not_unloaded,
    prepared,
    unacknowledged,
)
from gateway.control.fleet.workers import Fleet
from gateway.control.limits import ControlLimits
from gateway.errors import DeadlinePassed, ForbiddenNow, GatewayError, NotReady
from gateway.settings.sections import LoadingSettings
from registry.deployment import Deployment
from registry.errors import RegistryError
from registry.versions import Model


@dataclass(frozen=True, slots=True)
class Intent:
    """
    A change of what is served. ``required`` are the versions that every worker must have READY before ``write()`` commits
    the ``deployment`` to the registry; it returns what was written, or raises and writes nothing.
    """

    deployment: Deployment
    required: frozenset[int]
    write: Callable[[], Deployment]


class TwoPhase:
    """Brings a change to all workers, or leaves everything as it was."""

    def __init__(
        self, loading: LoadingSettings, limits: ControlLimits, fleet: Fleet, desired: DesiredStateStore, budget: MemoryBudget
    ) -> None:
        self._loading, self._limits = loading, limits
        self._fleet, self._desired, self._budget = fleet, desired, budget

    def change(self, intent: Intent, note: Note) -> tuple[Deployment, tuple[str, ...]]:
        """
        Carries out a change. Returns what was committed, and a text for each worker that has not acknowledged in time.

        Raises before anything is served differently: NotReady without a worker, ForbiddenNow when a version cannot be
        loaded or exceeds the memory budget, DeadlinePassed after ``load_timeout_s``, ArtifactCorrupt, and as
        ``intent.write`` does (RevisionConflict when another change was faster).
        """
        model, before = intent.deployment.model, self._desired.plan(intent.deployment.model).deployment
        freed = self._to_free(intent)
        try:
            self._free(model, freed, intent.required, note)
            self._prepare(model, _preparing(intent.required, intent.deployment), note)
            written = intent.write()
        except BaseException as error:
            self._undo(model, freed, error, note)
        note("committed", f"revision {written.revision}")
        lives = _lives(self._fleet.view())
        revision = self._desired.put_in_force(written)
        goal = Commitment(model, _route(written), revision, lives)
        return written, self._acknowledge(goal, self._acknowledge_timeout_s(before, written), note)

    # ---- the steps --------------------------------------------------------------------------------------------------

    def _to_free(self, intent: Intent) -> frozenset[int]:
        """Returns the versions that the swap order ``memory`` frees first; none if the new ones are READY already."""
        freed = freed_first(self._desired.plan(intent.deployment.model), intent.deployment)
        return frozenset() if self._are_ready(intent.deployment.model, intent.required) else freed

    def _free(self, model: str, freed: frozenset[int], required: frozenset[int], note: Note) -> None:
        """
        Has every worker unload the old versions, before the new ones are loaded. If control dies meanwhile, the next one
        finds the old deployment in the registry and has its versions loaded.
        """
        if not freed:
            return
        self._desired.verify(model, required)  # a damaged or too large version must not cost the old one
        self._budget.check(self._fleet.view(), model, required, freed)
        note(
            "freeing",
            f"{_names(freed)} before {_names(required)} is loaded (swap order memory): callers get UNAVAILABLE meanwhile",
        )
        revision, limit_s = self._desired.free(model, freed), self._loading.load_timeout_s
        if not self._fleet.wait(lambda view: not not_unloaded(view, revision, model, freed), limit_s):
            waiting = "; ".join(not_unloaded(self._fleet.view(), revision, model, freed))
            raise DeadlinePassed(f"nothing was changed: not freed within {limit_s:g} s: {waiting}", model=model)

    def _prepare(self, model: str, preparing: Preparing, note: Note) -> None:
        """Returns when every worker has the versions READY. They stay in the desired state until the commit or `_undo`."""
        if not preparing.versions:
            return
        self._desired.verify(model, self._to_load(model, preparing))
        start = self._fleet.wait(_attached, self._limits.attach_timeout_s)
        if not start:
            raise NotReady(f"no worker is attached, so {model} cannot be prepared", model=model)
        if not self._desired.plan(model).freed:  # else `_free` has checked it
            self._budget.check(start, model, preparing.versions)
        workers = f"{len(start.attached)} worker{'s' if len(start.attached) > 1 else ''}"
        note("preparing", f"{_names(preparing.versions)} in {workers}")
        failed = failed_versions(start, model, preparing.versions)  # asked for once more, they are loaded once more
        goal = Preparation(model, preparing.versions, self._desired.prepare(model, preparing, failed), start)
        progress = self._fleet.wait(lambda view: _settled(prepared(view, goal)), self._loading.load_timeout_s)
        if progress is None:
            raise self._late(goal)
        if progress.failure:
            raise ForbiddenNow(f"nothing was changed: {progress.failure}", rule="prepared", model=model)

    def _acknowledge(self, goal: Commitment, timeout_s: float, note: Note) -> tuple[str, ...]:
        """Waits until the workers have the commitment in force. Returns a text for each that has not."""
        self._fleet.wait(lambda view: not unacknowledged(view, goal), timeout_s)
        view = self._fleet.view()
        lacking = missing(view, goal)
        count = len(goal.workers) - len(unacknowledged(view, goal))
        note("acknowledged", f"by {count} of {max(len(goal.workers), view.expected)} workers" if lacking else "by all workers")
        return lacking

    def _acknowledge_timeout_s(self, before: Deployment | None, written: Deployment) -> float:
        """
        Returns the time to wait. With other settings versions are built anew behind the running ones, which takes as long as
        loading.
        """
        is_rebuilt = before is not None and before.batching != written.batching
        return self._loading.load_timeout_s if is_rebuilt else self._limits.acknowledge_timeout_s

    # ---- the failure cases: nothing has been written ------------------------------------------------------------------

    def _undo(self, model: str, freed: frozenset[int], error: BaseException, note: Note) -> NoReturn:
        """
        Drops what was prepared, loads again what was freed, and raises the error; with the swap order ``memory`` its text
        says what became of the old versions.
        """
        revision = self._desired.drop_prepared(model)
        self.applied(revision)  # a repeat must find workers that have dropped what failed, or they would not try it again
        if not freed or not self._desired.plan(model).freed:
            raise error
        if not isinstance(error, GatewayError | RegistryError):
            self._desired.hold_again(model)
            raise error
        outcome = self._load_again(model, freed, note)
        raise error.with_message(f"{error}; {_names(freed)} was freed before (swap order memory), and {outcome}") from error

    def _load_again(self, model: str, freed: frozenset[int], note: Note) -> str:
        """Has freed versions loaded again. Returns a text that says how that went."""
        note("restoring", f"{_names(freed)} is loaded again")
        goal = Preparation(model, freed, self._desired.hold_again(model), self._fleet.view())
        progress = self._fleet.wait(lambda view: _settled(prepared(view, goal)), self._loading.load_timeout_s)
        if progress is not None and progress.is_done:
            return "is loaded and serves again"
        return f"is not back everywhere: {progress.failure if progress else 'it is still being loaded'}"

    def _late(self, goal: Preparation) -> GatewayError:
        if self._fleet.is_closed:
            return NotReady("nothing was changed: control is stopping", model=goal.model)
        waiting = "; ".join(prepared(self._fleet.view(), goal).waiting)
        limit_s = self._loading.load_timeout_s
        return DeadlinePassed(f"nothing was changed: not prepared within {limit_s:g} s: {waiting}", model=goal.model)

    # ---- smaller changes ----------------------------------------------------------------------------------------------

    def confirm(self, deployment: Deployment, required: frozenset[int], note: Note) -> tuple[str, ...]:
        """
        Waits until the workers have a committed deployment in force, and has them load what they lack of the ``required``
        versions. Returns a text for each worker that is late. Raises as `change` if a version cannot be loaded.
        """
        if required and not self._are_ready(deployment.model, required):
            try:
                self._prepare(deployment.model, _preparing(required, deployment), note)
            except BaseException as error:
                self._undo(deployment.model, frozenset(), error, note)
            self._desired.drop_prepared(deployment.model)
        goal = Commitment(deployment.model, _route(deployment), self._desired.state().revision, _lives(self._fleet.view()))
        return self._acknowledge(goal, self._limits.acknowledge_timeout_s, note)

    def change_alias(self, model: str, preparing: Preparing, write: Callable[[], Model], note: Note) -> Model:
        """Prepares the version that an alias will name, writes the alias and brings it to the workers. Raises as `change`."""
        try:
            self._prepare(model, preparing, note)
            written = write()
        except BaseException as error:
            self._undo(model, frozenset(), error, note)
        self.bring_aliases(written)
        return written

    def bring_aliases(self, model: Model) -> None:
        """Brings a model's aliases, as the registry has them, to the workers."""
        self.applied(self._desired.change_model(model))

    def applied(self, revision: int) -> bool:
        """Waits up to ``acknowledge_timeout_s`` until every attached worker has applied the desired state; whether all have."""
        return self._fleet.wait(lambda view: _is_applied(view, revision), self._limits.acknowledge_timeout_s)

    def _to_load(self, model: str, preparing: Preparing) -> frozenset[int]:
        """Returns the versions that a worker has yet to load, or to load again for other settings."""
        present = held(self._desired.plan(model))
        return frozenset(
            number
            for number in preparing.versions
            if present.get(number) != preparing.batching or not self._are_ready(model, frozenset({number}))
        )

    def _are_ready(self, model: str, numbers: frozenset[int]) -> bool:
        workers = self._fleet.view().attached.values()
        versions = [worker.version(model, number) for worker in workers for number in numbers]
        return bool(versions) and all(one is not None and one.state is VersionState.READY for one in versions)


def _names(numbers: frozenset[int]) -> str:
    return ", ".join(f"v{number}" for number in sorted(numbers))


def _route(deployment: Deployment) -> int | None:
    return deployment.revision if deployment.default is not None else None


def _attached(view: FleetView) -> FleetView | None:
    return view if view.attached else None


def _settled(progress: Progress) -> Progress | None:
    return progress if progress.is_done or progress.failure else None


def _is_applied(view: FleetView, revision: int) -> bool:
    return all(worker.observed is not None and worker.observed.revision >= revision for worker in view.lives())


def _lives(view: FleetView) -> frozenset[tuple[int, str]]:
    return frozenset((life.hello.worker, life.hello.incarnation) for life in view.lives())


def _preparing(versions: frozenset[int], deployment: Deployment) -> Preparing:
    return Preparing(versions, deployment.batching, deployment.isolation)
