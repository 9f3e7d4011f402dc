"""How the answers of two versions are compared when both predict classes, maybe in different words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from gateway.quality.vocabulary import Vocabulary, vocabulary_of
from registry.names import class_text
from registry.signature import Signature, TensorSpec
from registry.versions import Prediction, PredictionKind

_FLOATS = frozenset("FP16 BF16 FP32 FP64".split())


class How(StrEnum):
    """The part of two answers that is compared."""

    CLASSES = "classes"  # the predicted classes
    POSITIONS = "positions"  # the columns of the largest scores
    OUTPUTS = "outputs"  # all outputs, numbers within a tolerance
    NOTHING = "nothing"  # the classes have no words in common, and there are no scores to compare


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """The way to compare two versions. For POSITIONS, ``ours`` and ``theirs`` are the outputs with the scores."""

    how: How
    ours: str = ""
    theirs: str = ""


@dataclass(frozen=True, slots=True)
class Predictor:
    """The facts about a version's outputs."""

    signature: Signature
    prediction: Prediction | None


@lru_cache(maxsize=256)
def match(ours: Predictor, theirs: Predictor) -> ClassMatch:
    """
    Returns how answers of two versions are compared. Classes are compared by name where both use the same words: whole
    numbers, strings, or names of which some are equal. Else the positions of the largest scores are, where both have one
    output of scores with the same number of columns.
    """
    one, other = (vocabulary_of(each.signature, each.prediction) for each in (ours, theirs))
    if one is None or other is None:
        return ClassMatch(How.OUTPUTS)
    if _share_words(one, other):
        return ClassMatch(How.CLASSES)
    our_scores, their_scores = _scores(ours), _scores(theirs)
    if our_scores and their_scores and _may_be_equal(our_scores.shape[1:], their_scores.shape[1:]):
        return ClassMatch(How.POSITIONS, our_scores.name, their_scores.name)
    return ClassMatch(How.NOTHING)


def warning(answering: int, ours: Predictor, shadow: int, theirs: Predictor) -> str:
    """Returns why answers of two versions cannot be compared, with what to do; empty if they can."""
    one, other = (vocabulary_of(each.signature, each.prediction) for each in (ours, theirs))
    pair = f"shadow version {shadow} cannot be compared with version {answering}"
    if match(ours, theirs).how is How.NOTHING:
        return f"{pair}: their classes have no words in common, and they have no scores of equal shape; register class names"
    if (one is None) != (other is None) and ours.prediction and theirs.prediction:
        return f"{pair}: one predicts a {theirs.prediction.kind if one is None else ours.prediction.kind}, the other a value"
    return ""


def _share_words(one: Vocabulary, other: Vocabulary) -> bool:
    if one.classes and other.classes:
        return not set(map(class_text, one.classes)).isdisjoint(map(class_text, other.classes))
    is_named_beside_index = bool(one.classes) != bool(other.classes) and not (one.datatype or other.datatype)
    return one.is_numeric == other.is_numeric and not is_named_beside_index


def _scores(version: Predictor) -> TensorSpec | None:
    """Returns the output with a score per class: the prediction itself, or the only output that looks so."""
    prediction, outputs = version.prediction, version.signature.outputs
    if prediction is not None and prediction.kind is PredictionKind.SCORES:
        return next((spec for spec in outputs if spec.name == prediction.output), None)
    found = [spec for spec in outputs if spec.datatype in _FLOATS and len(spec.shape) == 2 and spec.shape[1] != 1]
    return found[0] if len(found) == 1 else None


def _may_be_equal(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    return -1 in (*ours, *theirs) or ours == theirs or not ours or not theirs
