from __future__ import annotations

from gateway.contract.predictions import PredictionBatch
from gateway.worker.prediction_buffer import PredictionBuffer


def batch(*own: str) -> PredictionBatch:
    many = len(own)
    return PredictionBatch(
        "m", 1, ("default",) * many, "value", 1, (0,) * many, (0,) * many, own, (1,) * many, numbers=(0.0,) * many
    )


def test_the_oldest_go_first_when_there_is_no_room_and_are_counted() -> None:
    buffer = PredictionBuffer(limit=3)
    buffer.add([batch("a", "b"), batch("c", "d")])
    sent: list[PredictionBatch] = []
    assert buffer.send(lambda one: not sent.append(one))
    assert [one.inference_ids for one in sent] == [("c", "d")]
    assert buffer.dropped == 2


def test_what_could_not_be_sent_is_kept_in_order() -> None:
    buffer = PredictionBuffer()
    buffer.add([batch("a"), batch("b"), batch("c")])
    assert not buffer.send(lambda one: one.inference_ids == ("a",))
    sent: list[PredictionBatch] = []
    buffer.send(lambda one: not sent.append(one))
    assert [one.inference_ids[0] for one in sent] == ["b", "c"]
    assert len(buffer) == 0
