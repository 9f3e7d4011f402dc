"""A shadow's answers against the primary's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway.quality.compare import compare_classes, compare_values


def test_classes_disagree_row_by_row() -> None:
    assert compare_classes(["a", "b", "c"], ["a", "x", "c"]) == (3, 1)


def test_a_row_only_one_of_them_answered_disagrees() -> None:
    assert compare_classes(["a", "b"], ["a"]) == compare_classes(["a"], ["a", "b"]) == (2, 1)
    assert compare_classes([], []) == (0, 0)


def test_values_are_compared_by_their_difference() -> None:
    assert compare_values(np.array([[1.0, 2.0]], np.float32), np.array([[1.5, 1.0]], np.float32)) == (2, 1.5, 1.0)
    assert compare_values([], []) == (0, 0.0, 0.0)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_differs_infinitely_but_leaves_the_sum_usable(odd: float) -> None:
    assert compare_values([1.0, 2.0], [1.5, odd]) == (1, 0.5, math.inf)
    assert compare_values([1.0, odd], [1.5, odd]) == (2, 0.5, 0.5)


def test_another_shape_differs_infinitely() -> None:
    assert compare_values(np.zeros((2, 1)), np.zeros(2)) == (0, 0.0, math.inf)
