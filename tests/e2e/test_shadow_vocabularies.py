"""A shadow that calls the same classes by other words is compared by its scores; one that cannot be compared is told."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Running
from tiny import fraud

from gateway.cli import main
from gateway.client import AdminClient, Client

ROWS, REQUESTS = 30, 10
WORDS = ("ok", "fraud")


@pytest.fixture
def admin(gateway: Running) -> Iterator[AdminClient]:
    with AdminClient(gateway.admin) as client:
        yield client


def _shadow(gateway: Running, model: str) -> dict[str, float]:
    """The counts of a model's shadow, by the words in the metrics' names."""
    with urllib.request.urlopen(f"http://{gateway.http}/metrics", timeout=10) as page:
        text = page.read().decode()
    found = re.findall(rf'^interlock_shadow_(\w+?)(?:_total)?{{model="{model}",primary=.*}} (.*)$', text, re.MULTILINE)
    return {name: float(number) for name, number in found}


def _shadowed(gateway: Running, model: str, wait_for: Callable[..., Any]) -> dict[str, float]:
    """The counts of the shadow after all copies of some requests, in which a shift of 0.02 changes no class."""
    x = np.random.default_rng(1).random((REQUESTS, ROWS, 2), np.float32)
    x[..., 0] += np.where(x[..., 0] > x[..., 1], 0.5, -0.5)
    with Client(gateway.data) as client:
        for rows in x:
            client.infer(model, {"x": rows})

    def done() -> dict[str, float] | None:
        counts = _shadow(gateway, model)
        numbers = counts.get("values", 0) / (2 * ROWS)
        return counts if numbers + counts.get("dropped", 0) >= REQUESTS else None

    return wait_for(done)  # type: ignore[no-any-return]


def test_other_words_for_the_same_classes_are_compared_by_the_scores(
    gateway: Running, admin: AdminClient, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    admin.register("words", fraud(tmp_path / "1.onnx")).result()
    admin.register("words", fraud(tmp_path / "2.onnx", shift=0.02, words=WORDS)).result()
    admin.deploy("words", 1).result()
    operation = admin.shadow("words", 2, force=True).result()
    assert list(operation.warnings) == []
    counts = _shadowed(gateway, "words", wait_for)
    assert (counts["compared"] > 0, counts["disagreed"]) == (True, 0)
    assert counts["abs_diff_max"] == pytest.approx(0.02, abs=1e-5)


def test_names_of_score_columns_that_differ_are_matched_by_position(
    gateway: Running, admin: AdminClient, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    for number, classes in enumerate((("0", "1"), WORDS), 1):
        file = fraud(tmp_path / f"{number}.onnx", shift=0.02 * number)
        admin.register("named", file, prediction=("probabilities", "scores"), classes=classes).result()
    admin.deploy("named", 1).result()
    assert list(admin.shadow("named", 2).result().warnings) == []
    counts = _shadowed(gateway, "named", wait_for)
    assert (counts["compared"] > 0, counts["disagreed"]) == (True, 0)


def test_a_shadow_that_cannot_be_compared_is_told_when_it_starts_and_counts_no_disagreement(
    gateway: Running, admin: AdminClient, tmp_path: Path, wait_for: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    admin.register("strange", fraud(tmp_path / "1.onnx", scores="")).result()
    admin.register("strange", fraud(tmp_path / "2.onnx", words=WORDS)).result()
    admin.deploy("strange", 1).result()
    capsys.readouterr()
    assert main(["shadow", "strange", "2", "--force", "--json", "--admin", gateway.admin]) == 0
    printed = capsys.readouterr()
    expected = "shadow version 2 cannot be compared with version 1: their classes have no words in common"
    assert expected in printed.err
    assert expected in json.loads(printed.out)["operation"]["warnings"][0]
    with Client(gateway.data) as client:
        client.infer("strange", {"x": np.zeros((1, 2), np.float32)})
    counts = wait_for(lambda: _shadow(gateway, "strange"))
    assert (counts["compared"], counts["disagreed"]) == (0, 0)
