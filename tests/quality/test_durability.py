"""What was accepted is kept: over restarts, kills, threads, and within the bound of bytes."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from quality_makers import EPOCH, START_S, MovableClock, batch_of, classes, id_at, kinds, values, verdict
from sklearn import metrics as oracle

from gateway.clock import SystemClock
from gateway.contract.feedback import Feedback, VerdictKind
from gateway.contract.predictions import PredictionBatch
from gateway.errors import ForbiddenNow, NotReady
from gateway.quality.log import PredictionLog
from gateway.quality.log.log_tables import open_reader, used_bytes
from gateway.settings.sections import PredictionSettings

Open = Callable[..., PredictionLog]


def _as_made(count: int, *, seed: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Ids, predictions, truths and arms of ``count`` predictions over the last ten minutes."""
    rng = random.Random(seed)
    truths = [str(rng.randrange(10)) for _ in range(count)]
    predicted = [truth if rng.random() < 0.8 else str(rng.randrange(10)) for truth in truths]
    ids = [id_at(i, time_s=START_S - 600 + i * 600 / count) for i in range(count)]
    return ids, predicted, truths, [rng.choice(("default", "candidate")) for _ in range(count)]


def _batches(ids: list[str], predicted: list[str], arms: list[str]) -> list[PredictionBatch]:
    return [
        batch_of(
            ids[a : a + 32],
            "class",
            (1,) * len(ids[a : a + 32]),
            arms=arms[a : a + 32],
            own=[f"own-{i}" for i in ids[a : a + 32]],
            labels=tuple(predicted[a : a + 32]),
        )
        for a in range(0, len(ids), 32)
    ]


