"""Statistics of the scenarios: knees, recovery, slopes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KNEE_GOODPUT = 0.99  # of what is offered
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Level:
    """One offered rate of a sweep, the OK answers per second, and their p99 in milliseconds."""

    offered: float
    goodput: float
    p99_ms: float


def knee(levels: Sequence[Level]) -> Level | None:
    """Returns the highest offered rate of which at least 99 % was answered; None if there is none."""
    carried = [level for level in levels if level.goodput >= KNEE_GOODPUT * level.offered]
    return max(carried, key=lambda level: level.offered) if carried else None


def recovered_after_s(
    due_s: NDArray[np.float64], latency_ms: NDArray[np.float64], *, since_s: float, normal_ms: float, window_s: float = 0.5
) -> float:
    """
    Returns the seconds from ``since_s`` until the p99 of every later window stays within ``normal_ms``: 0 if it never left
    it, infinity if the last window is still beyond it.
    """
    offsets = due_s - since_s
    if not len(offsets):
        return float("nan")
    last = -1
    count = int(np.floor(offsets.max() / window_s)) + 1
    for place in range(count):
        inside = latency_ms[(offsets >= place * window_s) & (offsets < (place + 1) * window_s)]
        if len(inside) and np.percentile(inside, 99, method="higher") > normal_ms:
            last = place
    return float("inf") if last == count - 1 else (last + 1) * window_s


@dataclass(frozen=True, slots=True)
class Slope:
    """The change per second, and the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def may_be_zero(self) -> bool:
        """Whether 0 lies within the interval, or the slope falls."""
        return self.low <= 0


def slope(times_s: Sequence[float], values: Sequence[float], *, blocks: int = 20) -> Slope:
    """
    Least squares over the means of consecutive blocks: neighbouring samples of memory are not independent, blocks nearly are.
    Student's t with (blocks - 2) degrees of freedom. Raises ValueError for fewer than three samples.
    """
    from scipy.stats import t

    blocks = min(blocks, len(values))
    if blocks < 3:
        raise ValueError(f"a slope needs three samples, got {len(values)}")
    x = np.array([part.mean() for part in np.array_split(np.asarray(times_s, float), blocks)])
    y = np.array([part.mean() for part in np.array_split(np.asarray(values, float), blocks)])
    centred = x - x.mean()
    value = float(centred @ y / (centred @ centred))
    residuals = y - y.mean() - value * centred
    error = float(np.sqrt(residuals @ residuals / (blocks - 2) / (centred @ centred)))
    margin = error * float(t.ppf((1 + CONFIDENCE) / 2, blocks - 2))
    return Slope(value, value - margin, value + margin)
