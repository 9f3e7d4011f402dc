"""A version is named in the same ways in every call: by its number as 2, 02 or v2, or by an alias."""

from __future__ import annotations

import grpc
import pytest
from data_port import DataPort, refused

from gateway.contract.questions import AnyQuestion, Statistics, StatisticsQuestion
from gateway.protocol.pb import inference_pb2 as pb
from registry.errors import VersionUnknown

SPELLINGS = ["2", "02", "v2", "champion"]
NOTHING = ["²", "9" * 5_000, "9", "v9", "latest", "stranger"]


@pytest.fixture(autouse=True)
def control(data_port: DataPort) -> None:
    """Control knows versions 1 and 2, and the counts of none."""

    def answer(question: AnyQuestion) -> Statistics:
        assert isinstance(question, StatisticsQuestion)
        if question.version not in ("1", "2"):
            raise VersionUnknown(f"no version {question.version!r}")
        return Statistics(())

    data_port.worker.answer = answer


@pytest.mark.parametrize("version", SPELLINGS)
def test_a_version_is_found_under_every_spelling(data_port: DataPort, version: str) -> None:
    assert data_port.rpc.ModelMetadata(pb.ModelMetadataRequest(name="m", version=version)).name == "m"
    assert data_port.rpc.ModelConfig(pb.ModelConfigRequest(name="m", version=version)).config.name == "m"
    assert data_port.rpc.ModelReady(pb.ModelReadyRequest(name="m", version=version)).ready
    data_port.rpc.ModelStatistics(pb.ModelStatisticsRequest(name="m", version=version))
    assert data_port.worker.asked == [StatisticsQuestion("m", "2")]


@pytest.mark.parametrize("version", NOTHING)
def test_what_names_no_version_is_not_found(data_port: DataPort, version: str) -> None:
    rpc = data_port.rpc
    for call in (
        lambda: rpc.ModelMetadata(pb.ModelMetadataRequest(name="m", version=version)),
        lambda: rpc.ModelConfig(pb.ModelConfigRequest(name="m", version=version)),
        lambda: rpc.ModelStatistics(pb.ModelStatisticsRequest(name="m", version=version)),
    ):
        error = refused(call)
        assert (error.code(), bool(error.details())) == (grpc.StatusCode.NOT_FOUND, True)
    assert not rpc.ModelReady(pb.ModelReadyRequest(name="m", version=version)).ready
