"""Compares a shadow's outputs with the primary's: agreement of classes where both predict classes, else of numbers."""

from __future__ import annotations

from typing import Any

from gateway.contract.counts import ShadowCounts
from gateway.quality.compare import compare_classes, compare_values
from gateway.runtime.session import Array
from gateway.runtime.tensor_contents import bfloat16_values
from gateway.serving.prediction_records import has_row_each, labels
from gateway.versions.loaded import LoadedVersion
from registry.versions import PredictionKind

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
    rows; ``rows`` are those of each request.
    """
    ours, theirs = _comparable(primary, ours), _comparable(shadow, theirs)
    for name, array in ours.items():
        other = theirs.get(name)
        if other is not None and array.dtype.kind in "fiu" and other.dtype.kind in "fiu":
            values, sum_abs, max_abs = compare_values(array, other)
            counts.values += values
            counts.sum_abs_diff += sum_abs
            counts.max_abs_diff = max(counts.max_abs_diff, max_abs)
    classes = [_classes(primary, ours, rows), _classes(shadow, theirs, rows)]
    if classes[0] is not None and classes[1] is not None:
        compared, disagreed = compare_classes(classes[0], classes[1])
    else:
        compared, disagreed = len(rows), sum(not _is_close(ours, theirs, i, rows) for i in range(len(rows)))
    counts.compared += compared
    counts.disagreed += disagreed


def _comparable(version: LoadedVersion, outputs: dict[str, Array]) -> dict[str, Array]:
    """Returns the outputs with BF16, which travels as bits, as numbers."""
    return {name: bfloat16_values(array) if version.datatypes[name] == "BF16" else array for name, array in outputs.items()}


def _classes(version: LoadedVersion, outputs: dict[str, Array], rows: list[int]) -> list[str] | None:
    prediction = version.prediction
    if prediction is None or prediction.kind is PredictionKind.VALUE:
        return None
    output = outputs.get(prediction.output)
    return labels(prediction, output) if output is not None and has_row_each(prediction, output, rows) else None


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
