"""Comparison of a shadow's outputs with the primary's. Pure. `serving.shadow` adds up the results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def compare_classes(primary: Sequence[object], shadow: Sequence[object]) -> tuple[int, int]:
    """Returns (rows compared, rows that disagree). A row that only one of the two answered disagrees."""
    rows = max(len(primary), len(shadow))
    agreed = sum(1 for ours, theirs in zip(primary, shadow, strict=False) if ours == theirs)
    return rows, rows - agreed


def compare_values(primary: ArrayLike, shadow: ArrayLike) -> tuple[int, float, float]:
    """
    Returns (numbers compared, sum of |difference|, largest |difference|) over two arrays of the same shape.

    Equal infinities differ by 0, and so do NaN and NaN. NaN against a number, or an infinity against anything else, makes the
    largest difference infinite and is left out of the count and the sum, so that sums over many answers stay usable. Arrays
    of different shapes return (0, 0.0, inf): nothing was compared, and that is a disagreement.
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
