"""How versions are compared that call their classes by the same or by other words."""

from __future__ import annotations

import pytest

from gateway.quality.class_match import ClassMatch, How, Predictor, match, warning
from registry.signature import Signature, TensorSpec
from registry.versions import Prediction, PredictionKind

COLUMNS = TensorSpec("probs", "FP32", (-1, 2))


def label(datatype: str, *others: TensorSpec) -> Predictor:
    return Predictor(Signature((), (TensorSpec("label", datatype, (-1,)), *others)), Prediction("label", PredictionKind.LABEL))


def scores(*classes: str, columns: int = 2) -> Predictor:
    spec = TensorSpec("scores", "FP32", (-1, columns))
    return Predictor(Signature((), (spec,)), Prediction("scores", PredictionKind.SCORES, classes))


VALUE = Predictor(Signature((), (TensorSpec("y", "FP32", (-1,)),)), Prediction("y", PredictionKind.VALUE))
BY_SCORES = ClassMatch(How.POSITIONS, "scores", "scores")


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (label("INT64"), label("INT64"), ClassMatch(How.CLASSES)),
        (label("INT64"), label("BOOL"), ClassMatch(How.CLASSES)),
        (label("FP32"), scores(), ClassMatch(How.CLASSES)),
        (label("BYTES"), label("BYTES"), ClassMatch(How.CLASSES)),
        (label("BYTES"), scores("ok", "fraud"), ClassMatch(How.CLASSES)),
        (scores("ok", "fraud"), scores("fraud", "ok"), ClassMatch(How.CLASSES)),
        (scores("a", "b"), scores("b", "c"), ClassMatch(How.CLASSES)),
        (scores("0", "1"), scores("ok", "fraud"), BY_SCORES),
        (scores(), scores("ok", "fraud"), BY_SCORES),
        (scores("1", "2"), scores(), BY_SCORES),
        (scores(columns=-1), scores("ok", "fraud"), BY_SCORES),
        (label("INT64", COLUMNS), label("BYTES", COLUMNS), ClassMatch(How.POSITIONS, "probs", "probs")),
        (label("BYTES", COLUMNS), scores(), ClassMatch(How.POSITIONS, "probs", "scores")),
        (label("INT64"), label("BYTES"), ClassMatch(How.NOTHING)),
        (label("INT64", COLUMNS), label("BYTES"), ClassMatch(How.NOTHING)),
        (scores("a", "b"), scores("c", "d", "e", columns=3), ClassMatch(How.NOTHING)),
        (VALUE, VALUE, ClassMatch(How.OUTPUTS)),
        (VALUE, label("INT64"), ClassMatch(How.OUTPUTS)),
    ],
)
def test_versions_are_compared_by_what_both_have(ours: Predictor, theirs: Predictor, found: ClassMatch) -> None:
    assert match(ours, theirs) == found
    assert match(theirs, ours) == ClassMatch(found.how, found.theirs, found.ours)


@pytest.mark.parametrize(
    ("theirs", "text"),
    [
        (label("INT64"), ""),
        (label("BYTES"), "their classes have no words in common"),
        (VALUE, "one predicts a label, the other a value"),
        (Predictor(VALUE.signature, None), ""),
    ],
)
def test_a_warning_says_why_two_versions_cannot_be_compared(theirs: Predictor, text: str) -> None:
    found = warning(1, label("INT64"), 2, theirs)
    assert bool(found) == bool(text)
    assert text in found
