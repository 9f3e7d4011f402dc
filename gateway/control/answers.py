"""
Answering what only control knows: the questions of its workers, and the same ones from the admin port.

Values in, values out: `gateway.api` maps the services' messages. Errors are of the tree; `reply` tells a worker which one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import structlog

from gateway.contract.feedback import Feedback
from gateway.contract.questions import (
    Answer,
    AnyAnswerValue,
    AnyQuestion,
    Ask,
    AskError,
    Done,
    FeedbackQuestion,
    Index,
    IndexEntry,
    IndexQuestion,
    LoadingVersion,
    LoadModelQuestion,
    LoadVersionQuestion,
    RegionList,
    RegionsQuestion,
    RegisterRegionQuestion,
    Statistics,
    StatisticsQuestion,
    UnloadModelQuestion,
    UnregisterRegionQuestion,
    Verdicts,
    ask_error,
)
from gateway.contract.version_state import VersionState
from gateway.control.catalog.on_demand_loading import OnDemandLoading
from gateway.control.catalog.shared_regions import SharedRegions
from gateway.control.changes.deployment_settings import DeploymentSettings
from gateway.control.changes.newest_version import check_may_follow
from gateway.control.changes.operations import Operation, Operations
from gateway.control.changes.traffic import Change, Traffic
from gateway.control.desired.reconcile import ON_DEMAND
from gateway.control.fleet.workers import Fleet
from gateway.control.observe.gateway_status import GatewayStatus, ModelStatus, VersionStatus
from gateway.control.observe.statistics import version_statistics
from gateway.errors import InvalidRequest
from gateway.quality.prediction_store import PredictionStore
from gateway.telemetry.merged_counts import Merged
from registry.errors import ExpectedError
from registry.names import version_number
from registry.paging import every
from registry.registry import Registry

MAX_FEEDBACK_ITEMS = 10_000  # items of ground truth in one question
_INDEX_STATES = {
    "READY": "READY",
    "PENDING": "LOADING",
    "NEW": "LOADING",
    "LOADING": "LOADING",
    "WARMING": "LOADING",
    "DRAINING": "UNLOADING",
    "UNLOADING": "UNLOADING",
}
_log = structlog.get_logger("interlock.control")


class Answering:
    """
    Answers questions. Thread-safe; loading and unloading wait for the workers.

    ``status()`` is the gateway's, ``counts()`` are those of all workers merged. Both are asked after every worker has sent a
    fresh report, or ``report_timeout_s`` has passed.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        fleet: Fleet,
        traffic: Traffic,
        operations: Operations,
        loading: OnDemandLoading,
        regions: SharedRegions,
        feedback: PredictionStore,
        status: Callable[[], GatewayStatus],
        counts: Callable[[], Merged],
        report_timeout_s: float,
    ) -> None:
        self._registry, self._fleet, self._traffic, self._operations = registry, fleet, traffic, operations
        self._loading, self._regions, self._feedback = loading, regions, feedback
        self._status, self._counts, self._report_timeout_s = status, counts, report_timeout_s

    def reply(self, ask: Ask) -> Answer:
        """Returns the answer to a worker. Raises nothing: an error becomes part of the answer."""
        try:
            return Answer(ask.token, self.to(ask.question))
        except ExpectedError as error:
            return Answer(ask.token, error=ask_error(error))
        except Exception as error:  # the edge to the worker: one caller's error is that caller's answer
            _log.error("internal_error", question=type(ask.question).__name__, exc_info=error)
            return Answer(ask.token, error=AskError("", "INTERNAL", "internal error"))

    def to(self, question: AnyQuestion) -> AnyAnswerValue:  # one case per question
        """Returns the answer to a question. Raises errors of the tree."""
        match question:
            case StatisticsQuestion(model, version):
                return self._statistics(model, version)
            case IndexQuestion(is_ready):
                return Index(tuple(self._index(is_ready=is_ready)))
            case LoadModelQuestion(model):
                return self._load(_named(model))
            case UnloadModelQuestion(model):
                return self._unload(_named(model))
            case LoadVersionQuestion(model, version):
                return LoadingVersion(self._loading.ask(model, version))
            case RegionsQuestion(name):
                return RegionList(self._regions.status(name))
            case RegisterRegionQuestion(region):
                self._regions.register(region)
            case UnregisterRegionQuestion(name):
                self._regions.unregister(name)
            case FeedbackQuestion(items):
                return self._accept(items)
        return Done()

    def _accept(self, items: Sequence[Feedback]) -> Verdicts:
        if len(items) > MAX_FEEDBACK_ITEMS:
            raise InvalidRequest(f"items: at most {MAX_FEEDBACK_ITEMS} a request, got {len(items)}", field="items")
        return Verdicts(tuple(self._feedback.accept(items)))

    def _statistics(self, model: str, version: str) -> Statistics:
        """Exact counts over all workers at this moment. Raises ModelNotFound, VersionUnknown."""
        self._fleet.report(self._report_timeout_s)
        is_named = bool(model and version)
        number = self._registry.version(model, version).number if is_named else version_number(version)
        models = self._status().models
        served = {one.model: [version.version for version in one.versions] for one in models}
        memory = {(one.model, version.version): version.memory_bytes for one in models for version in one.versions}
        named = None if not version else number or -1  # a number that no version can have is named, and found nowhere
        return Statistics(version_statistics(self._counts(), model, named, served=served, memory_bytes=memory))

    def _index(self, *, is_ready: bool) -> Iterator[IndexEntry]:
        """
        Every version that is loaded or being loaded, with its state. Of a model that is not deployed: the versions loaded
        on demand, else the latest one as unavailable.
        """
        loaded = {one.model: _answering(one) for one in self._status().models}
        for model in self._registry.all_models():
            for version in loaded.get(model.name, ()):
                state = _INDEX_STATES.get(version.state, "UNAVAILABLE")
                if state == "READY" or not is_ready:
                    yield IndexEntry(model.name, version.version, state, version.reason)
            if not loaded.get(model.name) and not is_ready:
                yield IndexEntry(model.name, model.latest, "UNAVAILABLE", "not deployed")

    def _load(self, name: str) -> Done:
        """Has the newest version serve. Raises ForbiddenNow where a load must not change the deployment."""
        newest, deployment = self._registry.model(name).latest, self._registry.deployment(name)
        if deployment is None or deployment.default is None:
            self._wait(self._traffic.deploy(name, str(newest)))
        elif deployment.default != newest:
            check_may_follow(deployment, newest, every(lambda token: self._registry.revisions(name, page_token=token)))
            self._wait(self._traffic.promote(name, str(newest), change=Change(etag=deployment.etag)))
        elif not self._is_ready(name):
            self._wait(self._traffic.configure(name, DeploymentSettings()))  # changes nothing, and loads what has failed
        return Done(name)

    def _is_ready(self, name: str) -> bool:
        loaded = (one.versions for one in self._status().models if one.model == name)
        defaults = (version for versions in loaded for version in versions if "default" in version.roles)
        return all(version.state == VersionState.READY for version in defaults)

    def _unload(self, name: str) -> Done:
        deployment = self._registry.deployment(name)
        if deployment is not None and deployment.default is not None:
            self._wait(self._traffic.undeploy(name))
        return Done(name)

    def _wait(self, operation: Operation) -> None:
        done = self._operations.wait(operation.name)
        if done.error is not None:
            raise done.error


def _answering(status: ModelStatus) -> tuple[VersionStatus, ...]:
    """Returns the versions that answer callers once they are ready."""
    if status.deployment is not None and status.deployment.default is not None:
        return status.versions
    return tuple(version for version in status.versions if ON_DEMAND in version.roles)


def _named(model: str) -> str:
    if not model:
        raise InvalidRequest("model_name: expected the name of a model, got none", field="model_name")
    return model
