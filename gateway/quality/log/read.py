"""Quality out of the log's tables: predictions, labels and corrections per series over a time range."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from gateway.quality.log.config import Series
from gateway.quality.log.schema import MINUTE_MS
from gateway.quality.metrics import Confusion, Moments, VersionQuality

CHUNK = 20_000  # label rows turned into arrays at a time


@dataclass(slots=True)
class _Tally:
    predictions: int = 0
    labelled: int = 0
    corrections: int = 0
    not_finite: int = 0
    cells: dict[tuple[str, str], int] = field(default_factory=dict)
    moments: Moments = field(default_factory=Moments)


def quality(db: sqlite3.Connection, model: str | None, since_ms: int) -> tuple[tuple[str, VersionQuality], ...]:
    """(model, quality) per series with predictions made at or after ``since_ms``, of one model or all, in one snapshot."""
    db.execute("BEGIN")
    try:
        series = _series(db, model)
        tallies: dict[int, _Tally] = defaultdict(_Tally)
        _count_predictions(db, tallies, since_ms)
        for series_id, one in series.items():
            count = _count_classes if one.kind == "class" else _count_values
            count(db, tallies, series_id, since_ms)
        for series_id, corrections in db.execute(
            "SELECT series, count(*) FROM corrections WHERE time_ms >= ? GROUP BY series", (since_ms,)
        ):
            tallies[series_id].corrections = corrections
    finally:
        db.execute("COMMIT")
    found = [(one, tallies[series_id]) for series_id, one in series.items() if tallies[series_id].predictions]
    found.sort(key=lambda pair: (pair[0].model, pair[0].version, pair[0].arm))
    return tuple((one.model, _quality(one, tally)) for one, tally in found)


def _quality(series: Series, tally: _Tally) -> VersionQuality:
    is_class = series.kind == "class"
    return VersionQuality(
        version=series.version,
        arm=series.arm,
        kind=series.kind,
        predictions=tally.predictions,
        labelled=tally.labelled,
        corrections=tally.corrections,
        not_finite=tally.not_finite,
        confusion=Confusion(tally.cells) if is_class else None,
        moments=None if is_class else tally.moments,
    )


def _series(db: sqlite3.Connection, model: str | None) -> dict[int, Series]:
    where, values = ("", ()) if model is None else (" WHERE model = ?", (model,))
    return {row[0]: Series(*row[1:]) for row in db.execute(f"SELECT id, model, version, arm, kind FROM series{where}", values)}


def _count_predictions(db: sqlite3.Connection, tallies: dict[int, _Tally], since_ms: int) -> None:
    """The minutes' counts, and the predictions themselves for the part of a minute with which the range begins."""
    minute = -(-since_ms // MINUTE_MS)
    counted = db.execute(
        "SELECT series, sum(rows) FROM (SELECT series, rows FROM minutes WHERE minute >= ?1 UNION ALL "
        "SELECT series, rows FROM predictions WHERE time_ms >= ?2 AND time_ms < ?3) GROUP BY series",
        (minute, since_ms, minute * MINUTE_MS),
    )
    for series_id, rows in counted:
        tallies[series_id].predictions = rows


def _count_classes(db: sqlite3.Connection, tallies: dict[int, _Tally], series_id: int, since_ms: int) -> None:
    tally = tallies[series_id]
    cells = db.execute(
        "SELECT truth, predicted, count(*) FROM labels WHERE time_ms >= ? AND series = ? GROUP BY truth, predicted",
        (since_ms, series_id),
    )
    for truth, predicted, count in cells:
        tally.cells[truth, predicted] = count
        tally.labelled += count


def _count_values(db: sqlite3.Connection, tallies: dict[int, _Tally], series_id: int, since_ms: int) -> None:
    tally = tallies[series_id]
    pairs = db.execute("SELECT truth, predicted FROM labels WHERE time_ms >= ? AND series = ?", (since_ms, series_id))
    while chunk := pairs.fetchmany(CHUNK):
        table = np.array(chunk, np.float64)  # NULL, which stands for NaN, becomes NaN again
        table = table[np.isfinite(table[:, 1])]
        tally.labelled += len(chunk)
        tally.not_finite += len(chunk) - len(table)
        tally.moments = tally.moments.merged(Moments.of(table[:, 0], table[:, 1]))
