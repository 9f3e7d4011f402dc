"""Ground truth and quality over protobuf."""

from __future__ import annotations

import pytest
from quality_makers import classes, id_at, values

from gateway.api.feedback_messages import quality_message
from gateway.api.forwarded import FEEDBACK_RPCS
from gateway.contract.questions import Verdicts
from gateway.protocol.pb import feedback_pb2 as pb
from gateway.quality.log import PredictionLog


def _answer(log: PredictionLog, method: str, request: object) -> object:
    """From the request to the response, as api and control do."""
    rpc = FEEDBACK_RPCS[method]
    return rpc.response(Verdicts(tuple(log.accept(rpc.question(request).items))))


@pytest.mark.parametrize("method", ["SendFeedback", "StreamFeedback"])
def test_each_item_is_answered_in_its_place(log: PredictionLog, method: str) -> None:
    log.record([classes([id_at(1)], ["cat"]), values([id_at(2)], [0.5])])
    request = getattr(pb, f"{method}Request")()
    request.items.add(prediction_id=id_at(1), label="cat").observed_at.GetCurrentTime()
    request.items.add(prediction_id=id_at(2), value=0.0)
    request.items.add(prediction_id=id_at(2), value=0.0)
    request.items.add(inference_id="mine", label="cat")
    request.items.add(prediction_id=id_at(1))
    answer = _answer(log, method, request)
    names = [pb.FeedbackVerdict.Name(one.verdict).removeprefix("FEEDBACK_VERDICT_") for one in answer.results]
    assert names == ["JOINED", "JOINED", "DUPLICATE", "PENDING", "INVALID"]
    assert answer.results[4].detail == "truth: expected either label or value"


def _fill(log: PredictionLog) -> None:
    log.record(
        [classes([id_at(1), id_at(2), id_at(3)], ["cat", "dog", "cat"]), values([id_at(5), id_at(6)], [1.0, 2.0], version=2)]
    )
    request = pb.SendFeedbackRequest()
    for counter, label in ((1, "cat"), (2, "cat"), (2, "dog")):
        request.items.add(prediction_id=id_at(counter), label=label)
    for counter in (5, 6):
        request.items.add(prediction_id=id_at(counter), value=counter)
    _answer(log, "SendFeedback", request)


def test_quality_leaves_unset_what_is_not_known(log: PredictionLog) -> None:
    _fill(log)
    message = quality_message("m", 60, log.quality("m", 60), pending=3, log_coverage=0.5)
    assert (message.model, message.window_s, message.pending, message.log_coverage) == ("m", 60, 3, 0.5)
    first, second = message.versions
    assert (first.kind, first.predictions, first.labelled, first.coverage) == ("class", 3, 2, 2 / 3)
    assert (first.accuracy, first.corrections, first.HasField("mae")) == (0.5, 1, False)
    assert [(one.label, one.support, one.recall) for one in first.classes] == [("cat", 2, 0.5), ("dog", 0, 0.0)]
    assert [(one.truth, one.predicted, one.count) for one in first.confusion] == [("cat", "cat", 1), ("cat", "dog", 1)]
    assert (second.mae, second.bias, second.HasField("accuracy"), len(second.classes)) == (4.0, -4.0, False, 0)


def test_quality_of_all_has_every_model_version_and_arm(log: PredictionLog) -> None:
    _fill(log)
    log.record([classes([id_at(9)], ["x"], model="other", arm="shadow")])
    found = [(model, one.version, one.arm, one.labelled) for model, one in log.quality_of_all()]
    assert found == [("m", 1, "default", 2), ("m", 2, "default", 2), ("other", 1, "shadow", 0)]


def test_quality_is_of_the_model_that_was_asked_for(log: PredictionLog) -> None:
    _fill(log)
    log.record([classes([id_at(9)], ["x"], model="other")])
    assert [one.predictions for one in log.quality("other", 60)] == [1]
    assert [one.version for one in log.quality("m")] == [1, 2]
    assert log.quality("nobody") == ()
