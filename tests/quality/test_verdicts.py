"""Every verdict that an item of ground truth can get."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from quality_makers import EPOCH, START_S, MovableClock, batch_of, classes, id_at, kinds, values, verdict

from gateway.contract.feedback import Feedback, VerdictKind
from gateway.errors import Overloaded
from gateway.quality.log import PredictionLog
from gateway.quality.vocabulary import Vocabulary

JOINED, PENDING, DUPLICATE = VerdictKind.JOINED, VerdictKind.PENDING, VerdictKind.DUPLICATE
CONFLICT, EXPIRED, UNKNOWN, INVALID = VerdictKind.CONFLICT, VerdictKind.EXPIRED, VerdictKind.UNKNOWN, VerdictKind.INVALID
Open = Callable[..., PredictionLog]


def cells(log: PredictionLog) -> Mapping[tuple[str, str], int]:
    """The confusion counts of the only version, by (truth, predicted)."""
    (quality,) = log.quality("m")
    assert quality.confusion is not None
    return quality.confusion.cells


def test_a_label_joins_its_prediction(log: PredictionLog) -> None:
    log.record([classes([id_at(1)], ["cat"])])
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat")) is JOINED


def test_the_same_label_again_is_a_duplicate_also_within_a_call(log: PredictionLog) -> None:
    log.record([classes([id_at(1)], ["cat"])])
    item = Feedback(prediction_id=id_at(1), label="dog")
    assert kinds(log, [item, item]) == [JOINED, DUPLICATE]
    assert verdict(log, item) is DUPLICATE


def test_another_label_is_a_conflict_and_the_first_counts(log: PredictionLog) -> None:
    log.record([classes([id_at(1)], ["cat"])])
    first, second = Feedback(prediction_id=id_at(1), label="cat"), Feedback(prediction_id=id_at(1), label="dog")
    assert kinds(log, [first, second, second, first]) == [JOINED, CONFLICT, CONFLICT, DUPLICATE]
    (quality,) = log.quality("m")
    assert (quality.labelled, quality.corrections) == (1, 1)
    assert quality.class_report is not None
    assert quality.class_report.accuracy == 1.0


@pytest.mark.parametrize("text", ["", "nonsense", "0190a5c4-7e2b-4c3d-8e4f-0123456789ab"])
def test_an_id_that_is_none_of_ours_is_unknown_or_invalid(log: PredictionLog, text: str) -> None:
    assert verdict(log, Feedback(prediction_id=text, label="cat")) is (UNKNOWN if text else INVALID)


def test_an_id_of_an_epoch_never_announced_is_unknown(log: PredictionLog) -> None:
    assert verdict(log, Feedback(prediction_id=id_at(1, epoch=EPOCH + 1), label="cat")) is UNKNOWN


def test_a_prediction_that_was_sampled_out_is_unknown_and_says_so(open_log: Open) -> None:
    log = open_log(prediction_sample=0.25)
    log.record([classes([id_at(i) for i in range(400)], ["cat"] * 400)])
    found = log.accept([Feedback(prediction_id=id_at(i), label="cat") for i in range(400)])
    assert {one.kind for one in found} == {JOINED, UNKNOWN}
    assert {one.detail for one in found if one.kind is UNKNOWN} == {"not sampled into the prediction log"}
    assert 60 <= sum(one.kind is JOINED for one in found) <= 140
    assert log.coverage() == 0.25


def test_a_prediction_older_than_the_window_is_expired_before_any_tick(open_log: Open, clock: MovableClock) -> None:
    log = open_log(prediction_window_s=3600)
    log.record([classes([id_at(1), id_at(2)], ["cat", "cat"], own=["mine", ""])])
    clock.advance(3601)
    items = [Feedback(prediction_id=id_at(1), label="cat"), Feedback(inference_id="mine", label="cat")]
    assert kinds(log, items) == [EXPIRED, EXPIRED]
    log.tick()
    assert verdict(log, Feedback(prediction_id=id_at(2), label="cat")) is EXPIRED
    assert log.quality("m") == ()


def test_a_prediction_that_never_came_is_pending_only_while_it_is_young(log: PredictionLog, clock: MovableClock) -> None:
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat")) is PENDING
    clock.advance(600)
    assert verdict(log, Feedback(prediction_id=id_at(2), label="cat")) is UNKNOWN


def test_labels_before_their_prediction_join_when_it_comes(open_log: Open) -> None:
    log = open_log()
    first, second = Feedback(prediction_id=id_at(1), label="dog"), Feedback(prediction_id=id_at(1), label="cow")
    mine = Feedback(inference_id="mine", label="cat")
    assert kinds(log, [first, second, first, mine, mine]) == [PENDING, CONFLICT, DUPLICATE, PENDING, DUPLICATE]
    log = open_log()
    assert log.pending() == 3
    log.record([classes([id_at(1), id_at(2)], ["cat", "cat"], own=["", "mine"])])
    assert log.pending() == 0
    (quality,) = log.quality("m")
    assert quality.confusion is not None
    assert quality.confusion.cells == {("dog", "cat"): 1, ("cat", "cat"): 1}
    assert quality.corrections == 1
    assert kinds(log, [first, mine]) == [DUPLICATE, DUPLICATE]


def test_a_label_that_waited_in_vain_lapses_and_is_counted(log: PredictionLog, clock: MovableClock) -> None:
    item = Feedback(inference_id="mine", label="cat", idempotency_key="k")
    assert verdict(log, item) is PENDING
    clock.advance(599)
    log.tick()
    assert (log.pending(), log.counts().lapsed) == (1, 0)
    clock.advance(2)
    log.tick()
    assert (log.pending(), log.counts().lapsed) == (0, 1)
    assert verdict(log, item) is PENDING


def test_a_late_prediction_refuses_a_waiting_label_of_the_wrong_kind(log: PredictionLog) -> None:
    assert verdict(log, Feedback(prediction_id=id_at(1), value=3.0)) is PENDING
    log.record([classes([id_at(1)], ["cat"])])
    assert (log.pending(), log.counts().refused_late, log.counts().joined_late) == (0, 1, 0)
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat")) is JOINED


def test_too_many_waiting_labels_are_an_overload_that_keeps_nothing_of_the_call(open_log: Open) -> None:
    log = open_log(max_pending=2)
    items = [Feedback(inference_id=f"mine-{i}", label="cat") for i in range(3)]
    with pytest.raises(Overloaded, match="2 labels already wait"):
        log.accept(items)
    assert log.pending() == 0
    assert kinds(log, items[:2]) == [PENDING, PENDING]


def test_an_inference_id_means_the_latest_prediction_with_it(log: PredictionLog) -> None:
    log.record([classes([id_at(7, time_s=START_S - 5)], ["new"], own=["mine"], version=2)])
    log.record([classes([id_at(9, time_s=START_S - 9)], ["old"], own=["mine"], version=1)])
    assert verdict(log, Feedback(inference_id="mine", label="new")) is JOINED
    assert {one.version: one.labelled for one in log.quality("m")} == {1: 0, 2: 1}


def test_a_repeated_idempotency_key_is_a_duplicate_whatever_came_between(open_log: Open) -> None:
    log = open_log()
    log.record([classes([id_at(1), id_at(2)], ["cat", "cat"], own=["mine", "mine"])])
    correction = Feedback(prediction_id=id_at(1), label="dog", idempotency_key="b")
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat", idempotency_key="a")) is JOINED
    assert verdict(log, correction) is CONFLICT
    log = open_log()
    assert verdict(log, correction) is DUPLICATE
    assert verdict(log, Feedback(prediction_id=id_at(2), label="cat", idempotency_key="b")) is INVALID


def test_the_key_of_a_refused_item_stays_free(log: PredictionLog) -> None:
    log.record([classes([id_at(1)], ["cat"])])
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat", row=3, idempotency_key="a")) is INVALID
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat", idempotency_key="a")) is JOINED


def test_truth_of_the_wrong_kind_is_invalid(log: PredictionLog) -> None:
    log.record([classes([id_at(1)], ["cat"]), values([id_at(2)], [1.5])])
    found = log.accept([Feedback(prediction_id=id_at(1), value=1.0), Feedback(prediction_id=id_at(2), label="1.5")])
    assert [one.kind for one in found] == [INVALID, INVALID]
    assert found[0].detail == "value: m version 1 predicts classes, expected a label"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (Feedback(label="cat"), "prediction"),
        (Feedback(prediction_id="a", inference_id="b", label="cat"), "prediction"),
        (Feedback(prediction_id="a"), "truth"),
        (Feedback(prediction_id="a", value=float("nan")), "value"),
        (Feedback(prediction_id="a", value=float("inf")), "value"),
        (Feedback(prediction_id="a", label="x" * 2000), "label"),
        (Feedback(inference_id="x" * 2000, label="cat"), "inference_id"),
    ],
)
def test_an_item_that_is_wrong_by_itself_is_invalid_and_names_the_field(log: PredictionLog, item: Feedback, field: str) -> None:
    (found,) = log.accept([item])
    assert found.kind is INVALID
    assert found.detail.startswith(f"{field}: ")


def test_rows_of_one_request_are_labelled_apart(log: PredictionLog) -> None:
    log.record(
        [
            batch_of([id_at(1), id_at(2)], "class", (3, 1), labels=("a", "b", "c", "d")),
            batch_of([id_at(3)], "value", (2,), version=2, numbers=(1.0, 2.0)),
        ]
    )
    items = [Feedback(prediction_id=id_at(1), label=label, row=row) for row, label in enumerate("aXcX")]
    assert kinds(log, items) == [JOINED, JOINED, JOINED, INVALID]
    assert kinds(log, [Feedback(prediction_id=id_at(3), value=5.0, row=1)]) == [JOINED]
    first, second = log.quality("m")
    assert (first.predictions, first.labelled) == (4, 3)
    assert first.confusion is not None
    assert first.confusion.cells == {("a", "a"): 1, ("X", "b"): 1, ("c", "c"): 1}
    assert second.value_report is not None
    assert (second.predictions, second.value_report.bias) == (2, -3.0)


def test_a_label_may_be_the_index_of_a_named_class(open_log: Open) -> None:
    log = open_log()
    log.know_vocabulary("m", 1, Vocabulary("", ("cat", "dog"), 2))
    log = open_log()
    log.record([classes([id_at(1)], ["dog"])])
    items = [Feedback(prediction_id=id_at(1), label="1"), Feedback(prediction_id=id_at(1), label="dog")]
    assert kinds(log, items) == [JOINED, DUPLICATE]
    assert cells(log) == {("dog", "dog"): 1}


def test_a_class_that_the_version_cannot_predict_is_refused_with_what_is_expected(log: PredictionLog) -> None:
    log.know_vocabulary("m", 1, Vocabulary("", ("cat", "dog"), 2))
    log.record([classes([id_at(1)], ["dog"])])
    (found,) = log.accept([Feedback(prediction_id=id_at(1), label="7")])
    expected = "label: m version 1: expected a class of 'cat', 'dog' or its index, got '7'"
    assert (found.kind, found.detail) == (INVALID, expected)
    assert log.quality("m")[0].labelled == 0


def test_one_class_in_many_forms_is_one_class(log: PredictionLog) -> None:
    log.know_vocabulary("m", 1, Vocabulary("INT64"))
    forms = ["1", "1.0", " 1", "01", "true", "1e0"]
    log.record([classes([id_at(i) for i in range(len(forms))], ["1"] * len(forms))])
    items = [Feedback(prediction_id=id_at(i), label=form) for i, form in enumerate(forms)]
    assert kinds(log, items) == [JOINED] * len(forms)
    assert cells(log) == {("1", "1"): len(forms)}


def test_another_form_of_the_same_class_is_a_duplicate(log: PredictionLog) -> None:
    log.know_vocabulary("m", 1, Vocabulary("INT64"))
    log.record([classes([id_at(1)], ["1"])])
    items = [Feedback(prediction_id=id_at(1), label=form) for form in ("1", "1.0", "2")]
    assert kinds(log, items) == [JOINED, DUPLICATE, CONFLICT]


def test_a_waiting_label_is_joined_in_the_same_form_or_refused(log: PredictionLog) -> None:
    log.know_vocabulary("m", 1, Vocabulary("INT64"))
    items = [Feedback(prediction_id=id_at(1), label="1.0"), Feedback(prediction_id=id_at(2), label="one")]
    assert kinds(log, items) == [PENDING, PENDING]
    log.record([classes([id_at(1), id_at(2)], ["1", "1"])])
    assert cells(log) == {("1", "1"): 1}
    assert log.counts().refused_late == 1


def test_what_an_earlier_release_recorded_is_counted_and_joined_in_the_same_form(open_log: Open) -> None:
    log = open_log()
    log.record([classes([id_at(1), id_at(2), id_at(3)], ["1", "1", "1"])])
    forms = [Feedback(prediction_id=id_at(i + 1), label=form) for i, form in enumerate(("1.0", "01"))]
    assert kinds(log, forms) == [JOINED, JOINED]  # without a vocabulary, these are classes of their own
    assert cells(log) == {("1.0", "1"): 1, ("01", "1"): 1}
    log = open_log()
    log.know_vocabulary("m", 1, Vocabulary("INT64"))
    assert kinds(log, [*forms, Feedback(prediction_id=id_at(3), label="1")]) == [DUPLICATE, DUPLICATE, JOINED]
    assert cells(log) == {("1", "1"): 3}


def test_class_names_that_an_earlier_release_stored_are_still_known(open_log: Open, tmp_path: Path) -> None:
    open_log().close()
    with closing(sqlite3.connect(tmp_path / "predictions.db")) as db:
        db.execute("DROP TABLE vocabularies")
        db.execute("INSERT INTO classes VALUES ('m', 1, '[\"cat\", \"dog\"]')")
        db.commit()
    log = open_log()
    log.record([classes([id_at(1)], ["dog"])])
    assert verdict(log, Feedback(prediction_id=id_at(1), label="1.0")) is JOINED
    assert cells(log) == {("dog", "dog"): 1}


def test_a_truth_observed_in_the_future_is_taken(log: PredictionLog) -> None:
    log.record([classes([id_at(1)], ["cat"])])
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat", observed_ms=int(START_S * 2000))) is JOINED


def test_a_forged_time_in_an_id_finds_nothing(log: PredictionLog) -> None:
    log.record([classes([id_at(1)], ["cat"])])
    assert verdict(log, Feedback(prediction_id=id_at(1, time_s=START_S + 1), label="cat")) is PENDING
    assert log.quality("m")[0].labelled == 0
