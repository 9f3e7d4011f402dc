"""Ground truth in the forms in which people send it, against real models of every kind of label."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from running import Running
from tiny import cast_label, false_scores

from gateway.cli import main
from gateway.client import AdminClient, Client, Feedback, Verdict
from gateway.client.call_errors import CallError

LABELS = [("INT64", TensorProto.INT64, "1"), ("BOOL", TensorProto.BOOL, "True"), ("FP32", TensorProto.FLOAT, "1")]


@pytest.fixture
def admin(gateway: Running) -> Iterator[AdminClient]:
    with AdminClient(gateway.admin) as client:
        yield client


@pytest.fixture
def client(gateway: Running) -> Iterator[Client]:
    with Client(gateway.data) as made:
        yield made


def _labelled(admin: AdminClient, model: str, wait_for: Callable[..., Any]) -> Any:
    return wait_for(lambda: next((one for one in admin.quality(model).versions if one.labelled), None))


@pytest.mark.parametrize(("model", "datatype", "form"), LABELS, ids=[name for name, _, _ in LABELS])
def test_every_way_to_write_a_label_is_the_class_that_was_predicted(
    gateway: Running,
    admin: AdminClient,
    client: Client,
    tmp_path: Path,
    wait_for: Callable[..., Any],
    model: str,
    datatype: int,
    form: str,
) -> None:
    admin.register(model, cast_label(tmp_path / "m.onnx", datatype), prediction=("label", "label")).result()
    admin.deploy(model, 1).result()
    labels = ["1", "1.0", " 1", "01", 1, 1.0, True]
    lines = []
    for label in labels:
        answer = client.infer(model, {"x": np.ones(1, np.float32)})
        lines.append(json.dumps({"prediction_id": answer.prediction_id, "label": label}))
    (tmp_path / "truth.jsonl").write_text("\n".join(lines))
    assert main(["feedback", "--file", str(tmp_path / "truth.jsonl"), "--data", gateway.data, "--json"]) == 0
    wait_for(lambda: sum(one.labelled for one in admin.quality(model).versions) == len(labels))
    quality = _labelled(admin, model, wait_for)
    assert [(cell.truth, cell.predicted, cell.count) for cell in quality.confusion] == [(form, form, len(labels))]
    assert quality.accuracy == 1.0


def test_a_class_that_the_version_cannot_predict_is_invalid(
    admin: AdminClient, client: Client, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    classes = ["a", "b", "c"]
    file = false_scores(tmp_path / "m.onnx", declared=3, columns=3)
    admin.register("named", file, prediction=("probs", "scores"), classes=classes).result()
    admin.deploy("named", 1).result()
    answer = client.infer("named", {"x": np.ones((1, 2), np.float32)})
    wait_for(lambda: any(one.predictions for one in admin.quality("named").versions))
    found = client.send_feedback(
        [Feedback(prediction_id=answer.prediction_id, label=label) for label in ("zzz", 7, "B", "1.0")]
    )
    assert [one.verdict for one in found] == [Verdict.INVALID, Verdict.INVALID, Verdict.INVALID, Verdict.JOINED]
    assert found[0].detail == "label: named version 1: expected a class of 'a', 'b', 'c' or its index, got 'zzz'"
    quality = _labelled(admin, "named", wait_for)
    assert [(cell.truth, cell.predicted) for cell in quality.confusion] == [("b", "a")]


def test_more_class_names_than_columns_are_refused_at_registration(admin: AdminClient, tmp_path: Path) -> None:
    file = false_scores(tmp_path / "m.onnx", declared=10, columns=7)
    with pytest.raises(CallError, match="10 class names for 7 columns"):
        admin.register("false", file, prediction=("probs", "scores"), classes=[f"c{i}" for i in range(10)]).result()
