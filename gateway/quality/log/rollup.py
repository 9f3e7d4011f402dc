"""
Sums of joined rows per minute and series, kept up to date on arrival, so that quality over hours is read from few rows.

A range that begins within a minute reads that minute's rows from ``labels`` instead, so every range is exact.
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from gateway.quality.log.log_tables import MINUTE_MS
from gateway.quality.log.log_values import Series
from gateway.quality.log.write import Packed
from gateway.quality.metrics import Moments

SUMS = "labelled, n, sum_abs, sum_error, sum_square, mean_truth, m2_truth"
Pair = tuple[float, float | None]  # truth, prediction (None: NaN)


class Rollup:
    """Collects the joined rows of one transaction and writes their sums."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int, str, str], int] = defaultdict(int)
        self._pairs: dict[tuple[int, int], list[Pair]] = defaultdict(list)

    def add(self, time_ms: int, series_id: int, series: Series, truth: str | float, predicted: Packed) -> None:
        """Adds one joined row."""
        minute = time_ms // MINUTE_MS
        if series.kind == "class":
            self._cells[minute, series_id, str(truth), str(predicted)] += 1
        else:
            self._pairs[minute, series_id].append((float(truth), predicted if isinstance(predicted, float) else None))

    def write(self, db: sqlite3.Connection) -> None:
        """Adds the collected sums to the tables, inside the caller's transaction."""
        db.executemany(
            "INSERT INTO cells VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
            [(*cell, count) for cell, count in self._cells.items()],
        )
        for (minute, series_id), pairs in self._pairs.items():
            kept = db.execute(f"SELECT {SUMS} FROM sums WHERE minute = ? AND series = ?", (minute, series_id)).fetchone()
            labelled, moments = unpack(kept) if kept else (0, Moments())
            moments = moments.merged(moments_of(pairs))
            row = (minute, series_id, labelled + len(pairs), *pack(moments))
            db.execute("INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def moments_of(pairs: Iterable[Pair]) -> Moments:
    """Returns the moments of the pairs whose prediction is finite."""
    finite = [pair for pair in pairs if pair[1] is not None and math.isfinite(pair[1])]
    table = np.array(finite, np.float64).reshape(-1, 2)
    return Moments.of(table[:, 0], table[:, 1])


def pack(moments: Moments) -> tuple[int | float, ...]:
    """Returns the values of the columns `SUMS`, without the first one."""
    return (
        moments.n, moments.sum_abs, moments.sum_error, moments.sum_square, moments.mean_truth, moments.m2_truth,
    )  # fmt: skip


def unpack(row: tuple[int | float | None, ...]) -> tuple[int, Moments]:
    """Returns (labelled rows, moments of the finite ones) from the columns `SUMS`. SQLite stores NaN as NULL."""
    labelled, n, *sums = row
    return int(labelled or 0), Moments(int(n or 0), *(math.nan if one is None else one for one in sums))