def test_ten_thousand_labels_in_any_order_meet_their_predictions_over_a_restart(open_log: Open) -> None:
    count = 10_000
    ids, predicted, truths, arms = _as_made(count, seed=5)
    rng = random.Random(11)
    order = rng.sample(range(count), count)
    batches = _batches(ids, predicted, arms)
    early = {i for i in order if i // 32 * 32 >= count * 0.9}  # labelled before their predictions are recorded
    log = open_log()
    log.record([b for b in batches if b.counters[0] < count * 0.9])
    sent: dict[int, str] = {}
    expected, found = [], []

    def send(part: list[int]) -> None:
        items = []
        for i in part:
            name = {"prediction_id": ids[i]} if rng.random() < 0.7 else {"inference_id": f"own-{ids[i]}"}
            items.append(Feedback(label=truths[i], **name))  # type: ignore[arg-type]
            expected.append(VerdictKind.PENDING if i in early else VerdictKind.JOINED)
            sent[i] = truths[i]
            if rng.random() < 0.1:
                again = rng.choice((truths[i], "wrong"))
                items.append(Feedback(label=again, **name))  # type: ignore[arg-type]
                expected.append(VerdictKind.DUPLICATE if again == truths[i] else VerdictKind.CONFLICT)
            if rng.random() < 0.05:
                items.append(Feedback(prediction_id=id_at(i, epoch=EPOCH + 9), label="1"))
                expected.append(VerdictKind.UNKNOWN)
        found.extend(kinds(log, items))

    for start in range(0, 7000, 500):
        send(order[start : start + 500])
    log = open_log()
    log.record([b for b in batches if b.counters[0] >= count * 0.9])
    early.clear()
    for start in range(7000, count, 500):
        send(order[start : start + 500])

    assert Counter(zip(expected, found, strict=True)) == Counter(zip(expected, expected, strict=True))
    assert log.pending() == 0
    for one in log.quality("m"):
        mine = [i for i in sent if arms[i] == one.arm]
        truth, guess = [truths[i] for i in mine], [predicted[i] for i in mine]
        report = one.class_report
        assert report is not None
        assert one.labelled == one.predictions == len(mine)
        assert report.accuracy == pytest.approx(oracle.accuracy_score(truth, guess), abs=1e-12)
        macro = oracle.precision_recall_fscore_support(truth, guess, average="macro", zero_division=0)[:3]
        assert (report.precision_macro, report.recall_macro, report.f1_macro) == pytest.approx(macro, abs=1e-12)


def test_a_window_holds_exactly_the_predictions_made_in_it(open_log: Open) -> None:
    log = open_log()
    ids, predicted, truths, arms = _as_made(3000, seed=3)
    log.record(_batches(ids, predicted, arms))
    log.accept([Feedback(prediction_id=i, label=t) for i, t in zip(ids, truths, strict=True)])
    for window_s in (0.5, 17.3, 60, 123.4, 599):
        inside = [i for i in range(3000) if int(ids[i][:8] + ids[i][9:13], 16) >= int(START_S * 1000) - int(window_s * 1000)]
        got = log.quality("m", window_s)
        assert sum(one.predictions for one in got) == sum(one.labelled for one in got) == len(inside)
    assert sum(one.predictions for one in log.quality("m")) == 3000


def test_predictions_that_come_twice_count_once(open_log: Open) -> None:
    log = open_log()
    log.record([classes([id_at(1)], ["a"])])
    log.record([classes([id_at(1), id_at(2)], ["a", "b"])])
    assert [one.predictions for one in log.quality("m")] == [2]
    assert log.counts().recorded == 2


def test_regression_equals_scikit_learn_and_counts_what_is_not_finite(log: PredictionLog) -> None:
    rng = np.random.default_rng(2)
    truth = 1e6 + rng.normal(size=500)
    predicted = truth + rng.normal(scale=0.3, size=500)
    ids = [id_at(i) for i in range(502)]
    log.record([values(ids, [*predicted.tolist(), float("nan"), float("inf")])])
    log.accept([Feedback(prediction_id=i, value=v) for i, v in zip(ids, [*truth.tolist(), 1.0, 1.0], strict=True)])
    (one,) = log.quality("m")
    assert (one.predictions, one.labelled, one.not_finite) == (502, 502, 2)
    report = one.value_report
    assert report is not None
    assert report.mae == pytest.approx(oracle.mean_absolute_error(truth, predicted), rel=1e-12)
    assert report.rmse == pytest.approx(oracle.root_mean_squared_error(truth, predicted), rel=1e-12)
    assert report.r2 == pytest.approx(oracle.r2_score(truth, predicted), rel=1e-12)


_WRITER = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from quality_makers import EPOCH, classes, id_at
from gateway.clock import SystemClock
from gateway.contract.feedback import Feedback
from gateway.quality.log import PredictionLog
from gateway.settings.sections import PredictionSettings
log = PredictionLog(Path(sys.argv[1]), PredictionSettings(), SystemClock())
log.know_epoch(EPOCH, "w")
now_s = float(sys.argv[3])
for i in range(10**6):
    log.record([classes([id_at(i, time_s=now_s)], ["a"])])
    log.accept([Feedback(prediction_id=id_at(i, time_s=now_s), label="a"), Feedback(inference_id=f"own-{i}", label="a")])
    print(i, flush=True)
"""


def test_kill_9_of_the_writer_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    path, clock = tmp_path / "predictions.db", SystemClock()
    accepted = 0
    for after in (3, 40, 150):
        now_s = clock.now()
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(Path(__file__).parent), str(now_s)],
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            for _ in range(after):
                assert writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
            told = after + len(writer.stdout.read().split())
        accepted += told
        log = PredictionLog(path, PredictionSettings(), clock)
        (one,) = log.quality("m")
        assert one.labelled >= accepted
        assert log.pending() >= after
        items = [Feedback(prediction_id=id_at(i, time_s=now_s), label="a") for i in range(told)]
        assert set(kinds(log, items)) == {VerdictKind.DUPLICATE}
        log.close()


def test_the_byte_bound_drops_the_oldest_and_keeps_the_newest(open_log: Open, tmp_path: Path) -> None:
    bound = 1_000_000
    log = open_log(prediction_bytes=bound)
    ids = [id_at(i, time_s=START_S - 600 + i * 0.01) for i in range(60_000)]
    log.record([classes(ids, ["cat"] * len(ids))])
    log.accept([Feedback(prediction_id=i, label="cat") for i in ids[::6]])
    for _ in range(3):
        log.tick()
    reader = open_reader(tmp_path / "predictions.db")
    assert used_bytes(reader) <= bound
    reader.close()
    assert verdict(log, Feedback(prediction_id=ids[1], label="cat")) is VerdictKind.EXPIRED
    assert verdict(log, Feedback(prediction_id=ids[-2], label="cat")) is VerdictKind.JOINED
    (one,) = log.quality("m")
    assert 5_000 < one.predictions < 50_000
    kept = [i for i in range(0, 60_000, 6) if i >= 60_000 - one.predictions]
    assert one.labelled == len(kept) + 1


def test_a_file_beyond_the_bound_shrinks(open_log: Open, tmp_path: Path) -> None:
    log = open_log(prediction_bytes=500_000)
    log.record([classes([id_at(i, time_s=START_S - 60 + i * 0.001) for i in range(50_000)], ["cat"] * 50_000)])
    for _ in range(8):
        log.tick()
    log.close()
    assert (tmp_path / "predictions.db").stat().st_size <= 600_000


def test_a_big_expiry_is_spread_over_ticks(open_log: Open, clock: MovableClock) -> None:
    log = open_log(prediction_window_s=60)
    log.record([classes([id_at(i, time_s=START_S + i * 1e-3) for i in range(250_000)], ["cat"] * 250_000)])
    clock.advance(3600)
    log.tick()
    left = sum(one.predictions for one in log.quality("m"))
    assert 0 < left < 250_000
    for _ in range(3):
        log.tick()
    assert log.quality("m") == ()


def test_threads_record_accept_and_read_at_the_same_time(open_log: Open) -> None:
    log = open_log()
    with ThreadPoolExecutor(5) as pool:
        recording = [pool.submit(_record_half, log, part) for part in (0, 1)]
        accepting = [pool.submit(_accept_half, log, part) for part in (0, 1)]
        reading = pool.submit(_read, log)
        for running in (*recording, reading):
            running.result(timeout=60)
        answers = accepting[0].result(timeout=60) + accepting[1].result(timeout=60)
    assert sum(answers.values()) == 4000
    assert set(answers) <= {VerdictKind.JOINED, VerdictKind.PENDING, VerdictKind.DUPLICATE}
    assert log.pending() == 0
    (one,) = log.quality("m")
    assert (one.predictions, one.labelled, one.corrections) == (2000, 2000, 0)


def _record_half(log: PredictionLog, part: int) -> None:
    for i in range(part, 2000, 2):
        log.record([classes([id_at(i)], ["cat"], own=[f"own-{i}"])])


def _accept_half(log: PredictionLog, part: int) -> Counter[VerdictKind]:
    answers: Counter[VerdictKind] = Counter()
    for i in range(part, 2000, 2):
        items = [Feedback(prediction_id=id_at(i), label="cat"), Feedback(inference_id=f"own-{i}", label="cat")]
        answers.update(kinds(log, items))
    return answers


def _read(log: PredictionLog) -> None:
    for _ in range(100):
        for one in log.quality("m"):
            assert one.labelled <= one.predictions
        log.tick()


def test_a_malformed_batch_is_dropped_and_counted(log: PredictionLog) -> None:
    log.record([batch_of([id_at(1)], "class", [2], labels=("a",)), classes([id_at(2)], ["b"])])
    assert (log.counts().recorded, log.counts().dropped) == (1, 1)
    assert log.coverage() == 0.5


def test_a_log_that_cannot_be_written_refuses_labels_and_drops_predictions(log: PredictionLog, tmp_path: Path) -> None:
    spoiler = sqlite3.connect(tmp_path / "predictions.db")
    spoiler.execute("DROP TABLE labels")
    spoiler.execute("DROP TABLE predictions")
    spoiler.close()
    log.record([classes([id_at(1)], ["cat"])])
    assert log.counts().dropped == 1
    with pytest.raises(NotReady, match="cannot be written"):
        log.accept([Feedback(prediction_id=id_at(1), label="cat")])


def test_a_file_of_a_newer_release_is_refused(open_log: Open, tmp_path: Path) -> None:
    open_log().close()
    newer = sqlite3.connect(tmp_path / "predictions.db")
    newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(ForbiddenNow, match="newer release"):
        PredictionLog(tmp_path / "predictions.db", PredictionSettings(), SystemClock())


def test_a_damaged_file_is_set_aside_and_the_gateway_starts(tmp_path: Path, clock: MovableClock) -> None:
    path = tmp_path / "predictions.db"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    log = PredictionLog(path, PredictionSettings(), clock)
    log.record([classes([id_at(1)], ["cat"])])
    assert verdict(log, Feedback(prediction_id=id_at(1), label="cat")) is VerdictKind.JOINED
    log.close()
    (kept,) = tmp_path.glob("predictions.db.damaged-*")
    assert kept.read_bytes().startswith(b"this is no database")


def test_a_log_that_cannot_be_opened_says_which(tmp_path: Path, clock: MovableClock) -> None:
    with pytest.raises(NotReady, match=r"nowhere/predictions\.db cannot be opened"):
        PredictionLog(tmp_path / "nowhere" / "predictions.db", PredictionSettings(), clock)


def test_quality_over_minutes_is_that_of_all_rows_however_they_came(open_log: Open) -> None:
    rng = np.random.default_rng(8)
    truth, predicted = 50 + rng.normal(size=4000), 50 + rng.normal(size=4000)
    ids = [id_at(i, time_s=START_S - 400 + i * 0.1) for i in range(4000)]
    log = open_log()
    for part in np.array_split(rng.permutation(4000), 13):
        log.record([values([ids[i] for i in part], predicted[part].tolist())])
        log.accept([Feedback(prediction_id=ids[i], value=float(truth[i])) for i in part])
    for window_s in (33.3, 250.0, 0):
        inside = slice(0 if not window_s else int(4000 - window_s * 10), None)
        (one,) = log.quality("m", window_s)
        report = one.value_report
        assert report is not None
        assert report.r2 == pytest.approx(oracle.r2_score(truth[inside], predicted[inside]), rel=1e-12)
        assert report.mae == pytest.approx(oracle.mean_absolute_error(truth[inside], predicted[inside]), rel=1e-12)
