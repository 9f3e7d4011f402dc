"""
RPCs that only control can answer: maps their messages to the contract's questions, and the answers back.

A worker's data port forwards them; the admin port answers those of the Open Inference Protocol itself. KServe's SDK sends a
model's name in another field than Triton's client. Both are understood, and the answers have the fields that KServe reads
and Triton skips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from gateway.api.feedback_messages import item_of, result_message
from gateway.api.statistics_messages import statistics_message
from gateway.contract.desired import Region
from gateway.contract.questions import (
    AnyQuestion,
    FeedbackQuestion,
    IndexQuestion,
    LoadModelQuestion,
    RegionsQuestion,
    RegisterRegionQuestion,
    StatisticsQuestion,
    UnloadModelQuestion,
    UnregisterRegionQuestion,
)
from gateway.errors import InvalidRequest, Unsupported
from gateway.protocol.pb import feedback_pb2
from gateway.protocol.pb import inference_pb2 as pb

CONFIG, FILE = "config", "file:"  # Triton's parameters of a load: a configuration, and the beginning of a file's name


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One RPC: ``question(request)`` for control, ``response(answer)`` for the caller."""

    question: Callable[[Any], AnyQuestion]
    response: Callable[[Any], Any]


def _statistics(answer: Any) -> pb.ModelStatisticsResponse:
    return pb.ModelStatisticsResponse(model_stats=map(statistics_message, answer.versions))


def _index(answer: Any) -> pb.RepositoryIndexResponse:
    response = pb.RepositoryIndexResponse()
    for entry in answer.entries:
        response.models.add(name=entry.model, version=str(entry.version), state=entry.state, reason=entry.reason)
    return response


def _regions(answer: Any) -> pb.SystemSharedMemoryStatusResponse:
    response = pb.SystemSharedMemoryStatusResponse()
    for region in answer.regions:
        message = response.regions[region.name]
        message.name, message.key = region.name, region.key
        message.offset, message.byte_size = region.offset, region.byte_size
    return response


def _region(request: pb.SystemSharedMemoryRegisterRequest) -> RegisterRegionQuestion:
    return RegisterRegionQuestion(Region(request.name, request.key, request.offset, request.byte_size, identity=""))


def _model(request: Any) -> str:
    name: str = request.model_name or request.repository_name
    return name


def _load(request: pb.RepositoryModelLoadRequest) -> LoadModelQuestion:
    for name in request.parameters:
        if name == CONFIG or name.startswith(FILE):
            raise Unsupported(
                f"parameter {name!r}: a load takes neither a configuration nor files; register a version, and set batching "
                "with `interlock configure`",
                field=name,
            )
        raise InvalidRequest(f"parameter {name!r}: unknown, a load takes none", field=name)
    return LoadModelQuestion(_model(request))


def _feedback(request: Any) -> FeedbackQuestion:
    return FeedbackQuestion(tuple(item_of(item) for item in request.items))


INFERENCE_RPCS: Mapping[str, Forwarded] = MappingProxyType(
    {
        "ModelStatistics": Forwarded(lambda request: StatisticsQuestion(request.name, request.version), _statistics),
        "RepositoryIndex": Forwarded(lambda request: IndexQuestion(request.ready), _index),
        "RepositoryModelLoad": Forwarded(
            _load,
            lambda answer: pb.RepositoryModelLoadResponse(model_name=answer.model, is_loaded=True),
        ),
        "RepositoryModelUnload": Forwarded(
            lambda request: UnloadModelQuestion(_model(request)),
            lambda answer: pb.RepositoryModelUnloadResponse(model_name=answer.model, is_unloaded=True),
        ),
        "SystemSharedMemoryStatus": Forwarded(lambda request: RegionsQuestion(request.name), _regions),
        "SystemSharedMemoryRegister": Forwarded(_region, lambda answer: pb.SystemSharedMemoryRegisterResponse()),
        "SystemSharedMemoryUnregister": Forwarded(
            lambda request: UnregisterRegionQuestion(request.name), lambda answer: pb.SystemSharedMemoryUnregisterResponse()
        ),
    }
)
FEEDBACK_RPCS: Mapping[str, Forwarded] = MappingProxyType(
    {
        "SendFeedback": Forwarded(
            _feedback, lambda answer: feedback_pb2.SendFeedbackResponse(results=map(result_message, answer.verdicts))
        ),
        "StreamFeedback": Forwarded(
            _feedback, lambda answer: feedback_pb2.StreamFeedbackResponse(results=map(result_message, answer.verdicts))
        ),
    }
)
