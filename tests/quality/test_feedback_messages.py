"""Ground truth and quality over protobuf, and as gauges."""

from __future__ import annotations

import pytest
from quality_makers import classes, id_at, values

from gateway.api.feedback_messages import MAX_ITEMS, answer_feedback, quality_message
from gateway.errors import InvalidRequest, Unsupported
from gateway.protocol.pb import feedback_pb2 as pb
from gateway.quality.gauges import quality_gauges
from gateway.quality.log import PredictionLog


@pytest.mark.parametrize("method", ["SendFeedback", "StreamFeedback"])
def test_each_item_is_answered_in_its_place(log: PredictionLog, method: str) -> None:
    log.record([classes([id_at(1)], ["cat"]), values([id_at(2)], [0.5])])
    request = getattr(pb, f"{method}Request")()
    request.items.add(prediction_id=id_at(1), label="cat").observed_at.GetCurrentTime()
    request.items.add(prediction_id=id_at(2), value=0.0)
    request.items.add(prediction_id=id_at(2), value=0.0)
    request.items.add(inference_id="mine", label="cat")
    request.items.add(prediction_id=id_at(1))
    answer = getattr(pb, f"{method}Response").FromString(answer_feedback(log, method, request.SerializeToString()))
    names = [pb.FeedbackVerdict.Name(one.verdict).removeprefix("FEEDBACK_VERDICT_") for one in answer.results]
    assert names == ["JOINED", "JOINED", "DUPLICATE", "PENDING", "INVALID"]
    assert answer.results[4].detail == "truth: expected either label or value"


def test_what_is_no_request_is_refused(log: PredictionLog) -> None:
    with pytest.raises(InvalidRequest, match="not a SendFeedbackRequest"):
        answer_feedback(log, "SendFeedback", b"\xff\xff\xff")
    with pytest.raises(Unsupported, match="RepositoryIndex"):
        answer_feedback(log, "RepositoryIndex", b"")


def test_too_many_items_are_refused(log: PredictionLog) -> None:
    body = pb.SendFeedbackRequest(items=[pb.FeedbackItem(label="x")] * (MAX_ITEMS + 1)).SerializeToString()
    with pytest.raises(InvalidRequest, match="at most 10000"):
        answer_feedback(log, "SendFeedback", body)


def _fill(log: PredictionLog) -> None:
    log.record(
        [classes([id_at(1), id_at(2), id_at(3)], ["cat", "dog", "cat"]), values([id_at(5), id_at(6)], [1.0, 2.0], version=2)]
    )
    request = pb.SendFeedbackRequest()
    for counter, label in ((1, "cat"), (2, "cat"), (2, "dog")):
        request.items.add(prediction_id=id_at(counter), label=label)
    for counter in (5, 6):
        request.items.add(prediction_id=id_at(counter), value=counter)
    answer_feedback(log, "SendFeedback", request.SerializeToString())


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


def test_gauges_hold_the_figures_of_every_model(log: PredictionLog) -> None:
    _fill(log)
    log.record([classes([id_at(9)], ["x"], model="other", arm="shadow")])
    rows = {(model, version, arm): figures for model, version, arm, figures in quality_gauges(log)}
    assert rows["m", 1, "default"]["accuracy"] == 0.5
    assert rows["m", 2, "default"] == {
        "predictions": 2, "labelled": 2, "coverage": 1, "corrections": 0, "not_finite": 0,
        "mae": 4, "rmse": 4, "bias": -4, "r2": -63,
    }  # fmt: skip
    assert rows["other", 1, "shadow"] == {"predictions": 1, "labelled": 0, "coverage": 0, "corrections": 0, "not_finite": 0}


def test_quality_is_of_the_model_that_was_asked_for(log: PredictionLog) -> None:
    _fill(log)
    log.record([classes([id_at(9)], ["x"], model="other")])
    assert [one.predictions for one in log.quality("other", 60)] == [1]
    assert [one.version for one in log.quality("m")] == [1, 2]
    assert log.quality("nobody") == ()
