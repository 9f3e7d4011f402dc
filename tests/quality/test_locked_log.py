"""A prediction log that is locked or cannot be written: figures are read, callers are told, and what was lost is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from quality_makers import EPOCH, classes, id_at, verdict
from structlog.testing import capture_logs

from gateway.contract.feedback import Feedback, VerdictKind
from gateway.errors import NotReady
from gateway.quality.log import PredictionLog
from gateway.quality.log.dropped import DroppedPredictions


@pytest.fixture
def locked(log: PredictionLog, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that has locked the log's file for writing; the log itself waits for nobody."""
    other = sqlite3.connect(tmp_path / "predictions.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_figures_and_quality_are_read_while_a_writer_waits_for_the_file(
    log: PredictionLog, locked: sqlite3.Connection, wait_for: Callable[..., object]
) -> None:
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(log.record, [classes([id_at(1)], ["cat"])])
        wait_for(log._lock.locked, what="a writer that waits")
        assert (log.counts().recorded, log.coverage(), log.pending(), log.quality("m")) == (0, 1.0, 0, ())
        assert not writing.done()
        locked.execute("ROLLBACK")
        writing.result(timeout=20)
    assert log.counts().recorded == 1


def test_callers_who_bring_labels_are_told_soon_that_the_file_is_locked(log: PredictionLog, locked: sqlite3.Connection) -> None:
    with pytest.raises(NotReady, match="cannot be written now"):
        log.accept([Feedback(prediction_id=id_at(1), label="cat")])


def test_feedback_for_a_prediction_that_was_dropped_is_told_so(log: PredictionLog, tmp_path: Path) -> None:
    spoiler = sqlite3.connect(tmp_path / "predictions.db", isolation_level=None)
    spoiler.execute("CREATE TRIGGER no_room BEFORE INSERT ON predictions BEGIN SELECT RAISE(ABORT, 'no room'); END")
    log.record([classes([id_at(1)], ["cat"], own=["own-1"])])
    spoiler.execute("DROP TRIGGER no_room")
    spoiler.close()
    dropped = log.accept([Feedback(prediction_id=id_at(1), label="cat"), Feedback(inference_id="own-1", label="cat")])
    assert [(one.kind, "dropped" in one.detail) for one in dropped] == [(VerdictKind.UNKNOWN, True)] * 2
    assert verdict(log, Feedback(prediction_id=id_at(2), label="cat")) is VerdictKind.PENDING


def test_of_many_dropped_predictions_the_last_are_remembered() -> None:
    dropped = DroppedPredictions(limit=2)
    for counter in range(1, 4):
        dropped.add([classes([id_at(counter)], ["cat"])])
    assert [dropped.has(EPOCH, counter) for counter in (1, 2, 3)] == [False, True, True]
    assert not dropped.has(EPOCH + 1, 3)


def test_a_log_that_drops_everything_logs_it_with_a_rate(log: PredictionLog, tmp_path: Path) -> None:
    spoiler = sqlite3.connect(tmp_path / "predictions.db")
    spoiler.execute("DROP TABLE predictions")
    spoiler.close()
    with capture_logs() as lines:
        for counter in range(50):
            log.record([classes([id_at(counter)], ["cat"])])
    assert log.counts().dropped == 50
    assert len([line for line in lines if line["event"] == "predictions_dropped"]) <= 1
