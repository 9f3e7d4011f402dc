"""Ten thousand predictions over the real port and their ground truth, out of order, late, repeated, some of it nobody's."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from running import Start, kill
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from tiny import classifier

from gateway.client import AdminClient, CallError, Client, Feedback, Prediction, Verdict

PREDICTIONS = 10_000
CALLERS = 4
LATE = 0.3  # of the labels come after control was killed
TWICE = 500
UNKNOWN = 200


@pytest.mark.slow
def test_every_verdict_is_right_and_quality_is_scikit_learns(
    start: Start, tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    gateway, chance = start(), random.Random(3)
    with AdminClient(gateway.admin) as admin, Client(gateway.data, channels=CALLERS) as client:
        for _ in range(2):
            admin.register("m", classifier(tmp_path / "m.onnx"), prediction=("label", "label")).result()
        admin.deploy("m", 1).result()
        admin.split("m", {"1": 60, "2": 40}).result()
        answers = _predictions(client)
        truths = [int(a["label"][0]) if chance.random() < 0.8 else chance.randrange(3) for a in answers]
        items = [Feedback(prediction_id=a.prediction_id, label=t) for a, t in zip(answers, truths, strict=True)]
        chance.shuffle(items)
        in_time = round(len(items) * (1 - LATE))
        assert _verdicts(client, items[:in_time]) <= {Verdict.JOINED, Verdict.PENDING}
        repeated = chance.sample(items[:in_time], TWICE)
        wait_for(lambda: _verdicts(client, repeated) == {Verdict.DUPLICATE}, what="repeats to be known")

        kill(gateway.note()["control_pid"])
        late = items[in_time:]
        wait_for(lambda: _answered(client, late[:1]), timeout_s=20, what="control to take feedback again")
        assert _verdicts(client, late[1:]) == {Verdict.JOINED}
        # An id of a worker that never was: its epoch is none that control has met.
        strangers = [Feedback(prediction_id=f"0190{chance.getrandbits(112):028x}", label=1) for _ in range(UNKNOWN)]
        assert _verdicts(client, strangers) <= {Verdict.UNKNOWN, Verdict.INVALID, Verdict.EXPIRED}
    _assert_quality(gateway.admin, answers, truths)


def _predictions(client: Client) -> list[Prediction]:
    rows = np.random.default_rng(5).random((PREDICTIONS, 1, 3), dtype=np.float32)
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(lambda row: client.infer("m", {"scores": row}), rows))


def _verdicts(client: Client, items: list[Feedback]) -> set[Verdict]:
    results = client.send_feedback(items)
    assert len(results) == len(items)
    return {result.verdict for result in results}


def _answered(client: Client, items: list[Feedback]) -> bool:
    try:
        return _verdicts(client, items) <= {Verdict.JOINED, Verdict.DUPLICATE}
    except CallError:
        return False


def _assert_quality(address: str, answers: list[Prediction], truths: list[int]) -> None:
    rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for answer, truth in zip(answers, truths, strict=True):
        rows[int(answer.version)].append((truth, int(answer["label"][0])))
    with AdminClient(address) as admin:
        found = {row.version: row for row in admin.quality("m").versions}
    assert sorted(found) == sorted(rows) == [1, 2]
    for version, pairs in rows.items():
        truth, predicted = zip(*pairs, strict=True)
        measured = found[version]
        assert (measured.predictions, measured.labelled) == (len(pairs), len(pairs))
        assert measured.accuracy == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
        assert measured.f1_macro == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-12)
        _, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=[0, 1, 2])
        per_class = {row.label: row for row in measured.classes}
        for label in range(3):
            row = per_class[str(label)]
            assert (row.recall, row.f1, row.support) == pytest.approx((recall[label], f1[label], support[label]), abs=1e-12)
