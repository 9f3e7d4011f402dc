"""Writes batches of predictions to the log's tables: one packed row per request, counted per minute and series."""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from gateway.contract.predictions import PredictionBatch
from gateway.quality.log.log_tables import MINUTE_MS
from gateway.quality.log.log_values import Series
from gateway.quality.prediction_id import is_sampled

Packed = str | float | bytes | None
Row = tuple[int, int, int, int, int, Packed, bytes | None]  # the columns of `predictions`


def digest(text: str) -> bytes:
    """Returns 16 bytes that identify a caller's text of any length."""
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def is_whole(batch: PredictionBatch) -> bool:
    """Returns whether the lengths of the batch's columns agree."""
    requests = len(batch.counters)
    flat = batch.labels if batch.kind == "class" else batch.numbers
    return (
        batch.kind in ("class", "value")
        and len(batch.times_ms) == len(batch.arms) == len(batch.inference_ids) == len(batch.rows) == requests
        and sum(batch.rows) == len(flat)
    )


def rows_of(batch: PredictionBatch, series_of: Callable[[Series], int], *, rate: float) -> Iterator[Row]:
    """Yields the table rows of a batch that the sampling ``rate`` selects."""
    ids = {arm: series_of(Series(batch.model, batch.version, arm, batch.kind)) for arm in set(batch.arms)}
    columns = batch.times_ms, batch.counters, batch.arms, batch.inference_ids, batch.rows, _packed(batch)
    for time_ms, counter, arm, inference_id, rows, predicted in zip(*columns, strict=True):
        if rate >= 1 or is_sampled(counter, rate):
            own = digest(inference_id) if inference_id else None
            yield time_ms, batch.epoch, counter, ids[arm], rows, predicted, own


def _packed(batch: PredictionBatch) -> Iterator[Packed]:
    flat: Sequence[str] | Sequence[float] = batch.labels if batch.kind == "class" else batch.numbers
    if len(flat) == len(batch.rows) and all(rows == 1 for rows in batch.rows):
        yield from flat  # SQLite stores NaN as NULL
        return
    start = 0
    for rows in batch.rows:
        part = flat[start : start + rows]
        start += rows
        yield part[0] if rows == 1 else _several(batch.kind, part)


def _several(kind: str, part: Sequence[str] | Sequence[float]) -> Packed:
    return json.dumps(part, ensure_ascii=False) if kind == "class" else array("d", part).tobytes()


def unpacked(kind: str, rows: int, predicted: Packed, row: int) -> Packed:
    """Returns the prediction of one row: a label, a number, or None for NaN. ``row`` must be less than ``rows``."""
    if rows == 1:
        return predicted
    if kind == "class":
        label: str = json.loads(str(predicted))[row]
        return label
    values = array("d")
    values.frombytes(predicted if isinstance(predicted, bytes) else b"")
    return values[row]


def insert(db: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Inserts the rows that are new, and counts them per minute. Returns their number."""
    cursor = db.executemany("INSERT OR IGNORE INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for time_ms, _epoch, _counter, series, count, _predicted, _inference in rows:
        counts[time_ms // MINUTE_MS, series] += count
    if cursor.rowcount == len(rows):
        added = [(minute, series, count) for (minute, series), count in counts.items()]
        db.executemany("INSERT INTO minutes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows", added)
    else:  # some rows were there already, which is rare: count these minutes again
        _recount(db, {minute for minute, _ in counts})
    return cursor.rowcount


def _recount(db: sqlite3.Connection, minutes: set[int]) -> None:
    for minute in minutes:
        db.execute(
            "INSERT OR REPLACE INTO minutes SELECT ?1, series, sum(rows) FROM predictions "
            "WHERE time_ms >= ?1 * ?2 AND time_ms < (?1 + 1) * ?2 GROUP BY series",
            (minute, MINUTE_MS),
        )
