"""Figures equal scikit-learn's, and merging is associative."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from gateway.quality.metrics import Confusion, Moments, VersionQuality

PAIRS = st.lists(
    st.tuples(st.sampled_from("0 1 2 10 cat".split()), st.sampled_from("0 1 2 10 dog".split())), min_size=1, max_size=60
)
NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)
SAMPLES = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=60)


def exactly(value: float) -> object:
    return pytest.approx(value, rel=1e-12, abs=1e-12)


@given(PAIRS)
def test_class_figures_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = zip(*pairs, strict=True)
    report = Confusion.of(pairs).report()
    assert report is not None
    assert report.accuracy == exactly(oracle.accuracy_score(truth, predicted))
    macro = oracle.precision_recall_fscore_support(truth, predicted, average="macro", zero_division=0)[:3]
    assert [report.precision_macro, report.recall_macro, report.f1_macro] == [exactly(one) for one in macro]
    assert report.f1_micro == exactly(oracle.f1_score(truth, predicted, average="micro", zero_division=0))
    labels = [one.label for one in report.classes]
    each = np.transpose(oracle.precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0))
    assert set(labels) == set(truth) | set(predicted)
    assert [(one.precision, one.recall, one.f1, one.support) for one in report.classes] == [
        tuple(exactly(value) for value in row) for row in each.tolist()
    ]


@given(SAMPLES)
def test_value_figures_are_those_of_scikit_learn(samples: list[tuple[float, float]]) -> None:
    truth, predicted = (np.array(side) for side in zip(*samples, strict=True))
    report = Moments.of(truth, predicted).report()
    assert report is not None
    assert report.mae == exactly(oracle.mean_absolute_error(truth, predicted))
    assert report.rmse == exactly(oracle.root_mean_squared_error(truth, predicted))
    assert report.bias == exactly(float(np.mean(predicted - truth)))
    if len(samples) < 2:
        assert report.r2 is None
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert report.r2 == exactly(oracle.r2_score(truth, predicted))


@given(PAIRS, PAIRS, PAIRS)
def test_merging_confusions_is_counting_all(
    a: list[tuple[str, str]], b: list[tuple[str, str]], c: list[tuple[str, str]]
) -> None:
    one, two, three = Confusion.of(a), Confusion.of(b), Confusion.of(c)
    assert one.merged(two).merged(three) == one.merged(two.merged(three)) == Confusion.of([*a, *b, *c])


@given(SAMPLES, SAMPLES, SAMPLES)
def test_merging_moments_is_summing_all(
    a: list[tuple[float, float]], b: list[tuple[float, float]], c: list[tuple[float, float]]
) -> None:
    one, two, three, whole = (Moments.of(*np.transpose(part)) for part in (a, b, c, [*a, *b, *c]))
    left, right = one.merged(two).merged(three), one.merged(two.merged(three))
    for merged in (left, right):
        assert merged.n == whole.n
        assert merged.sum_abs == pytest.approx(whole.sum_abs, rel=1e-12)
        assert merged.sum_square == pytest.approx(whole.sum_square, rel=1e-12)
        assert merged.sum_error == pytest.approx(whole.sum_error, rel=1e-12, abs=1e-12 * (1 + whole.sum_abs))
        assert merged.m2_truth == pytest.approx(whole.m2_truth, rel=1e-9, abs=1e-3)


def test_a_large_mean_does_not_swallow_the_spread() -> None:
    rng = np.random.default_rng(7)
    truth = 1e9 + rng.normal(size=20_000)
    predicted = truth + rng.normal(scale=0.5, size=truth.size)
    merged = Moments()
    for part in range(0, truth.size, 100):
        merged = merged.merged(Moments.of(truth[part : part + 100], predicted[part : part + 100]))
    report = merged.report()
    assert report is not None
    assert report.r2 == pytest.approx(oracle.r2_score(truth, predicted), rel=1e-9)


def test_a_constant_truth_has_a_finite_r2() -> None:
    for predicted in ([2.0, 2.0], [2.0, 3.0]):
        report = Moments.of([2.0, 2.0], predicted).report()
        assert report is not None
        assert report.r2 == oracle.r2_score([2.0, 2.0], predicted)


def test_nothing_labelled_has_no_figures() -> None:
    quality = VersionQuality(1, "default", "class", 10, 0, confusion=Confusion({}), moments=Moments())
    assert quality.class_report is None
    assert quality.value_report is None
    assert VersionQuality(1, "default", "class", 0, 0).coverage == 0.0
