"""The one form of a class, for every kind of vocabulary."""

from __future__ import annotations

import re

import pytest

from gateway.quality.vocabulary import NotAClass, Vocabulary, class_of, class_or_text, vocabulary_of
from registry.signature import Signature, TensorSpec
from registry.versions import Prediction, PredictionKind

ABC = Vocabulary("", ("a", "b", "c"), 3)


@pytest.mark.parametrize("text", ["1", "1.0", " 1 ", "01", "+1", "1.", "1e0", "10e-1", "true", "True"])
@pytest.mark.parametrize(
    ("vocabulary", "form"),
    [
        (Vocabulary("INT64"), "1"),
        (Vocabulary("UINT8"), "1"),
        (Vocabulary("FP32"), "1"),
        (Vocabulary("BOOL"), "True"),
        (Vocabulary("", (), 3), "1"),
        (Vocabulary("", (), -1), "1"),
        (ABC, "b"),
        (Vocabulary("", ("1", "2"), 2), "1"),
    ],
)
def test_a_number_is_one_class_however_it_is_written(vocabulary: Vocabulary, form: str, text: str) -> None:
    assert class_of(text, vocabulary) == form


@pytest.mark.parametrize(
    ("vocabulary", "label", "message"),
    [
        (Vocabulary("INT64"), "one", "expected a whole number from -9223372036854775808 to 9223372036854775807, got 'one'"),
        (Vocabulary("INT64"), "1.5", "a whole number"),
        (Vocabulary("INT64"), "", "a whole number"),
        (Vocabulary("INT64"), "1_0", "a whole number"),
        (Vocabulary("INT64"), "1e999999999", "a whole number"),
        (Vocabulary("INT64"), "nan", "a whole number"),
        (Vocabulary("UINT8"), "-1", "from 0 to 255, got '-1'"),
        (Vocabulary("INT8"), "128", "from -128 to 127"),
        (Vocabulary("BOOL"), "2", "expected true or false, got '2'"),
        (Vocabulary("FP32"), "0.5", "expected a whole number, got '0.5'"),
        (Vocabulary("", (), 3), "3", "expected the index of a class from 0 to 2, got '3'"),
        (Vocabulary("", (), -1), "b", "expected the index of a class, 0 or more, got 'b'"),
        (ABC, "B", "expected a class of 'a', 'b', 'c' or its index, got 'B'"),
        (ABC, "3", "or its index"),
        (ABC, "-1", "or its index"),
        (Vocabulary("", ("1", "2"), 2), "0", "or its index"),  # an index beside names that are numbers would be a guess
    ],
)
def test_what_is_no_class_is_refused_with_what_is_expected(vocabulary: Vocabulary, label: str, message: str) -> None:
    with pytest.raises(NotAClass, match=re.escape(message)):
        class_of(label, vocabulary)
    assert class_or_text(label, vocabulary) == label


@pytest.mark.parametrize("vocabulary", [Vocabulary("BYTES"), None, Vocabulary("", ("caf\u00e9", "tea"), 2)])
def test_text_is_compared_composed_and_without_blanks_around(vocabulary: Vocabulary | None) -> None:
    assert class_of(" cafe\u0301\n", vocabulary) == class_of("caf\u00e9", vocabulary) == "caf\u00e9"


def test_a_string_label_may_be_a_class_that_was_never_predicted() -> None:
    assert class_of("new", Vocabulary("BYTES")) == "new"


@pytest.mark.parametrize(
    ("datatype", "shape", "prediction", "found"),
    [
        ("INT64", (-1,), Prediction("y", PredictionKind.LABEL), Vocabulary("INT64")),
        ("FP32", (-1, 7), Prediction("y", PredictionKind.SCORES), Vocabulary("", (), 7)),
        ("FP32", (-1, -1), Prediction("y", PredictionKind.SCORES, ("a", "b")), Vocabulary("", ("a", "b"), 2)),
        ("FP32", (), Prediction("y", PredictionKind.SCORES), Vocabulary("", (), -1)),
        ("FP32", (-1,), Prediction("y", PredictionKind.VALUE), None),
        ("FP32", (-1,), None, None),
    ],
)
def test_a_vocabulary_comes_from_the_signature_and_the_prediction(
    datatype: str, shape: tuple[int, ...], prediction: Prediction | None, found: Vocabulary | None
) -> None:
    assert vocabulary_of(Signature((), (TensorSpec("y", datatype, shape),)), prediction) == found
