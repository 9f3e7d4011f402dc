"""Compares a shadow's outputs with the primary's: classes, or the positions of the largest scores, or else all numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gateway.contract.counts import ShadowCounts
from gateway.quality.class_match import ClassMatch, How, Predictor, match
from gateway.quality.compare import compare_classes, compare_values
from gateway.runtime.session import Array
from gateway.runtime.tensor_contents import bfloat16_values
from gateway.serving.prediction_records import has_row_each, labels
from gateway.versions.loaded import LoadedVersion
from registry.names import class_text

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-5  # numbers agree within absolute + relative × |primary's|


def compare(
    counts: ShadowCounts,
    primary: LoadedVersion,
    shadow: LoadedVersion,
    ours: dict[str, Array],
    theirs: dict[str, Array],
    rows: list[int],
) -> None:
    """
    Adds one comparison to the counts. ``ours`` are the primary's outputs by name, ``theirs`` the shadow's, both over all
    rows; ``rows`` are those of each request. Answers whose classes cannot be compared (`gateway.quality.class_match`) add
    no more than the difference of their numbers.
    """
    ours, theirs = _comparable(primary, ours), _comparable(shadow, theirs)
    found = match(_predictor(primary), _predictor(shadow))
    _add_values(counts, ours, theirs, found)
    if found.how is How.OUTPUTS:
        compared, disagreed = _compared_outputs(ours, theirs, rows)
    else:
        compared, disagreed = _compared_classes(primary, shadow, ours, theirs, rows, found)
    counts.compared += compared
    counts.disagreed += disagreed


def _predictor(version: LoadedVersion) -> Predictor:
    return Predictor(version.signature, version.prediction)


def _add_values(counts: ShadowCounts, ours: dict[str, Array], theirs: dict[str, Array], found: ClassMatch) -> None:
    for name, array in ours.items():
        other = theirs.get(found.theirs if name == found.ours else name)
        if other is not None and array.dtype.kind in "fiu" and other.dtype.kind in "fiu":
            values, sum_abs, max_abs = compare_values(array, other)
            counts.values += values
            counts.sum_abs_diff += sum_abs
            counts.max_abs_diff = max(counts.max_abs_diff, max_abs)


def _compared_classes(
    primary: LoadedVersion,
    shadow: LoadedVersion,
    ours: dict[str, Array],
    theirs: dict[str, Array],
    rows: list[int],
    found: ClassMatch,
) -> tuple[int, int]:
    """Returns (rows compared, rows that disagree); (0, 0) if the classes cannot be compared."""
    if found.how is How.CLASSES:
        our_classes, their_classes = _classes(primary, ours, rows), _classes(shadow, theirs, rows)
        if our_classes is None or their_classes is None:
            return _compared_outputs(ours, theirs, rows)
        return compare_classes(our_classes, their_classes)
    our_scores, their_scores = ours.get(found.ours), theirs.get(found.theirs)
    if our_scores is None or their_scores is None or our_scores.shape != their_scores.shape or our_scores.ndim != 2:
        return 0, 0  # also if the caller did not ask for the scores
    return compare_classes(np.argmax(our_scores, axis=1).tolist(), np.argmax(their_scores, axis=1).tolist())


def _compared_outputs(ours: dict[str, Array], theirs: dict[str, Array], rows: list[int]) -> tuple[int, int]:
    """Returns (requests compared, requests that disagree)."""
    return len(rows), sum(not _is_close(ours, theirs, i, rows) for i in range(len(rows)))


def _comparable(version: LoadedVersion, outputs: dict[str, Array]) -> dict[str, Array]:
    """Returns the outputs with BF16, which travels as bits, as numbers."""
    return {name: bfloat16_values(array) if version.datatypes[name] == "BF16" else array for name, array in outputs.items()}


def _classes(version: LoadedVersion, outputs: dict[str, Array], rows: list[int]) -> list[str] | None:
    prediction = version.prediction
    output = outputs.get(prediction.output) if prediction is not None else None
    if prediction is None or output is None or not has_row_each(prediction, output, rows):
        return None
    found = labels(prediction, output.astype(np.int8) if output.dtype == np.bool_ else output)  # BOOL counts as 0 and 1
    return [class_text(label) for label in found]


def _is_close(ours: dict[str, Array], theirs: dict[str, Array], request: int, rows: list[int]) -> bool:
    """Whether one request got the same answer from both, numbers within tolerance."""
    start = sum(rows[:request])
    for name, array in ours.items():
        other: Any = theirs.get(name)
        if other is None or other.shape != array.shape or other.dtype != array.dtype:
            return False
        if len(rows) > 1:
            array, other = array[start : start + rows[request]], other[start : start + rows[request]]
        if array.dtype.kind in "fiu":
            tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(array.astype("f8"))
            is_same = (abs(array.astype("f8") - other) <= tolerance) | (array == other) | ((array != array) & (other != other))
        else:
            is_same = array == other
        if not is_same.all():
            return False
    return True
