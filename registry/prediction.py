"""The output that is a model's prediction: a guess from the signature, and a check of what the registration said. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from registry.errors import InvalidValue
from registry.names import class_text
from registry.signature import Signature, TensorSpec
from registry.versions import Prediction, PredictionKind

_INTEGERS = frozenset("UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64".split())
_FLOATS = frozenset("FP16 BF16 FP32 FP64".split())
_LABEL_NAME = re.compile(r"label|class(?!es)", re.IGNORECASE)
_SCORE_NAME = re.compile(r"prob|score|logit", re.IGNORECASE)


def guess_prediction(signature: Signature) -> Prediction | None:
    """
    Returns the output that looks like the prediction: a label per row by its name, else scores per row by their name or
    shape, else the only output if it is one number per row. None if no output does.
    """
    for spec in signature.outputs:
        if _LABEL_NAME.search(spec.name) and spec.datatype in _INTEGERS | {"BYTES", "BOOL"} and _is_one_a_row(spec):
            return Prediction(spec.name, PredictionKind.LABEL)
    scores = [spec for spec in signature.outputs if _is_scores(spec)]
    named = [spec for spec in scores if _SCORE_NAME.search(spec.name)]
    fixed = [spec for spec in scores if spec.shape[1] > 1]
    for candidates in (named, fixed):
        if len(candidates) == 1:
            return Prediction(candidates[0].name, PredictionKind.SCORES)
    if len(signature.outputs) == 1 and signature.outputs[0].datatype in _FLOATS and _is_one_a_row(signature.outputs[0]):
        return Prediction(signature.outputs[0].name, PredictionKind.VALUE)
    return None


def named_scores(prediction: Prediction | None, classes: Mapping[str, tuple[str, ...]]) -> Prediction | None:
    """
    Returns the prediction with the class names that the file itself gives for outputs, by name: those of its scores if it
    has no others, or, if nothing was said, of the only such output, which then is the prediction.
    """
    if prediction is None and len(classes) == 1:
        ((output, names),) = classes.items()
        return Prediction(output, PredictionKind.SCORES, names)
    if prediction is None or prediction.kind is not PredictionKind.SCORES or prediction.classes:
        return prediction
    return replace(prediction, classes=classes.get(prediction.output, ()))


def check_prediction(signature: Signature, prediction: Prediction) -> None:
    """Raises InvalidValue if the output does not exist or cannot be read as that kind."""
    spec = next((output for output in signature.outputs if output.name == prediction.output), None)
    if spec is None:
        names = ", ".join(repr(output.name) for output in signature.outputs)
        raise InvalidValue(
            f"prediction.output: no output {prediction.output!r}; the model has {names}", field="prediction.output"
        )
    check = {PredictionKind.LABEL: _label_problem, PredictionKind.SCORES: _scores_problem, PredictionKind.VALUE: _value_problem}
    problem = check[prediction.kind](spec, prediction)
    if problem:
        raise InvalidValue(
            f"prediction: output {spec} cannot be read as {prediction.kind}: {problem}", field="prediction", output=spec.name
        )


def columns_problem(classes: tuple[str, ...], columns: int) -> str:
    """Returns why these class names cannot name ``columns`` scores (-1: not known); empty if they can, or there are none."""
    return f"{len(classes)} class names for {columns} columns" if classes and columns not in (-1, len(classes)) else ""


def _label_problem(spec: TensorSpec, prediction: Prediction) -> str:
    if spec.datatype not in _INTEGERS | _FLOATS | {"BYTES", "BOOL"}:
        return "a label is a number, a boolean or a string"
    if prediction.classes:
        return "class names belong to scores only"
    return "" if _may_be_one_a_row(spec) else "expected one label a row"


def _scores_problem(spec: TensorSpec, prediction: Prediction) -> str:
    if spec.datatype not in _FLOATS:
        return "scores are floating-point numbers"
    if len(set(map(class_text, prediction.classes))) < len(prediction.classes):
        return "class names must differ"
    if not spec.is_ranked:
        return ""
    if len(spec.shape) != 2 or spec.shape[1] == 0:
        return "expected a shape of [rows, classes]"
    return columns_problem(prediction.classes, spec.shape[1])


def _value_problem(spec: TensorSpec, prediction: Prediction) -> str:
    if spec.datatype not in _FLOATS | _INTEGERS:
        return "a value is a number"
    if prediction.classes:
        return "class names belong to scores only"
    return "" if _may_be_one_a_row(spec) else "expected one number a row"


def _is_scores(spec: TensorSpec) -> bool:
    if spec.datatype not in _FLOATS or len(spec.shape) != 2:
        return False
    return spec.shape[1] > 1 or (spec.shape[1] == -1 and bool(_SCORE_NAME.search(spec.name)))


def _is_one_a_row(spec: TensorSpec) -> bool:
    return spec.is_ranked and (len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] == 1))


def _may_be_one_a_row(spec: TensorSpec) -> bool:
    return not spec.is_ranked or len(spec.shape) == 1 or (len(spec.shape) == 2 and spec.shape[1] in (1, -1))
