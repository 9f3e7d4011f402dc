"""
The two phases of every change of what is served: prepare (every worker has the versions ready, nothing changes for
callers), then commit (one durable write, one new route in every worker).

What to change is decided by the caller; that nothing half-way is left behind is seen to here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.control.catalog.memory_budget import MemoryBudget
from gateway.control.changes.operations import Note
from gateway.control.config import ControlConfig
from gateway.control.desired.reconcile import Preparing, freed_first
from gateway.control.desired.wanted import Wanted
from gateway.control.fleet.progress import (
    Commitment,
    FleetView,
    Preparation,
    Stand,
    held_still,
    missing,
    prepared,
    unacknowledged,
)
from gateway.control.fleet.workers import Fleet
from gateway.errors import DeadlinePassed, ForbiddenNow, GatewayError, NotReady
from registry.deployment import Deployment
from registry.errors import RegistryError
from registry.versions import Model


class Rollover:
    """Brings a change to all workers, or leaves everything as it was."""

    def __init__(self, config: ControlConfig, fleet: Fleet, wanted: Wanted, budget: MemoryBudget) -> None:
        self._config, self._fleet, self._wanted, self._budget = config, fleet, wanted, budget

    def deploy(
        self, deployment: Deployment, required: frozenset[int], commit: Callable[[], Deployment], note: Note
    ) -> tuple[Deployment, tuple[str, ...]]:
        """
        Prepares the ``required`` versions, writes the deployment by ``commit()`` and waits for the workers. Gives what was
        committed, and what is missing. Raises as `preparing` and ``commit`` do; then nothing has changed.
        """
        before = self._wanted.plan(deployment.model).deployment
        wished = Preparing(required, deployment.batching)
        with self._freeing(deployment, required, note), self.preparing(deployment.model, wished, note):
            made = commit()
            note("committed", f"revision {made.revision}")
            lives = _lives(self._fleet.view())
            revision = self._wanted.commit(made)
        # Other settings mean that versions are built anew behind the running ones, which takes as long as loading.
        is_rebuilt = before is not None and before.batching != made.batching
        patience_s = self._config.prepare_timeout_s if is_rebuilt else self._config.acknowledge_timeout_s
        return made, self._acknowledged(Commitment(made.model, _route(made), revision, lives), patience_s, note)

    def confirm(self, deployment: Deployment, note: Note) -> tuple[str, ...]:
        """Waits until the workers have in force what is committed already; what is missing."""
        goal = Commitment(deployment.model, _route(deployment), self._wanted.state().revision, _lives(self._fleet.view()))
        return self._acknowledged(goal, self._config.acknowledge_timeout_s, note)

    @contextmanager
    def _freeing(self, deployment: Deployment, required: frozenset[int], note: Note) -> Iterator[None]:
        """
        With the swap order ``memory``: enters when no worker holds the old versions any more, and loads them again when the
        block raises; the error then says so. If control dies inside, the next one finds the old deployment in the registry
        and has its versions loaded.
        """
        model = deployment.model
        plan = self._wanted.plan(model)
        freed = freed_first(plan, deployment)
        if not freed or self._are_ready(model, required):
            yield
            return
        self._wanted.verify(model, required)  # what is damaged or too large costs nobody the old version
        self._budget.check(self._fleet.view(), model, required, freed)
        old, new = _names(freed), _names(required)
        note("freeing", f"{old} before {new} is loaded (swap order memory): callers get UNAVAILABLE meanwhile")
        try:
            self._free(model, freed)
            yield
        except (GatewayError, RegistryError) as error:
            text = f"{error}; {old} was freed before (swap order memory), and {self._loaded_again(model, freed, note)}"
            raise type(error)(text, **error.metadata) from error
        except BaseException:
            self._wanted.hold_again(model)
            raise

    def _are_ready(self, model: str, numbers: frozenset[int]) -> bool:
        workers = self._fleet.view().attached.values()
        versions = [worker.version(model, number) for worker in workers for number in numbers]
        return bool(versions) and all(version is not None and version.state == "READY" for version in versions)

    def _free(self, model: str, freed: frozenset[int]) -> None:
        revision = self._wanted.free(model, freed)
        limit_s = self._config.prepare_timeout_s
        if not self._fleet.wait(lambda view: not held_still(view, revision, model, freed), limit_s):
            waiting = "; ".join(held_still(self._fleet.view(), revision, model, freed))
            raise DeadlinePassed(f"nothing was changed: not freed within {limit_s:g} s: {waiting}", model=model)

    def _loaded_again(self, model: str, freed: frozenset[int], note: Note) -> str:
        """Has the old versions loaded again; how that went."""
        note("restoring", f"{_names(freed)} is loaded again")
        goal = Preparation(model, freed, self._wanted.hold_again(model), self._fleet.view())
        stand = self._fleet.wait(lambda view: _settled(prepared(view, goal)), self._config.prepare_timeout_s)
        if stand is not None and stand.is_done:
            return "is loaded and serves again"
        return f"is not back everywhere: {stand.failure if stand else 'it is still being loaded'}"

    @contextmanager
    def preparing(self, model: str, versions: Preparing, note: Note) -> Iterator[None]:
        """
        Enters when every worker has the versions READY, and holds them until the end of the block.

        Raises NotReady without a worker, ForbiddenNow with the reason when a version cannot be loaded or would take more memory
        than there may be, DeadlinePassed after
        ``prepare_timeout_s``. When it raises, or the block does, what was only held for it is unloaded.
        """
        is_done = False
        try:
            if versions.versions:
                self._prepare(model, versions, note)
            yield
            is_done = True
        finally:
            revision = self._wanted.release(model)  # after a commit there is nothing to release
            if not is_done:
                # A repeat must find the workers rid of what failed, else they would not try it again.
                self.taken(revision)

    def _prepare(self, model: str, versions: Preparing, note: Note) -> None:
        self._wanted.verify(model, versions.versions)
        start = self._fleet.wait(_attached, self._config.attach_timeout_s)
        if not start:
            raise NotReady(f"no worker is attached, so {model} cannot be prepared", model=model)
        if not self._wanted.plan(model).freed:  # else it was checked before that
            self._budget.check(start, model, versions.versions)
        names = ", ".join(f"v{number}" for number in sorted(versions.versions))
        note("preparing", f"{names} in {len(start.attached)} worker{'s' if len(start.attached) > 1 else ''}")
        goal = Preparation(model, versions.versions, self._wanted.prepare(model, versions), start)
        stand = self._fleet.wait(lambda view: _settled(prepared(view, goal)), self._config.prepare_timeout_s)
        if stand is None:
            raise self._late(goal)
        if stand.failure:
            raise ForbiddenNow(f"nothing was changed: {stand.failure}", rule="prepared", model=model)

    def _late(self, goal: Preparation) -> Exception:
        if self._fleet.is_closed:
            return NotReady("nothing was changed: control is stopping", model=goal.model)
        waiting = "; ".join(prepared(self._fleet.view(), goal).waiting)
        limit_s = self._config.prepare_timeout_s
        return DeadlinePassed(f"nothing was changed: not prepared within {limit_s:g} s: {waiting}", model=goal.model)

    def _acknowledged(self, goal: Commitment, patience_s: float, note: Note) -> tuple[str, ...]:
        self._fleet.wait(lambda view: not unacknowledged(view, goal), patience_s)
        view = self._fleet.view()
        lacking = missing(view, goal)
        count = len(goal.workers) - len(unacknowledged(view, goal))
        note("acknowledged", f"by {count} of {max(len(goal.workers), view.expected)} workers" if lacking else "by all workers")
        return lacking

    def taken(self, revision: int) -> bool:
        """Waits until every attached worker has taken the desired state, up to ``acknowledge_timeout_s``; whether all have."""
        return self._fleet.wait(lambda view: _is_taken(view, revision), self._config.acknowledge_timeout_s)

    def change_aliases(self, model: Model) -> None:
        """Brings a model's aliases, as the registry has them, to the workers."""
        self.taken(self._wanted.change_model(model))


def _names(numbers: frozenset[int]) -> str:
    return ", ".join(f"v{number}" for number in sorted(numbers))


def _route(deployment: Deployment) -> int | None:
    return deployment.revision if deployment.default is not None else None


def _attached(view: FleetView) -> FleetView | None:
    return view if view.attached else None


def _settled(stand: Stand) -> Stand | None:
    return stand if stand.is_done or stand.failure else None


def _is_taken(view: FleetView, revision: int) -> bool:
    return all(worker.observed is not None and worker.observed.revision >= revision for worker in view.lives())


def _lives(view: FleetView) -> frozenset[tuple[int, str]]:
    return frozenset((life.hello.worker, life.hello.incarnation) for life in view.lives())
