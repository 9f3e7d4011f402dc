"""
Live quality as mergeable sufficient statistics: confusion counts for classifiers, running moments for regressors. Pure.

The figures equal scikit-learn's: `precision_recall_fscore_support` with ``zero_division=0`` over all labels that occur as
truth or prediction, `mean_absolute_error`, `root_mean_squared_error`, `r2_score`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """
    Figures of one class: ``precision`` is the right share of its predictions, ``recall`` the predicted share of its rows,
    ``support`` the number of its rows.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class ClassReport:
    """
    Figures of a classifier over its labelled rows, of which there is at least one. Micro precision and recall are not here:
    they equal the accuracy, since every row has one truth and one prediction. So does ``f1_micro``.
    """

    accuracy: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    f1_micro: float
    classes: tuple[ClassFigures, ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """The number of rows per (truth, predicted) pair of labels. Merging adds them."""

    cells: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Confusion:
        """Counts pairs of (truth, predicted)."""
        cells: dict[tuple[str, str], int] = {}
        for pair in pairs:
            cells[pair] = cells.get(pair, 0) + 1
        return cls(cells)

    @property
    def total(self) -> int:
        """Number of labelled rows."""
        return sum(self.cells.values())

    def merged(self, other: Confusion) -> Confusion:
        """Returns the sum of both."""
        cells = dict(self.cells)
        for pair, count in other.cells.items():
            cells[pair] = cells.get(pair, 0) + count
        return Confusion(cells)

    def labels(self) -> tuple[str, ...]:
        """Returns every label that occurs. Whole numbers come first, sorted by value."""
        return tuple(sorted({label for pair in self.cells for label in pair}, key=_label_order))

    def report(self) -> ClassReport | None:
        """Returns the figures; None without labelled rows."""
        if not self.total:
            return None
        labels = self.labels()
        hits, called, support = self._marginals(labels)
        precision, recall = _ratio(hits, called), _ratio(hits, support)
        f1 = _ratio(2 * hits, called + support)
        accuracy = float(hits.sum() / support.sum())
        figures = zip(labels, precision.tolist(), recall.tolist(), f1.tolist(), support.astype(int).tolist(), strict=True)
        return ClassReport(
            accuracy=accuracy,
            precision_macro=float(precision.mean()),
            recall_macro=float(recall.mean()),
            f1_macro=float(f1.mean()),
            f1_micro=accuracy,
            classes=tuple(ClassFigures(*one) for one in figures),
        )

    def _marginals(self, labels: tuple[str, ...]) -> tuple[Floats, Floats, Floats]:
        at = {label: index for index, label in enumerate(labels)}
        hits, called, support = (np.zeros(len(labels)) for _ in range(3))
        for (truth, predicted), count in self.cells.items():
            support[at[truth]] += count
            called[at[predicted]] += count
            hits[at[truth]] += count if truth == predicted else 0
        return hits, called, support


def _label_order(label: str) -> tuple[bool, int, str]:
    is_number = label.isascii() and label.isdecimal() and len(label) < 19
    return not is_number, int(label) if is_number else 0, label


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


@dataclass(frozen=True, slots=True)
class ValueReport:
    """
    Figures of a regressor over its labelled rows, of which there is at least one. ``bias`` is mean(predicted - truth). ``r2``
    needs two rows.
    """

    mae: float
    rmse: float
    bias: float
    r2: float | None


@dataclass(frozen=True, slots=True)
class Moments:
    """
    Sums of the errors (predicted - truth), and mean and sum of squared deviations of the truth. Merged as in Chan, Golub and
    LeVeque (1983), so that a large mean does not cancel the spread.
    """

    n: int = 0
    sum_abs: float = 0.0
    sum_error: float = 0.0
    sum_square: float = 0.0
    mean_truth: float = 0.0
    m2_truth: float = 0.0

    @classmethod
    def of(cls, truth: ArrayLike, predicted: ArrayLike) -> Moments:
        """Computes the moments from two arrays of the same length, with finite numbers."""
        actual, forecast = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
        if not actual.size:
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):  # figures of absurd numbers may be infinite
            error, mean = forecast - actual, actual.mean()
            spread = actual - mean
            sums = np.abs(error).sum(), error.sum(), (error * error).sum(), mean, (spread * spread).sum()
        return cls(actual.size, *(float(one) for one in sums))

    def merged(self, other: Moments) -> Moments:
        """Returns the moments of both together."""
        n = self.n + other.n
        if not n:
            return self
        delta, share = other.mean_truth - self.mean_truth, other.n / n
        return Moments(
            n=n,
            sum_abs=self.sum_abs + other.sum_abs,
            sum_error=self.sum_error + other.sum_error,
            sum_square=self.sum_square + other.sum_square,
            mean_truth=self.mean_truth + delta * share,
            m2_truth=self.m2_truth + other.m2_truth + delta * delta * self.n * share,
        )

    def report(self) -> ValueReport | None:
        """Returns the figures; None without labelled rows."""
        if not self.n:
            return None
        return ValueReport(
            mae=self.sum_abs / self.n,
            rmse=float(np.sqrt(self.sum_square / self.n)),
            bias=self.sum_error / self.n,
            r2=self._r2(),
        )

    def _r2(self) -> float | None:
        if self.n < 2:
            return None
        if self.m2_truth == 0.0:  # a constant truth: scikit-learn's convention keeps r2 finite
            return 1.0 if self.sum_square == 0.0 else 0.0
        return 1.0 - self.sum_square / self.m2_truth


@dataclass(frozen=True, slots=True)
class VersionQuality:
    """
    Live quality of one version in one arm, over the predictions of a window.

    ``predictions`` and ``labelled`` count rows. ``not_finite`` counts labelled rows whose prediction was NaN or infinite; the
    sums leave them out. ``corrections`` counts truths that arrived after the first one for a row and differ from it.
    """

    version: int
    arm: str
    kind: str  # "class" or "value"
    predictions: int
    labelled: int
    corrections: int = 0
    not_finite: int = 0
    confusion: Confusion | None = None
    moments: Moments | None = None

    @property
    def coverage(self) -> float:
        """Share of the predicted rows that are labelled."""
        return self.labelled / self.predictions if self.predictions else 0.0

    @property
    def class_report(self) -> ClassReport | None:
        """The figures of a classifier; None for a regressor or without labelled rows."""
        return self.confusion.report() if self.confusion else None

    @property
    def value_report(self) -> ValueReport | None:
        """The figures of a regressor; None for a classifier or without labelled rows."""
        return self.moments.report() if self.moments else None
