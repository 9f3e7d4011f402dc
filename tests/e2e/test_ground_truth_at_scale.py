"""Ten thousand predictions of real images meet their truth late, shuffled, twice and past a restart of control."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from running import Start, is_running, kill
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from gateway.client import AdminClient, CallError, Client, Feedback, Verdict
from gateway.demo import models
from gateway.quality.prediction_id import prefix

PREDICTIONS, LATE = 10_000, 0.3
CALLERS = 8
TWICE, CONTRADICTED, UNKNOWN = 500, 300, 200


@dataclass(frozen=True)
class Made:
    """One prediction as its caller saw it."""

    id: str
    version: int
    predicted: int
    truth: int


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, (train, _) = tmp_path_factory.mktemp("digits"), models.scans()
    return [
        models.export(make(train), folder / f"{make.__name__}.onnx") for make in (models.logistic_regression, models.wrecked)
    ]


def predict(address: str) -> list[Made]:
    """So many real predictions, made by several callers."""
    test = models.scans()[1]

    def one_caller(number: int) -> list[Made]:
        made = []
        with Client(address) as client:
            for index in range(number, PREDICTIONS, CALLERS):
                row = index % len(test.digits)
                answer = client.infer("digits", test.images[row : row + 1])
                label = next(array for array in answer.outputs.values() if array.shape == (1,))
                made.append(Made(answer.prediction_id, int(answer.version), int(label[0]), int(test.digits[row])))
        return made

    with ThreadPoolExecutor(CALLERS) as pool:
        return [made for part in pool.map(one_caller, range(CALLERS)) for made in part]


def send(client: Client, items: list[Feedback]) -> list[Verdict]:
    return [result.verdict for result in client.stream_feedback(items, timeout_s=60)]


def label(made: Made, truth: int | None = None) -> Feedback:
    return Feedback(prediction_id=made.id, label=made.truth if truth is None else truth)


@pytest.mark.slow
def test_every_verdict_is_right_and_quality_is_scikit_learns(
    start: Start, files: list[Path], wait_for: Callable[..., object]
) -> None:
    gateway = start(workers=2)
    dice = random.Random(11)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        for file in files:
            admin.register("digits", file).result()
        admin.deploy("digits", 1).result()
        admin.split("digits", {"1": 60, "2": 40}).result()
        made = predict(gateway.data)
        assert len({one.id for one in made}) == PREDICTIONS
        wait_for(lambda: sum(v.predictions for v in admin.quality("digits").versions) == PREDICTIONS, what="all recorded")
        dice.shuffle(made)
        cut = int(PREDICTIONS * (1 - LATE))
        early, late = made[:cut], made[cut:]
        assert send(client, [label(one) for one in early]) == [Verdict.JOINED] * cut

        control = gateway.note()["control_pid"]
        kill(control)
        wait_for(lambda: not is_running(control))
        wait_for(lambda: _answers(admin), timeout_s=20, what="control to be back")

        expected = [(label(one), Verdict.JOINED) for one in late]
        expected += [(label(one), Verdict.DUPLICATE) for one in dice.sample(early, TWICE)]
        expected += [(label(one, (one.truth + 1) % 10), Verdict.CONFLICT) for one in dice.sample(early, CONTRADICTED)]
        strangers = [f"{prefix(1_700_000_000_000 + i, dice.getrandbits(26))}{i:012x}" for i in range(UNKNOWN)]
        expected += [(Feedback(prediction_id=one, label=3), Verdict.UNKNOWN) for one in strangers]
        dice.shuffle(expected)
        assert send(client, [item for item, _ in expected]) == [verdict for _, verdict in expected]
        _check_quality(admin, made)


def _answers(admin: AdminClient) -> bool:
    try:
        return all(worker.state == "serving" for worker in admin.status().workers)
    except CallError:
        return False


def _check_quality(admin: AdminClient, made: list[Made]) -> None:
    by_version: dict[int, list[Made]] = defaultdict(list)
    for one in made:
        by_version[one.version].append(one)
    found = {version.version: version for version in admin.quality("digits").versions}
    assert set(found) == set(by_version) == {1, 2}
    for number, rows in by_version.items():
        truth, predicted = [one.truth for one in rows], [one.predicted for one in rows]
        precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)
        quality = found[number]
        assert (quality.predictions, quality.labelled) == (len(rows), len(rows))
        np.testing.assert_allclose(
            [quality.accuracy, quality.precision_macro, quality.recall_macro, quality.f1_macro],
            [accuracy_score(truth, predicted), precision, recall, f1],
            rtol=1e-12,
        )
    assert sum(version.corrections for version in found.values()) == CONTRADICTED
