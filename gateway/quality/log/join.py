"""
The join of labels with predictions, inside one transaction of the prediction log.

The first label of a row counts; a later one is a duplicate or a correction. A label whose prediction may still arrive waits
in the table ``pending``. Waiting labels are joined in the order of arrival when the prediction is recorded.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gateway.contract.feedback import Feedback, Verdict, VerdictKind
from gateway.errors import Overloaded
from gateway.quality.feedback_rules import problem
from gateway.quality.log.dropped import DroppedPredictions
from gateway.quality.log.log_values import LogCounts, PendingLimits, Series
from gateway.quality.log.rollup import Rollup
from gateway.quality.log.vocabularies import Vocabularies
from gateway.quality.log.write import Packed, Row, digest, unpacked
from gateway.quality.prediction_id import PredictionId, is_sampled, parse
from gateway.quality.vocabulary import NotAClass, Vocabulary, class_of, class_or_text
from gateway.settings.sections import PredictionSettings

Truth = str | float
_FOUND = "SELECT time_ms, epoch, counter, series, rows, predicted FROM predictions "
_JOINED = Verdict(VerdictKind.JOINED)
_DUPLICATE = Verdict(VerdictKind.DUPLICATE)
_DROPPED = Verdict(VerdictKind.UNKNOWN, "dropped: the prediction log could not be written when the prediction was made")


@dataclass(slots=True)
class LogCache:
    """The part of the log's tables that is kept in memory: read when the log opens, changed only under the writer's lock."""

    series: dict[Series, int]
    by_id: dict[int, Series]
    epochs: set[int]
    vocabularies: Vocabularies
    waiting: set[bytes]  # targets of the pending labels
    pending: int  # number of pending labels
    floor_ms: int  # Unix ms; older predictions were deleted


@dataclass(frozen=True, slots=True)
class Stamp:
    """Facts about a truth: its times of arrival and observation, its source, and the digest of its idempotency key."""

    received_ms: int
    observed_ms: int | None = None
    source: str | None = None
    key: bytes | None = None


def target_of(time_ms: int, epoch: int, counter: int) -> bytes:
    """Returns the key of a prediction in ``pending``: 20 bytes. (The key of a caller's own id is a digest of 16 bytes.)"""
    return struct.pack(">QIQ", time_ms, epoch, counter)


class Join:
    """Joins labels in one transaction. Changes ``cache``, which must be reloaded if the transaction fails."""

    def __init__(
        self,
        db: sqlite3.Connection,
        settings: PredictionSettings,
        limits: PendingLimits,
        cache: LogCache,
        dropped: DroppedPredictions,
        *,
        now_ms: int,
    ) -> None:
        self._dropped = dropped
        self._db, self._settings, self._limits, self._cache, self._now_ms = db, settings, limits, cache, now_ms
        self._rollup = Rollup()

    def verdicts(self, items: Sequence[Feedback]) -> list[Verdict]:
        """Joins, keeps or refuses each item, in order. Returns one verdict per item."""
        verdicts = [self._verdict(item) for item in items]
        self._rollup.write(self._db)
        return verdicts

    def _verdict(self, item: Feedback) -> Verdict:
        invalid = problem(item)
        if invalid:
            return Verdict(VerdictKind.INVALID, invalid)
        repeated = self._repeated(item)
        if repeated:
            return repeated
        verdict = self._by_id(item) if item.prediction_id else self._by_inference(item)
        is_kept = verdict.kind not in (VerdictKind.UNKNOWN, VerdictKind.EXPIRED, VerdictKind.INVALID)
        if item.idempotency_key and is_kept:
            row = (digest(item.idempotency_key), _content(item), self._now_ms)
            self._db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", row)
        return verdict

    def _repeated(self, item: Feedback) -> Verdict | None:
        if not item.idempotency_key:
            return None
        found = self._db.execute("SELECT content FROM keys WHERE key = ?", (digest(item.idempotency_key),)).fetchone()
        if not found:
            return None
        if found[0] != _content(item):
            return Verdict(VerdictKind.INVALID, "idempotency_key: already used with other content")
        return Verdict(VerdictKind.DUPLICATE, "repeated idempotency_key")

    def _by_id(self, item: Feedback) -> Verdict:
        parts = parse(item.prediction_id)
        if parts is None or parts.epoch not in self._cache.epochs:
            return Verdict(VerdictKind.UNKNOWN, "prediction_id: this gateway has not issued this id")
        if parts.time_ms < self._oldest_ms():
            return _expired()
        key = (parts.time_ms, parts.epoch, parts.counter)
        found = self._db.execute(_FOUND + "WHERE time_ms = ? AND epoch = ? AND counter = ?", key).fetchone()
        if found:
            return self._join(found, item.row, item.truth, self._stamp(item))
        return self._missing(parts) or self._wait(target_of(*key), item)

    def _missing(self, parts: PredictionId) -> Verdict | None:
        if not is_sampled(parts.counter, self._settings.prediction_sample):
            return Verdict(VerdictKind.UNKNOWN, "not sampled into the prediction log")
        if self._dropped.has(parts.epoch, parts.counter):
            return _DROPPED
        if self._now_ms - parts.time_ms >= self._limits.pending_s * 1000:
            return Verdict(VerdictKind.UNKNOWN, "not in the prediction log")
        return None

    def _by_inference(self, item: Feedback) -> Verdict:
        target = digest(item.inference_id)
        latest = "WHERE inference = ? ORDER BY time_ms DESC, epoch DESC, counter DESC LIMIT 1"
        found = self._db.execute(_FOUND + latest, (target,)).fetchone()
        if not found:
            if self._dropped.has_own(item.inference_id):
                return _DROPPED
            if self._limits.pending_s <= 0:
                return Verdict(VerdictKind.UNKNOWN, "not in the prediction log")
            return self._wait(target, item)
        return _expired() if found[0] < self._oldest_ms() else self._join(found, item.row, item.truth, self._stamp(item))

    def _oldest_ms(self) -> float:
        return max(self._cache.floor_ms, self._now_ms - self._settings.prediction_window_s * 1000)

    def _stamp(self, item: Feedback) -> Stamp:
        key = digest(item.idempotency_key) if item.idempotency_key else None
        return Stamp(self._now_ms, item.observed_ms, item.source or None, key)

    def _join(self, found: tuple[int, int, int, int, int, Packed], row: int, truth: Truth, stamp: Stamp) -> Verdict:
        time_ms, epoch, counter, series_id, rows, predicted = found
        series = self._cache.by_id[series_id]
        misfit = _misfit(series, rows, row, truth)
        if misfit:
            return Verdict(VerdictKind.INVALID, misfit)
        vocabulary = self._cache.vocabularies.get((series.model, series.version))
        try:
            truth = class_of(truth, vocabulary) if isinstance(truth, str) else truth
        except NotAClass as error:
            return Verdict(VerdictKind.INVALID, f"label: {series.model} version {series.version}: {error}")
        key = (time_ms, epoch, counter, row)
        first = self._db.execute(
            "SELECT truth FROM labels WHERE time_ms = ? AND epoch = ? AND counter = ? AND row = ?", key
        ).fetchone()
        about = (stamp.received_ms, stamp.observed_ms, stamp.source)
        if first is None:
            at_row = _in_form(unpacked(series.kind, rows, predicted, row), vocabulary)
            label = (*key, series_id, at_row, truth, *about)
            self._db.execute("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", label)
            self._rollup.add(time_ms, series_id, series, truth, at_row)
            return _JOINED
        if _in_form(first[0], vocabulary) == truth:
            return _DUPLICATE
        self._db.execute(
            "INSERT OR IGNORE INTO corrections VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, truth, series_id, *about)
        )
        return _conflict(first[0])

    def _wait(self, target: bytes, item: Feedback) -> Verdict:
        truth = item.truth
        waiting = self._db.execute("SELECT truth FROM pending WHERE target = ? AND row = ? ORDER BY seq", (target, item.row))
        known = [found for (found,) in waiting]
        if known and known[0] == truth:
            return _DUPLICATE
        if truth not in known:
            self._keep(target, item.row, truth, self._stamp(item))
        return _conflict(known[0]) if known else Verdict(VerdictKind.PENDING, "its prediction is not in the log yet")

    def _keep(self, target: bytes, row: int, truth: Truth, stamp: Stamp) -> None:
        if self._cache.pending >= self._limits.max_pending:
            raise Overloaded(f"{self._cache.pending} labels already wait for their predictions", retry_after_s=5.0)
        self._db.execute(
            "INSERT INTO pending (target, row, truth, received_ms, observed_ms, source, key) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (target, row, truth, stamp.received_ms, stamp.observed_ms, stamp.source, stamp.key),
        )
        self._cache.waiting.add(target)
        self._cache.pending += 1

    def arrived(self, rows: list[Row], counts: LogCounts) -> None:
        """Joins the labels that waited for these predictions, which are in the log now."""
        for row in rows:
            for target in (target_of(*row[:3]), row[6]):
                if target is not None and target in self._cache.waiting:
                    self._settle(target, row, counts)
        self._rollup.write(self._db)

    def _settle(self, target: bytes, row: Row, counts: LogCounts) -> None:
        waiting = self._db.execute(
            "SELECT row, truth, received_ms, observed_ms, source, key FROM pending WHERE target = ? ORDER BY seq", (target,)
        ).fetchall()
        for at, truth, *stamp in waiting:
            kind = self._join(row[:6], at, truth, Stamp(*stamp)).kind
            counts.joined_late += kind is VerdictKind.JOINED
            counts.refused_late += kind is VerdictKind.INVALID
        self._db.execute("DELETE FROM pending WHERE target = ?", (target,))
        self._cache.waiting.discard(target)
        self._cache.pending -= len(waiting)


def _misfit(series: Series, rows: int, row: int, truth: Truth) -> str:
    if row >= rows:
        return f"row: the prediction has {rows} row{'' if rows == 1 else 's'}, got row {row}"
    if series.kind == "class" and not isinstance(truth, str):
        return f"value: {series.model} version {series.version} predicts classes, expected a label"
    if series.kind == "value" and isinstance(truth, str):
        return f"label: {series.model} version {series.version} predicts numbers, expected a value"
    return ""


def _in_form(recorded: Packed, vocabulary: Vocabulary | None) -> Packed:
    """Returns a class in the form in which it is counted, also if an earlier release recorded it in another."""
    return class_or_text(recorded, vocabulary) if isinstance(recorded, str) else recorded


def _expired() -> Verdict:
    return Verdict(VerdictKind.EXPIRED, "its prediction is older than the prediction log keeps")


def _conflict(first: Truth) -> Verdict:
    return Verdict(VerdictKind.CONFLICT, f"{str(first)[:100]} came first and counts; this one is kept as a correction")


def _content(item: Feedback) -> bytes:
    parts: Mapping[str, object] = {"id": item.prediction_id, "own": item.inference_id, "row": item.row, "truth": item.truth}
    return blake2b(repr(sorted(parts.items())).encode(errors="surrogatepass"), digest_size=8).digest()
