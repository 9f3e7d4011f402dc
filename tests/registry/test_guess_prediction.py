"""Which output is taken for the prediction, and which word about it is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skl2onnx
from sklearn.linear_model import LinearRegression, LogisticRegression

from registry.errors import InvalidValue
from registry.onnx_file import read_model
from registry.prediction import check_prediction, guess_prediction
from registry.signature import Signature, TensorSpec
from registry.versions import Prediction, PredictionKind

LABEL, SCORES, VALUE = PredictionKind.LABEL, PredictionKind.SCORES, PredictionKind.VALUE


def outputs(*specs: tuple[str, str, tuple[int, ...]]) -> Signature:
    return Signature((), tuple(TensorSpec(*spec) for spec in specs))


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (outputs(("output_label", "INT64", (-1,)), ("probabilities", "FP32", (-1, 10))), ("output_label", LABEL)),
        (outputs(("probabilities", "FP32", (-1, 10)), ("label", "BYTES", (-1,))), ("label", LABEL)),
        (outputs(("Label", "INT32", (-1, 1))), ("Label", LABEL)),
        (outputs(("labels", "INT64", (-1, 5)), ("probs", "FP32", (-1, 5))), ("probs", SCORES)),
        (outputs(("logits", "FP16", (-1, -1))), ("logits", SCORES)),
        (outputs(("y", "FP32", (-1, 3))), ("y", SCORES)),
        (outputs(("embedding", "FP32", (-1, 64)), ("scores", "FP32", (-1, 3))), ("scores", SCORES)),
        (outputs(("variable", "FP32", (-1, 1))), ("variable", VALUE)),
        (outputs(("price", "FP64", (-1,))), ("price", VALUE)),
        (outputs(("y", "FP32", (-1, -1))), None),
        (outputs(("a", "FP32", (-1,)), ("b", "FP32", (-1,))), None),
        (outputs(("a", "FP32", (-1, 3)), ("b", "FP32", (-1, 4))), None),
        (outputs(("y", "INT64", (-1,))), None),
        (outputs(("y", "FP32", ())), None),
        (outputs(("y", "FP32", (-1, 3, 4))), None),
        (outputs(), None),
        (Signature((), (TensorSpec("label", "INT64", (), is_ranked=False),)), None),
    ],
)
def test_the_prediction_is_read_from_names_types_and_shapes(signature: Signature, expected: tuple | None) -> None:
    guess = guess_prediction(signature)
    assert guess == (None if expected is None else Prediction(*expected))
    if guess:
        check_prediction(signature, guess)


@pytest.mark.parametrize(("model", "kind"), [(LogisticRegression(), LABEL), (LinearRegression(), VALUE)])
def test_real_exports_are_recognised(tmp_path: Path, model, kind: PredictionKind) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    model.fit(rows, [0, 1, 2, 0, 1, 2])
    exported = skl2onnx.to_onnx(model, rows, options={"zipmap": False} if kind is LABEL else None)
    (tmp_path / "model.onnx").write_bytes(exported.SerializeToString())
    guess = guess_prediction(read_model(tmp_path / "model.onnx").signature)
    assert guess is not None
    assert guess.kind is kind


CLASSIFIER = outputs(("label", "INT64", (-1,)), ("probs", "FP32", (-1, 3)), ("text", "BYTES", (-1, 2)))


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (Prediction("nope", LABEL), "no output 'nope'; the model has 'label', 'probs', 'text'"),
        (Prediction("probs", LABEL), "expected one label a row"),
        (Prediction("text", LABEL), "one label a row"),
        (Prediction("label", LABEL, ("a",)), "scores only"),
        (Prediction("label", SCORES), "floating-point"),
        (Prediction("probs", SCORES, ("a", "b")), "2 class names for 3 columns"),
        (Prediction("probs", SCORES, ("a", "b", "a")), "must differ"),
        (Prediction("text", VALUE), "a value is a number"),
        (Prediction("probs", VALUE), "one number a row"),
    ],
)
def test_a_prediction_that_cannot_be_read_is_refused(prediction: Prediction, words: str) -> None:
    with pytest.raises(InvalidValue, match="prediction") as error:
        check_prediction(CLASSIFIER, prediction)
    assert words in str(error.value)


@pytest.mark.parametrize("prediction", [Prediction("label", LABEL), Prediction("probs", SCORES, ("a", "b", "c"))])
def test_a_prediction_that_fits_is_taken(prediction: Prediction) -> None:
    check_prediction(CLASSIFIER, prediction)
