"""
Reads quality from the log's tables: predictions, labels and corrections per series since a given time.

Whole minutes are read from the sums per minute; the part of a minute with which the range begins, from the rows themselves.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.quality.log.log_tables import MINUTE_MS
from gateway.quality.log.log_values import Series
from gateway.quality.log.rollup import SUMS, Pair, moments_of, unpack
from gateway.quality.log.vocabularies import Vocabularies, load
from gateway.quality.metrics import Confusion, Moments, VersionQuality
from gateway.quality.vocabulary import class_or_text

_OF_MODEL = "series IN (SELECT id FROM series WHERE kind = :kind AND (:model IS NULL OR model = :model))"
_EDGE = "time_ms >= :since AND time_ms < :minute * :minute_ms"


@dataclass(slots=True)
class _Tally:
    predictions: int = 0
    labelled: int = 0
    corrections: int = 0
    cells: dict[tuple[str, str], int] = field(default_factory=dict)
    moments: Moments = field(default_factory=Moments)


def quality(db: sqlite3.Connection, model: str | None, since_ms: int) -> tuple[tuple[str, VersionQuality], ...]:
    """
    Returns (model, quality) for each series with predictions at or after ``since_ms``, of one model or of all (None). Reads
    one consistent snapshot.
    """
    minute = -(-since_ms // MINUTE_MS)  # the first whole minute of the range
    names = {"model": model, "since": since_ms, "minute": minute, "minute_ms": MINUTE_MS}
    tallies: dict[int, _Tally] = defaultdict(_Tally)
    db.execute("BEGIN")
    try:
        series = {row[0]: Series(*row[1:]) for row in db.execute("SELECT id, model, version, arm, kind FROM series")}
        vocabularies = load(db)
        _count(db, tallies, names)
        _count_classes(db, tallies, {**names, "kind": "class"})
        _count_values(db, tallies, {**names, "kind": "value"})
    finally:
        db.execute("COMMIT")
    found = [(series[at], tally) for at, tally in tallies.items() if tally.predictions and model in (None, series[at].model)]
    found.sort(key=lambda pair: (pair[0].model, pair[0].version, pair[0].arm))
    return tuple((one.model, _quality(one, tally, vocabularies)) for one, tally in found)


def _quality(series: Series, tally: _Tally, vocabularies: Vocabularies) -> VersionQuality:
    is_class = series.kind == "class"
    return VersionQuality(
        version=series.version,
        arm=series.arm,
        kind=series.kind,
        predictions=tally.predictions,
        labelled=tally.labelled,
        corrections=tally.corrections,
        not_finite=0 if is_class else tally.labelled - tally.moments.n,
        confusion=_confusion(series, tally, vocabularies) if is_class else None,
        moments=None if is_class else tally.moments,
    )


def _confusion(series: Series, tally: _Tally, vocabularies: Vocabularies) -> Confusion:
    """Adds up the cells of one class that an earlier release recorded in several forms."""
    vocabulary = vocabularies.get((series.model, series.version))
    forms = {label: class_or_text(label, vocabulary) for pair in tally.cells for label in pair}
    cells: dict[tuple[str, str], int] = defaultdict(int)
    for (truth, predicted), rows in tally.cells.items():
        cells[forms[truth], forms[predicted]] += rows
    return Confusion(dict(cells))


def _count(db: sqlite3.Connection, tallies: dict[int, _Tally], names: Mapping[str, object]) -> None:
    predictions = db.execute(
        "SELECT series, sum(rows) FROM (SELECT series, rows FROM minutes WHERE minute >= :minute UNION ALL "
        f"SELECT series, rows FROM predictions WHERE {_EDGE}) GROUP BY series",
        names,
    )
    for series_id, rows in predictions:
        tallies[series_id].predictions = rows
    for series_id, rows in db.execute(
        "SELECT series, count(*) FROM corrections WHERE time_ms >= :since GROUP BY series", names
    ):
        tallies[series_id].corrections = rows


def _count_classes(db: sqlite3.Connection, tallies: dict[int, _Tally], names: Mapping[str, object]) -> None:
    cells = db.execute(
        "SELECT series, truth, predicted, sum(rows) FROM ("
        f"SELECT series, truth, predicted, rows FROM cells WHERE minute >= :minute AND {_OF_MODEL} UNION ALL "
        f"SELECT series, truth, predicted, 1 FROM labels WHERE {_EDGE} AND {_OF_MODEL}) GROUP BY series, truth, predicted",
        names,
    )
    for series_id, truth, predicted, rows in cells:
        tallies[series_id].cells[truth, predicted] = rows
        tallies[series_id].labelled += rows


def _count_values(db: sqlite3.Connection, tallies: dict[int, _Tally], names: Mapping[str, object]) -> None:
    for series_id, *row in db.execute(f"SELECT series, {SUMS} FROM sums WHERE minute >= :minute AND {_OF_MODEL}", names):
        labelled, moments = unpack(tuple(row))
        _add_values(tallies[series_id], labelled, moments)
    edge: dict[int, list[Pair]] = defaultdict(list)
    for series_id, *pair in db.execute(f"SELECT series, truth, predicted FROM labels WHERE {_EDGE} AND {_OF_MODEL}", names):
        edge[series_id].append((pair[0], pair[1]))
    for series_id, pairs in edge.items():
        _add_values(tallies[series_id], len(pairs), moments_of(pairs))


def _add_values(tally: _Tally, labelled: int, moments: Moments) -> None:
    tally.labelled += labelled
    tally.moments = tally.moments.merged(moments)
