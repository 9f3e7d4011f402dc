"""
The data port's RPCs beside ModelInfer: health of models, metadata, configuration, and questions for control.

Statistics, the repository and feedback are questions for control (`Backend.ask`). Everything else is answered from the
snapshot that the request path reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, Protocol

import grpc

from gateway.api.forwarded import FEEDBACK_RPCS, INFERENCE_RPCS, Forwarded
from gateway.api.model_messages import config_message, metadata_message
from gateway.api.status_codes import guarded
from gateway.contract.questions import AnyAnswerValue, AnyQuestion
from gateway.errors import ModelNotFound, NotAllowed, NotReady, Unsupported
from gateway.protocol.pb import feedback_pb2, inference_pb2
from gateway.protocol.services import FEEDBACK, INFERENCE, INFERENCE_NAME, WORKER_KEY, Behaviour, handlers
from gateway.serving.resolve import number_of, resolve
from gateway.settings.sections import RequestSettings
from gateway.versions.snapshot import Snapshot

SERVER_NAME = "interlock"
EXTENSIONS = (
    "model_repository",
    "model_configuration",
    "statistics",
    "parameters",
    "binary_tensor_data",
    "classification",
)
SHARED_MEMORY_EXTENSION = "system_shared_memory"
ASK_TIMEOUT_S = 10.0
LOAD_TIMEOUT_S = 120.0
ASKING_THREADS = 16  # calls that wait for control at once; more wait their turn
STREAMING_THREADS = 64  # feedback streams open at once; more wait their turn
SHARED_MEMORY_TIMEOUT_S = 30.0
MODEL_CONTROL = ("RepositoryModelLoad", "RepositoryModelUnload")
MODEL_CONTROL_OFF = "changes what is served and is off on the data port: start the gateway with {}, or use the admin port"
SHARED_MEMORY = ("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister")
SHARED_MEMORY_OFF = "concerns this machine's memory and is off: start the gateway with {}"
ASKED = ("ModelStatistics", "RepositoryIndex", "SendFeedback", *MODEL_CONTROL, *SHARED_MEMORY)


def CudaSharedMemoryStatus(request: Any, context: Any) -> inference_pb2.CudaSharedMemoryStatusResponse:
    """No region is registered."""
    return inference_pb2.CudaSharedMemoryStatusResponse()


def CudaSharedMemoryUnregister(request: Any, context: Any) -> inference_pb2.CudaSharedMemoryUnregisterResponse:
    """Does nothing: clients call it before they register other regions, and an unknown name is no error."""
    return inference_pb2.CudaSharedMemoryUnregisterResponse()


def CudaSharedMemoryRegister(request: inference_pb2.CudaSharedMemoryRegisterRequest, context: Any) -> NoReturn:
    """Refuses: models run on the processor."""
    raise Unsupported(
        f"CudaSharedMemoryRegister: region {request.name!r}: there is no CUDA memory here, register system shared memory",
        region=request.name,
    )


NO_CUDA = (CudaSharedMemoryStatus, CudaSharedMemoryUnregister, CudaSharedMemoryRegister)


class Backend(Protocol):
    """The parts of a worker that the services need."""

    @property
    def snapshot(self) -> Snapshot:
        """The published snapshot."""
        ...

    @property
    def place(self) -> str:
        """The position of this worker on the port: its number (from 0), a slash, the number of workers."""
        ...

    @property
    def is_serving(self) -> bool:
        """Whether the worker takes requests: it has started and is not about to stop."""
        ...

    def ask(self, question: AnyQuestion, timeout_s: float) -> AnyAnswerValue:
        """Returns control's answer. Raises AskRefused with control's error; NotReady if control is away or late."""
        ...


@dataclass(frozen=True, slots=True)
class _Optional:
    """Methods that are refused unless an option is set. ``timeout_s``: how long control may take to answer them."""

    is_on: bool
    option: str
    timeout_s: float
    text_when_off: str


class DataServices:
    """The RPCs. Errors are raised and become statuses in `gateway.api.status_codes`."""

    def __init__(self, backend: Backend, requests: RequestSettings) -> None:
        self._backend = backend
        self._model_control = _Optional(requests.model_control, "--model-control", LOAD_TIMEOUT_S, MODEL_CONTROL_OFF)
        self._shared_memory = _Optional(requests.shared_memory, "--shared-memory", SHARED_MEMORY_TIMEOUT_S, SHARED_MEMORY_OFF)
        self._asking = ThreadPoolExecutor(ASKING_THREADS, thread_name_prefix="ask")
        self._streaming = ThreadPoolExecutor(STREAMING_THREADS, thread_name_prefix="stream")

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Returns the handlers for the data port's server."""
        local = (self.ServerLive, self.ServerReady, self.ServerMetadata, self.ModelReady, self.ModelMetadata, self.ModelConfig)
        methods: dict[str, Callable[[Any, grpc.ServicerContext], Any]] = {method.__name__: method for method in local}
        methods |= {method.__name__: method for method in NO_CUDA}
        methods["ModelStatistics"] = self.ModelStatistics
        methods["RepositoryIndex"] = self._forwarded(INFERENCE_RPCS["RepositoryIndex"])
        methods |= {name: self._if_allowed(name, self._model_control) for name in MODEL_CONTROL}
        methods |= {name: self._if_allowed(name, self._shared_memory) for name in SHARED_MEMORY}
        feedback = {"SendFeedback": self._forwarded(FEEDBACK_RPCS["SendFeedback"]), "StreamFeedback": self.StreamFeedback}
        return [
            handlers(INFERENCE, {name: self._behaviour(name, method) for name, method in methods.items()}, name=INFERENCE_NAME),
            handlers(FEEDBACK, {name: self._behaviour(name, method) for name, method in feedback.items()}),
        ]

    def close(self) -> None:
        """Ends the threads, after the server has stopped."""
        self._asking.shutdown(wait=False)
        self._streaming.shutdown(wait=False)

    def _behaviour(self, name: str, method: Callable[[Any, grpc.ServicerContext], Any]) -> Behaviour:
        """
        Returns the RPC with errors as statuses. RPCs that wait for control or for the client get threads of their own: a
        slow control, or clients that leave streams open, must not use up the threads that answer health checks.
        """
        behaviour: Any = guarded(method)
        if name == "StreamFeedback":
            behaviour.experimental_thread_pool = self._streaming
        elif name in ASKED:
            behaviour.experimental_thread_pool = self._asking
        made: Behaviour = behaviour
        return made

    # ---- answered here ----------------------------------------------------------------------------------------------

    def ServerLive(self, request: Any, context: Any) -> inference_pb2.ServerLiveResponse:
        """The process answers."""
        return inference_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> inference_pb2.ServerReadyResponse:
        """Whether the worker takes requests. Also tells which worker answers, for clients that connect to all of them."""
        context.set_trailing_metadata(((WORKER_KEY, self._backend.place),))
        return inference_pb2.ServerReadyResponse(ready=self._backend.is_serving)

    def ServerMetadata(self, request: Any, context: Any) -> inference_pb2.ServerMetadataResponse:
        """Returns name, version, and the extensions that work. Also tells which worker answers."""
        context.set_trailing_metadata(((WORKER_KEY, self._backend.place),))
        extensions = (*EXTENSIONS, SHARED_MEMORY_EXTENSION) if self._shared_memory.is_on else EXTENSIONS
        return inference_pb2.ServerMetadataResponse(name=SERVER_NAME, version=_release(), extensions=extensions)

    def ModelReady(self, request: inference_pb2.ModelReadyRequest, context: Any) -> inference_pb2.ModelReadyResponse:
        """Whether a request for this model and version would be served. An unknown model is not ready."""
        try:
            resolve(self._backend.snapshot, request.name, request.version)
        except (ModelNotFound, NotReady):
            return inference_pb2.ModelReadyResponse(ready=False)
        return inference_pb2.ModelReadyResponse(ready=self._backend.is_serving)

    def ModelMetadata(self, request: inference_pb2.ModelMetadataRequest, context: Any) -> inference_pb2.ModelMetadataResponse:
        """Returns the signature of the version that the request names, and the versions that can be named."""
        snapshot = self._backend.snapshot
        number = resolve(snapshot, request.name, request.version)
        return metadata_message(request.name, snapshot.desired[request.name][number], snapshot.ready[request.name])

    def ModelConfig(self, request: inference_pb2.ModelConfigRequest, context: Any) -> inference_pb2.ModelConfigResponse:
        """Returns Triton's configuration of the version that the request names."""
        snapshot = self._backend.snapshot
        number = resolve(snapshot, request.name, request.version)
        return inference_pb2.ModelConfigResponse(config=config_message(request.name, snapshot.desired[request.name][number]))

    # ---- answered by control ----------------------------------------------------------------------------------------

    def ModelStatistics(self, request: inference_pb2.ModelStatisticsRequest, context: Any) -> Any:
        """Returns counts over all workers. Resolves an alias here, to the version that answers its callers now."""
        if request.version:
            snapshot, model = self._backend.snapshot, request.name
            request.version = str(number_of(snapshot, model, request.version) or resolve(snapshot, model, request.version))
        return self._ask(INFERENCE_RPCS["ModelStatistics"], request, context)

    def StreamFeedback(self, requests: Iterator[Any], context: Any) -> feedback_pb2.StreamFeedbackResponse:
        """Forwards every message at once, so items sent before a break are kept. Verdicts come in the order of the items."""
        whole = feedback_pb2.StreamFeedbackResponse()
        for request in requests:
            whole.MergeFrom(self._ask(FEEDBACK_RPCS["StreamFeedback"], request, context))
        return whole

    def _forwarded(self, rpc: Forwarded) -> Callable[[Any, grpc.ServicerContext], Any]:
        return lambda request, context: self._ask(rpc, request, context)

    def _if_allowed(self, method: str, feature: _Optional) -> Callable[[Any, grpc.ServicerContext], Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            if not feature.is_on:
                raise NotAllowed(f"{method} {feature.text_when_off.format(feature.option)}", option=feature.option)
            return self._ask(INFERENCE_RPCS[method], request, context, timeout_s=feature.timeout_s)

        return call

    def _ask(self, rpc: Forwarded, request: Any, context: grpc.ServicerContext, timeout_s: float = ASK_TIMEOUT_S) -> Any:
        remaining_s = context.time_remaining()
        bounded_s = timeout_s if remaining_s is None else min(timeout_s, remaining_s)
        return rpc.response(self._backend.ask(rpc.question(request), bounded_s))


def _release() -> str:
    try:
        return version("interlock")
    except PackageNotFoundError:  # runs from a source tree that was never installed
        return "0"
