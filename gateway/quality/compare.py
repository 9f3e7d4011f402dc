"""How a shadow's answer differs from the primary's. Pure; the request path's mirror adds the results up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def compare_classes(primary: Sequence[object], shadow: Sequence[object]) -> tuple[int, int]:
    """(rows compared, rows that disagree). A row that only one of them answered disagrees."""
    rows = max(len(primary), len(shadow))
    agreed = sum(1 for ours, theirs in zip(primary, shadow, strict=False) if ours == theirs)
    return rows, rows - agreed


def compare_values(primary: ArrayLike, shadow: ArrayLike) -> tuple[int, float, float]:
    """
    (numbers compared, sum of |difference|, largest |difference|) over arrays of one shape.

    Equal infinities and NaN against NaN differ by 0. NaN against a number, or an infinity against anything else, makes
    the largest difference infinite and stays out of number and sum, so that sums over many answers stay usable.
    Another shape is (0, 0.0, inf): nothing could be compared, and that is a disagreement.
    """
    ours, theirs = np.asarray(primary, np.float64), np.asarray(shadow, np.float64)
    if ours.shape != theirs.shape:
        return 0, 0.0, float("inf")
    is_same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(is_same, 0.0, np.abs(ours - theirs))
    is_finite = np.isfinite(difference)
    finite = difference[is_finite]
    largest = float(finite.max(initial=0.0)) if is_finite.all() else float("inf")
    return int(finite.size), float(finite.sum()), largest
