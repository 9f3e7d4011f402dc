"""
The current desired state, kept in step with the registry, on disk and in the workers.

The registry is the truth. Here is what was last read of it, plus what running changes need loaded meanwhile. `reconcile` has
the rule that derives the desired state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from gateway.clock import Clock
from gateway.contract.desired import DesiredModel, DesiredState, Region
from gateway.control.catalog.layout_store import LayoutStore
from gateway.control.desired.reconcile import Found, ModelPlan, Preparing, desired_model, held, keeps_warm, warm_until
from gateway.telemetry.limited_log import LimitedLog
from registry.deployment import Deployment
from registry.errors import ArtifactCorrupt
from registry.registry import Registry
from registry.versions import Facts, Model, ModelVersion

_log = structlog.get_logger("interlock.control")
_limited = LimitedLog(_log)


class DesiredStateStore:
    """
    The current plans and the desired state derived from them. Thread-safe. ``broadcast`` gets every new state, in order.
    ``on_new_version(version)`` is called with each version before it is first in the desired state. ``keeps_regions``:
    shared memory regions in the state that an earlier control has written are still registered. ``layouts`` makes serving
    layouts of large versions, before these are in the desired state; None serves all versions from their registered files.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        file: Path,
        *,
        broadcast: Callable[[DesiredState], None],
        on_new_version: Callable[[ModelVersion], None] = lambda version: None,
        keeps_regions: bool = False,
        layouts: LayoutStore | None = None,
    ) -> None:
        self._registry, self._clock, self._file = registry, clock, file
        self._broadcast, self._on_new_version, self._layouts = broadcast, on_new_version, layouts
        self._keeps_regions = keeps_regions
        self._regions: Mapping[str, Region] = {}
        self._lock = threading.RLock()
        self._deployments: dict[str, Deployment] = {}
        self._predecessors: dict[str, Deployment] = {}
        self._window_ends: dict[str, tuple[int, float]] = {}  # by model: revision, monotonic seconds
        self._models: dict[str, Model] = {}
        self._preparing: dict[str, Preparing] = {}
        self._freed: dict[str, frozenset[int]] = {}
        self._versions: dict[tuple[str, int], Found] = {}
        self._on_demand: dict[str, frozenset[int]] = {}
        self._attempts: dict[str, Mapping[int, int]] = {}
        self._made: dict[str, tuple[ModelPlan, DesiredModel | None]] = {}  # the last result per plan
        self._suspects: frozenset[tuple[str, int]] = frozenset()
        self._fences: Mapping[tuple[str, int], float] = {}
        self._state: DesiredState | None = None
        self._last_revision = 0
        self._is_written = True  # the file has `_state`; else `publish` writes it again

    # ---- reading the registry --------------------------------------------------------------------------------------

    def start(self) -> DesiredState:
        """Reads the registry and sends the first state, with a revision above any that was sent before."""
        with self._lock:
            last = _last_state(self._file)
            self._last_revision = last.revision
            if self._keeps_regions:
                self._regions = {region.name: region for region in last.regions}
            self.refresh()
            return self.publish()

    def refresh(self) -> None:
        """Reads what is new in the registry, whoever wrote it; `publish` then acts on it."""
        deployments, models = self._registry.deployments(), self._registry.all_models()
        self._lay_out_all(deployments, models)
        with self._lock:
            for deployment in deployments:
                self._take_deployment(deployment)
            for one in models:
                self._take_model(one)
            damaged = [key for key, found in self._versions.items() if not found.path]
            for model, number in damaged:  # it may have been restored: look again
                del self._versions[model, number]
                self._made.pop(model, None)

    def _take_deployment(self, deployment: Deployment) -> None:
        known = self._deployments.get(deployment.model)
        if known is None or known.revision < deployment.revision:  # an older one was read before a change
            self._deployments[deployment.model] = deployment
            self._predecessors.pop(deployment.model, None)

    def _take_model(self, model: Model) -> None:
        known = self._models.get(model.name)
        if known is None or known.generation < model.generation:
            self._models[model.name] = model

    # ---- changing --------------------------------------------------------------------------------------------------

    def verify(self, model: str, numbers: frozenset[int]) -> None:
        """
        Reads every byte of these versions, and makes missing serving layouts. Raises ArtifactCorrupt that names the file.
        """
        for number in sorted(numbers):  # without the lock: a large model takes long
            self._registry.verify(self._registry.version(model, number))
            self.lay_out(model, number)

    def check_files(self) -> None:
        """
        Takes versions out whose files were written since they were verified, and finds them anew; `publish` acts on it. For a
        worker that is about to load them. A layout that was written serves no more until the next `refresh`.
        """
        with self._lock:
            for (model, number), found in list(self._versions.items()):
                if not found.path:
                    continue
                if self._layouts is not None:
                    self._layouts.forget_changed(found.version)
                try:
                    is_same = found == self._loadable(found.version, self._sound_path(found.version))
                except ArtifactCorrupt:
                    is_same = False
                if not is_same:
                    del self._versions[model, number]
                    self._made.pop(model, None)
            self.publish()

    def lay_out(self, model: str, number: int) -> None:
        """
        Makes the version's serving layout before the version is in the desired state; later its workers would load it anew.
        """
        if self._layouts is None:
            return
        known, version = self._versions.get((model, number)), self.version(model, number)
        if known and known.path and self._layouts.is_settled(version):
            return
        try:
            path = self._registry.artifact_path(version)
        except ArtifactCorrupt:
            return  # reported when the version is loaded
        self._layouts.ensure(version, path)
        with self._lock:
            known = self._versions.get((model, number))
            if known is not None and known != self._loadable(version, path):
                del self._versions[model, number]
                self._made.pop(model, None)

    def _lay_out_all(self, deployments: Sequence[Deployment], models: Sequence[Model]) -> None:
        aliases = {model.name: model.aliases for model in models}
        for deployment in deployments if self._layouts is not None else ():
            plan = ModelPlan(deployment, self._warm(deployment), aliases.get(deployment.model, {}))
            for number in held(plan):
                self.lay_out(deployment.model, number)

    def version(self, model: str, number: int) -> ModelVersion:
        """Returns a registered version. Raises VersionUnknown."""
        known = self._versions.get((model, number))
        return known.version if known is not None else self._registry.version(model, number)

    def layouts(self) -> Mapping[tuple[str, int], str]:
        """Returns the serving layouts of large versions that are or were in the desired state, in words."""
        if self._layouts is None:
            return {}
        with self._lock:
            versions = {key: found.version for key, found in self._versions.items()}
        found = {key: self._layouts.chosen(version) for key, version in versions.items()}
        return {key: f"{one.layout.mode}: {one.layout.reason}" for key, one in found.items() if one is not None}

    def facts(self) -> Mapping[tuple[str, int], Facts]:
        """Returns the facts about versions that are or were in the desired state."""
        with self._lock:
            return {key: found.version.facts for key, found in self._versions.items()}

    def collect_layouts(self) -> None:
        """Removes serving layouts that no version in the desired state needs."""
        if self._layouts is not None:
            with self._lock:
                used = {found.version.artifact.digest for found in self._versions.values()}
            self._layouts.collect(used)

    def prepare(self, model: str, preparing: Preparing, failed: frozenset[int] = frozenset()) -> int:
        """
        Adds these versions to the desired state until `drop_prepared` or `put_in_force`; workers load again those that have
        ``failed``. Returns the desired state's revision.
        """
        with self._lock:
            for number in preparing.versions:
                self._find(model, number, is_strict=True)
            self._preparing[model] = preparing
            if failed:
                before = self._attempts.get(model, {})
                self._attempts[model] = {**before, **{number: before.get(number, 0) + 1 for number in failed}}
            return self.publish().revision

    def free(self, model: str, numbers: frozenset[int]) -> int:
        """
        Removes these versions and the model's route from the desired state, until `put_in_force` or `hold_again`. Returns
        the revision.
        """
        with self._lock:
            self._freed[model] = numbers
            return self.publish().revision

    def hold_again(self, model: str) -> int:
        """Restores the versions and the route as before `free`. Returns the desired state's revision."""
        with self._lock:
            self._freed.pop(model, None)
            return self.publish().revision

    def drop_prepared(self, model: str) -> int:
        """Removes prepared versions from the desired state. Returns its revision."""
        with self._lock:
            is_held = self._preparing.pop(model, None) is not None
            return (self.publish() if is_held else self.state()).revision

    def put_in_force(self, deployment: Deployment) -> int:
        """Replaces what was prepared by the deployment that the registry has committed. Returns the revision."""
        with self._lock:
            self._preparing.pop(deployment.model, None)
            self._freed.pop(deployment.model, None)
            self._take_deployment(deployment)
            return self.publish().revision

    def take_version(self, version: ModelVersion) -> int:
        """Takes a version of which more is known than before. Returns the desired state's revision."""
        with self._lock:
            self._versions.pop((version.model, version.number), None)
            self._made.pop(version.model, None)
            return self.publish().revision

    def change_model(self, model: Model) -> int:
        """Takes a model whose aliases have changed. Returns the desired state's revision."""
        with self._lock:
            self._preparing.pop(model.name, None)
            self._take_model(model)
            return self.publish().revision

    def change_regions(self, change: Callable[[Mapping[str, Region]], Mapping[str, Region]]) -> int:
        """
        Replaces the shared memory regions by ``change(regions)``, by name. Returns the revision. Raises as ``change`` does.
        """
        with self._lock:
            self._regions = change(self._regions)
            return self.publish().revision

    def regions(self) -> Mapping[str, Region]:
        """Returns the registered shared memory regions by name."""
        return self._regions

    def contain(self, suspects: Collection[tuple[str, int]], fences: Mapping[tuple[str, int], float]) -> None:
        """
        Keeps the ``suspects`` (model, number) in processes of their own, and has calls of the fenced versions refused until
        those times (Unix seconds). Replaces what was said before.
        """
        with self._lock:
            self._suspects, self._fences = frozenset(suspects), dict(fences)
            if self._state is not None:
                self.publish()

    def hold_on_demand(self, versions: frozenset[tuple[str, int]]) -> int:
        """Loads these (model, number) too, and unloads all others that callers asked for before. Returns the revision."""
        numbers: dict[str, set[int]] = {}
        for name, number in versions:
            self.lay_out(name, number)
            numbers.setdefault(name, set()).add(number)
        models = {name: frozenset(those) for name, those in numbers.items()}
        unmet = [self._registry.model(name) for name in models if name not in self._models]
        with self._lock:
            for model in unmet:  # another process has just registered it: its aliases are needed
                self._take_model(model)
            self._on_demand = models
            return self.publish().revision

    # ---- what follows from it --------------------------------------------------------------------------------------

    def plans(self) -> Mapping[str, ModelPlan]:
        """Returns the plan of each model that is or was deployed, or is being prepared."""
        with self._lock:
            names = {*self._deployments, *self._preparing, *self._on_demand}
            return {name: self._plan(name) for name in sorted(names)}

    def plan(self, model: str) -> ModelPlan:
        """Returns the plan of one model."""
        with self._lock:
            return self._plan(model)

    def _plan(self, name: str) -> ModelPlan:
        deployment, model = self._deployments.get(name), self._models.get(name)
        warm = self._warm(deployment) if deployment is not None else None
        aliases, on_demand = model.aliases if model else {}, self._on_demand.get(name, frozenset())
        return ModelPlan(
            deployment,
            warm,
            aliases,
            self._preparing.get(name),
            on_demand,
            self._freed.get(name, frozenset()),
            attempts=self._attempts.get(name, {}),
            suspects=frozenset(number for model, number in self._suspects if model == name),
            fences={number: until for (model, number), until in self._fences.items() if model == name},
        )

    def _warm(self, deployment: Deployment) -> Deployment | None:
        """Returns the predecessor while it is kept warm."""
        if self._clock.monotonic() >= self._window_end(deployment):
            return None
        predecessor = self._predecessor(deployment)
        return predecessor if keeps_warm(deployment, predecessor) else None

    def _window_end(self, deployment: Deployment) -> float:
        """
        Returns the monotonic time at which the rollback window ends. It is read from the durable time once in this process,
        so a step of the wall clock neither ends nor lengthens a window that is open.
        """
        revision, end = self._window_ends.get(deployment.model, (0, 0.0))
        if revision != deployment.revision:
            end = self._clock.monotonic() + warm_until(deployment) - self._clock.now()
            self._window_ends[deployment.model] = deployment.revision, end
        return end

    def _predecessor(self, deployment: Deployment) -> Deployment:
        found = self._predecessors.get(deployment.model)
        if found is None or found.revision != deployment.predecessor:
            found = self._registry.revision(deployment.model, deployment.predecessor or 0)
            self._predecessors[deployment.model] = found
        return found

    def _find(self, model: str, number: int, *, is_strict: bool = False) -> Found:
        """
        Returns the version and its files. A damaged artifact of one version must not stop the others: unless ``is_strict``,
        workers get its name without a file and report that it cannot be loaded. Raises ArtifactCorrupt if ``is_strict``.
        """
        known = self._versions.get((model, number))
        if known is not None and (known.path or not is_strict):
            return known
        version = self._registry.version(model, number)
        try:
            found = self._loadable(version, self._sound_path(version))
        except ArtifactCorrupt as error:
            if is_strict:
                raise
            _log.error("artifact_corrupt", model=model, version=number, error=str(error))
            found = Found(version, "", self._examples(version), damage=f"its files are damaged: {error}")
        self._on_new_version(version)
        self._versions[model, number] = found
        return found

    def _sound_path(self, version: ModelVersion) -> Path:
        """
        Returns the registered file, of which every byte is verified if it is to be loaded. Those of a serving layout were
        verified when it was chosen. Raises ArtifactCorrupt.
        """
        chosen = self._layouts.chosen(version) if self._layouts is not None else None
        is_laid_out = chosen is not None and bool(chosen.path)
        return self._registry.artifact_path(version) if is_laid_out else self._registry.sound_path(version)

    def _loadable(self, version: ModelVersion, path: Path) -> Found:
        """Returns the version with its serving layout, or else its registered file."""
        chosen = self._layouts.chosen(version) if self._layouts is not None else None
        if chosen is None or not chosen.path:
            return Found(version, str(path), self._examples(version))
        return Found(version, chosen.path, self._examples(version), tuple(sorted(chosen.layout.config.items())))

    def _examples(self, version: ModelVersion) -> str:
        """Returns the file with its examples. Without it, or if it is damaged, the version serves after a poorer warm-up."""
        try:
            return str(self._registry.examples_path(version) or "")
        except ArtifactCorrupt as error:
            _log.error("examples_corrupt", model=version.model, version=version.number, error=str(error))
            return ""

    def state(self) -> DesiredState:
        """Returns the last desired state."""
        with self._lock:
            return self._state or DesiredState(self._last_revision)

    def publish(self) -> DesiredState:
        """Derives the desired state anew. If it differs from the last one, writes it to disk and sends it."""
        with self._lock:
            made = (self._model(name, plan) for name, plan in self.plans().items())
            models = tuple(model for model in made if model is not None)
            regions = tuple(self._regions.values())
            if self._state is None or models != self._state.models or regions != self._state.regions:
                self._last_revision = max(self._last_revision + 1, int(self._clock.now() * 1000))
                self._state = DesiredState(self._last_revision, models, regions)
                self._write(self._state)
                self._broadcast(self._state)
            elif not self._is_written:
                self._write(self._state)
            return self._state

    def _model(self, name: str, plan: ModelPlan) -> DesiredModel | None:
        """Returns one model's part, from the cache unless its plan has changed."""
        plan_before, model = self._made.get(name, (None, None))
        if plan_before != plan:
            model = desired_model(name, plan, self._find)
            self._made[name] = plan, model
        return model

    def _write(self, state: DesiredState) -> None:
        """
        Writes the state before it is sent, so that a worker that starts while control is away is never behind the others.
        Does not sync: after a loss of power control derives it anew from the registry. A failure is logged, and the next
        `publish` tries again: until then only a worker that starts without control would be behind.
        """
        trial = self._file.with_suffix(".tmp")
        try:
            trial.write_bytes(msgspec.json.encode(state))
            trial.replace(self._file)
            self._is_written = True
        except OSError as error:
            self._is_written = False
            _limited.error("desired_state_not_written", path=str(self._file), error=str(error))


def _last_state(file: Path) -> DesiredState:
    """The state that an earlier control wrote; an empty one of revision 0 when there is none that can be read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=DesiredState)
    except (OSError, msgspec.MsgspecError):
        return DesiredState(0)
