"""
Calls that only control can answer: those that workers pass on, and the same ones on the admin port.

Requests and responses are the protobuf bytes of the data port's services. KServe's SDK sends a model's name where Triton
has the repository's; both are understood, and the answers have the fields that KServe reads and Triton skips.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from gateway.api.feedback_messages import answer_feedback
from gateway.api.statistics_messages import statistics_response
from gateway.api.status_codes import Failure, attempt
from gateway.contract.asks import LOAD_VERSION, Answer, Ask, Wish
from gateway.contract.desired import Region
from gateway.control.changes.operations import Operation
from gateway.control.control import Control
from gateway.control.desired.reconcile import ON_DEMAND
from gateway.control.observe.gateway_status import ModelStatus, VersionStatus
from gateway.errors import InvalidRequest, NotReady, Unsupported
from gateway.protocol.pb import inference_pb2 as pb
from registry.names import version_number

PAGE_SIZE = 1000
_INDEX_STATES = {
    "READY": "READY",
    "PENDING": "LOADING",
    "NEW": "LOADING",
    "LOADING": "LOADING",
    "WARMING": "LOADING",
    "DRAINING": "UNLOADING",
    "UNLOADING": "UNLOADING",
}


class Asks:
    """Answers them. Thread-safe; loading and unloading wait for the workers."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.methods: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "ModelStatistics": (pb.ModelStatisticsRequest, self.statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self.index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self.unload),
            "SystemSharedMemoryStatus": (pb.SystemSharedMemoryStatusRequest, self.regions),
            "SystemSharedMemoryRegister": (pb.SystemSharedMemoryRegisterRequest, self.register_region),
            "SystemSharedMemoryUnregister": (pb.SystemSharedMemoryUnregisterRequest, self.unregister_region),
        }

    def answer(self, ask: Ask) -> Answer:
        """The answer to what a worker passes on; errors become the answer's code."""
        outcome = attempt(lambda: self._answer(ask.method, ask.body))
        if isinstance(outcome, Failure):
            return Answer(ask.token, b"", outcome.code.name, outcome.reason, outcome.message, outcome.metadata)
        return Answer(ask.token, outcome)

    def _answer(self, method: str, body: bytes) -> bytes:
        if method in ("SendFeedback", "StreamFeedback"):
            return answer_feedback(self._control.prediction_log, method, body)
        if method == LOAD_VERSION:
            wish = msgspec.msgpack.decode(body, type=Wish)
            return str(self._control.loading.ask(wish.model, wish.version)).encode()
        if method not in self.methods:
            raise Unsupported(f"method: control has no answer to {method!r}")
        kind, behaviour = self.methods[method]
        try:
            request = kind.FromString(body)
        except DecodeError as error:
            raise InvalidRequest(f"request: not a {method}Request: {error}", field="request") from error
        answered: bytes = behaviour(request).SerializeToString()
        return answered

    def statistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Exact counts over all workers at this moment. Raises ModelNotFound."""
        control = self._control
        control.fleet.report(control.config.report_timeout_s)
        version = request.version
        if request.name and version and version_number(version) is None:
            version = str(control.registry.version(request.name, version).number)
        status = control.status()
        served = {one.model: [version.version for version in one.versions] for one in status.models}
        memory = {(one.model, version.version): version.memory_bytes for one in status.models for version in one.versions}
        return statistics_response(control.counts.merged(), request.name, version, served=served, memory_bytes=memory)

    def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """
        Every version that is held, with its state; of a model that is not deployed those that callers asked for, or else the
        latest one as unavailable.
        """
        response = pb.RepositoryIndexResponse()
        held = {one.model: _answering(one) for one in self._control.status().models}
        for model in self._models():
            for version in held.get(model.name, ()):
                state = _INDEX_STATES.get(version.state, "UNAVAILABLE")
                if state == "READY" or not request.ready:
                    response.models.add(name=model.name, version=str(version.version), state=state, reason=version.reason)
            if not held.get(model.name) and not request.ready:
                response.models.add(name=model.name, version=str(model.latest), state="UNAVAILABLE", reason="not deployed")
        return response

    def _models(self) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            page, token = self._control.registry.models(page_size=PAGE_SIZE, page_token=token)
            found += page
            if not token:
                return found

    def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Deploys the latest version when nothing is deployed; else checks that what is deployed is ready."""
        name = _name(request)
        deployment = self._control.registry.deployment(name)
        if deployment is None or deployment.default is None:
            self._wait(self._control.traffic.deploy(name, "latest"))
        else:
            self._check_ready(name)
        return pb.RepositoryModelLoadResponse(model_name=name, is_loaded=True)

    def _check_ready(self, name: str) -> None:
        held = (one.versions for one in self._control.status().models if one.model == name)
        for version in (version for versions in held for version in versions if "default" in version.roles):
            if version.state != "READY":
                raise NotReady(f"{name} v{version.version} is {version.state} {version.reason}".strip(), model=name)

    def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Undeploys the model; nothing happens when it is not deployed."""
        name = _name(request)
        deployment = self._control.registry.deployment(name)
        if deployment is not None and deployment.default is not None:
            self._wait(self._control.traffic.undeploy(name))
        return pb.RepositoryModelUnloadResponse(model_name=name, is_unloaded=True)

    def regions(self, request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        """The registered shared memory regions, or the one that is named."""
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._control.regions.status(request.name):
            told = response.regions[region.name]
            told.name, told.key, told.offset, told.byte_size = region.name, region.key, region.offset, region.byte_size
        return response

    def register_region(self, request: pb.SystemSharedMemoryRegisterRequest) -> pb.SystemSharedMemoryRegisterResponse:
        """Registers a shared memory region with every worker."""
        region = Region(request.name, request.key, request.offset, request.byte_size, identity="")
        self._control.regions.register(region)
        return pb.SystemSharedMemoryRegisterResponse()

    def unregister_region(self, request: pb.SystemSharedMemoryUnregisterRequest) -> pb.SystemSharedMemoryUnregisterResponse:
        """Lets go of one region, or of all where none is named."""
        self._control.regions.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def _wait(self, operation: Operation) -> None:
        done = self._control.operations.wait(operation.name)
        if done.error is not None:
            raise done.error


def _answering(status: ModelStatus) -> tuple[VersionStatus, ...]:
    """The versions that answer callers, once they are ready."""
    if status.deployment is not None and status.deployment.default is not None:
        return status.versions
    return tuple(version for version in status.versions if ON_DEMAND in version.roles)


def _name(request: Any) -> str:
    name: str = request.model_name or request.repository_name
    if not name:
        raise InvalidRequest("model_name: expected the name of a model, got none", field="model_name")
    return name
