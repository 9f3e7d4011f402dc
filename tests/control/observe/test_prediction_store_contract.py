"""What control may rely on in a prediction store: one suite for the fake of control's tests and for the log on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from control_fakes import FakeLog, SetClock

from gateway.contract.feedback import Feedback, VerdictKind
from gateway.contract.predictions import PredictionBatch
from gateway.quality.log import PredictionLog
from gateway.quality.prediction_id import prefix
from gateway.quality.prediction_store import PredictionStore
from gateway.quality.vocabulary import Vocabulary
from gateway.settings.sections import PredictionSettings

EPOCH = 4242
NOW_MS = int(SetClock().time * 1000)


@pytest.fixture(params=["fake log", "log on SQLite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PredictionStore]:
    """An empty store that knows the epoch."""
    log = PredictionLog(tmp_path / "predictions.db", PredictionSettings(), SetClock())
    made: PredictionStore = FakeLog() if request.param == "fake log" else log
    made.know_epoch(EPOCH, "life-1")
    yield made
    log.close()


def id_of(counter: int, *, epoch: int = EPOCH) -> str:
    return f"{prefix(NOW_MS, epoch)}{counter:012x}"


def predictions(*counters: int) -> PredictionBatch:
    n = len(counters)
    return PredictionBatch(
        model="digits",
        version=1,
        arms=("default",) * n,
        kind="class",
        epoch=EPOCH,
        times_ms=(NOW_MS,) * n,
        counters=counters,
        inference_ids=("",) * n,
        rows=(1,) * n,
        labels=("cat",) * n,
    )


def label(counter: int, text: str = "cat", **more: object) -> Feedback:
    return Feedback(prediction_id=id_of(counter, **more), label=text)


def test_there_is_one_verdict_per_item_in_their_order(store: PredictionStore) -> None:
    store.record([predictions(1, 2)])
    items = [label(2), label(9), label(1), label(1), label(1, "dog"), label(1, epoch=EPOCH + 1), Feedback()]
    assert [verdict.kind for verdict in store.accept(items)] == [
        VerdictKind.JOINED,
        VerdictKind.PENDING,
        VerdictKind.JOINED,
        VerdictKind.DUPLICATE,
        VerdictKind.CONFLICT,
        VerdictKind.UNKNOWN,
        VerdictKind.INVALID,
    ]
    assert store.accept([]) == []


def test_labels_that_wait_are_counted(store: PredictionStore) -> None:
    assert store.pending() == 0
    store.accept([label(1), label(2)])
    assert store.pending() == 2


def test_predictions_that_come_twice_are_recorded_once(store: PredictionStore) -> None:
    store.record([predictions(1, 2)])
    store.record([predictions(2, 3), predictions(3)])
    assert store.counts().recorded == 3


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_coverage_falls_with_what_was_lost_on_the_way(store: PredictionStore, lost: int) -> None:
    store.record([predictions(1, 2, 3)])
    assert store.coverage(lost) == 3 / (3 + lost)


def test_counts_that_were_read_do_not_change(store: PredictionStore) -> None:
    before = store.counts()
    store.record([predictions(1)])
    assert (before.recorded, store.counts().recorded) == (0, 1)


def test_a_model_without_predictions_has_no_quality(store: PredictionStore) -> None:
    assert store.quality("other") == ()
    assert store.quality_of_all() == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.tick(),
        lambda s: s.know_epoch(EPOCH, "life-1"),
        lambda s: s.know_vocabulary("m", 1, Vocabulary("", ("a", "b"), 2)),
    ],
)
def test_what_may_be_called_at_any_time_and_again(store: PredictionStore, call: Callable[[PredictionStore], None]) -> None:
    call(store)
    call(store)
    store.record([predictions(1)])
    assert [verdict.kind for verdict in store.accept([label(1)])] == [VerdictKind.JOINED]
