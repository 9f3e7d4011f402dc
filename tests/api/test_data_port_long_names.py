"""Questions about names of any length are answered by their own code, not by one about the size of the answer."""

from __future__ import annotations

import grpc
import pytest
from data_port import DataPort, refused

from gateway.contract.questions import AnyQuestion
from gateway.protocol.pb import inference_pb2 as pb
from registry.errors import ModelUnknown

CALLS = {
    "ModelMetadata": lambda name: pb.ModelMetadataRequest(name=name),
    "ModelConfig": lambda name: pb.ModelConfigRequest(name=name),
    "ModelStatistics": lambda name: pb.ModelStatisticsRequest(name=name),
    "RepositoryModelLoad": lambda name: pb.RepositoryModelLoadRequest(model_name=name),
}


def _unknown(question: AnyQuestion) -> None:
    name = getattr(question, "model", getattr(question, "name", ""))
    raise ModelUnknown(f"model {name!r}: not registered", model=name)


@pytest.mark.parametrize("letter", ["x", "я"])
@pytest.mark.parametrize("method", CALLS)
def test_a_long_name_is_not_found(data_port: DataPort, method: str, letter: str) -> None:
    data_port.worker.answer = _unknown
    error = refused(lambda: getattr(data_port.rpc, method)(CALLS[method](letter * 20_000)))
    assert (error.code(), "characters left out" in error.details()) == (grpc.StatusCode.NOT_FOUND, True), error.details()
