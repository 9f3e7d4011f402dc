"""RPCs that control answers: messages to questions, answers to messages, in both dialects."""

from __future__ import annotations

import pytest

from gateway.api.forwarded import FEEDBACK_RPCS, INFERENCE_RPCS
from gateway.contract.counts import ArmCounts
from gateway.contract.desired import Region
from gateway.contract.feedback import Feedback, Verdict, VerdictKind
from gateway.contract.questions import (
    Done,
    FeedbackQuestion,
    Index,
    IndexEntry,
    IndexQuestion,
    LoadModelQuestion,
    RegionList,
    RegisterRegionQuestion,
    Statistics,
    StatisticsQuestion,
    Verdicts,
    VersionStatistics,
)
from gateway.errors import GatewayError, InvalidRequest, Unsupported
from gateway.protocol.pb import feedback_pb2
from gateway.protocol.pb import inference_pb2 as pb
from gateway.protocol.services import FEEDBACK, INFERENCE


@pytest.mark.parametrize("field", ["model_name", "repository_name"])
def test_a_model_to_load_is_named_in_both_dialects(field: str) -> None:
    rpc = INFERENCE_RPCS["RepositoryModelLoad"]
    assert rpc.question(pb.RepositoryModelLoadRequest(**{field: "digits"})) == LoadModelQuestion("digits")
    response = rpc.response(Done("digits"))
    assert (response.model_name, response.is_loaded) == ("digits", True)


@pytest.mark.parametrize(
    ("name", "kind"), [("config", Unsupported), ("file:1/model.onnx", Unsupported), ("strict", InvalidRequest)]
)
def test_parameters_that_a_load_would_not_obey_are_refused_by_name(name: str, kind: type[GatewayError]) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="digits")
    request.parameters[name].string_param = "{}"
    with pytest.raises(kind, match=f"parameter '{name}'"):
        INFERENCE_RPCS["RepositoryModelLoad"].question(request)


def test_every_response_is_of_its_rpc() -> None:
    """A message of another type would reach the client as garbage."""
    answers = {"ModelStatistics": Statistics(()), "RepositoryIndex": Index(()), "SystemSharedMemoryStatus": RegionList(())}
    for service, rpcs in ((INFERENCE, INFERENCE_RPCS), (FEEDBACK, FEEDBACK_RPCS)):
        for name, rpc in rpcs.items():
            answer = Verdicts(()) if service is FEEDBACK else answers.get(name, Done("m"))
            assert rpc.response(answer).DESCRIPTOR is service.methods_by_name[name].output_type


def test_statistics_and_index() -> None:
    statistics = INFERENCE_RPCS["ModelStatistics"]
    assert statistics.question(pb.ModelStatisticsRequest(name="m", version="2")) == StatisticsQuestion("m", "2")
    counts = ArmCounts("m", 2, "default", {"OK": 1}, rows=3)
    (message,) = statistics.response(Statistics((VersionStatistics("m", 2, counts),))).model_stats
    assert (message.name, message.version, message.inference_count) == ("m", "2", 3)
    index = INFERENCE_RPCS["RepositoryIndex"]
    assert index.question(pb.RepositoryIndexRequest(ready=True)) == IndexQuestion(True)
    (entry,) = index.response(Index((IndexEntry("m", 2, "LOADING", "why"),))).models
    assert (entry.name, entry.version, entry.state, entry.reason) == ("m", "2", "LOADING", "why")


def test_regions() -> None:
    request = pb.SystemSharedMemoryRegisterRequest(name="r", key="/k", offset=8, byte_size=64)
    region = Region("r", "/k", 8, 64, identity="")
    assert INFERENCE_RPCS["SystemSharedMemoryRegister"].question(request) == RegisterRegionQuestion(region)
    told = INFERENCE_RPCS["SystemSharedMemoryStatus"].response(RegionList((region,))).regions["r"]
    assert (told.name, told.key, told.offset, told.byte_size) == ("r", "/k", 8, 64)


@pytest.mark.parametrize("method", ["SendFeedback", "StreamFeedback"])
def test_feedback_keeps_its_order(method: str) -> None:
    rpc = FEEDBACK_RPCS[method]
    request = getattr(feedback_pb2, f"{method}Request")()
    request.items.add(prediction_id="p", label="cat")
    request.items.add(inference_id="mine", value=0.5)
    items = (Feedback(prediction_id="p", label="cat"), Feedback(inference_id="mine", value=0.5))
    assert rpc.question(request) == FeedbackQuestion(items)
    verdicts = Verdicts((Verdict(VerdictKind.JOINED), Verdict(VerdictKind.INVALID, "why")))
    told = rpc.response(verdicts).results
    names = [feedback_pb2.FeedbackVerdict.Name(one.verdict) for one in told]
    assert names == ["FEEDBACK_VERDICT_JOINED", "FEEDBACK_VERDICT_INVALID"]
    assert told[1].detail == "why"
