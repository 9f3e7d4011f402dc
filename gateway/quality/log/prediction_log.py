"""The prediction log's entrance: transactions on one file, with one writer at a time and any number of readers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import structlog

from gateway.clock import Clock
from gateway.contract.feedback import Feedback, Verdict
from gateway.contract.predictions import PredictionBatch
from gateway.errors import NotReady
from gateway.quality.log import expiry, read, vocabularies, write
from gateway.quality.log.dropped import DroppedPredictions
from gateway.quality.log.join import Join, LogCache
from gateway.quality.log.log_tables import BUSY_S, open_reader, open_writer, set_aside, used_bytes
from gateway.quality.log.log_values import LogCounts, PendingLimits, Series
from gateway.quality.metrics import VersionQuality
from gateway.quality.vocabulary import Vocabulary
from gateway.settings.sections import PredictionSettings
from gateway.telemetry.limited_log import LimitedLog

RECORD_S = 30.0  # seconds that recording waits, as nobody waits for it and it would drop predictions
STEPS_A_TICK = 50  # deletions of `expiry.STEP` predictions per tick; the rest is left to the next tick

_log = structlog.get_logger("interlock.quality")
_limited = LimitedLog(_log)


class PredictionLog:
    """
    Predictions, and the ground truth joined with them, in one SQLite file. Implements `PredictionStore`. Thread-safe.

    Everything that `accept` answered or `record` wrote survives a kill of the process. Methods raise NotReady if the file
    cannot be read or written, for example because the disk is full.
    """

    def __init__(self, path: Path, settings: PredictionSettings, clock: Clock, limits: PendingLimits = PendingLimits()) -> None:
        self._path, self._settings, self._limits, self._clock = path, settings, limits, clock
        self._lock = threading.Lock()  # guards the writer's connection, the cache and what was dropped; held over I/O
        self._counting = threading.Lock()  # guards changes of the counts; never held over I/O
        self._counts = LogCounts()  # replaced as a whole, so it is read without a lock
        self._dropped = DroppedPredictions()
        self._db, self._cache = self._open()

    def __repr__(self) -> str:
        return f"PredictionLog({str(self._path)!r}, pending={self._cache.pending}, {self._counts})"

    def _open(self) -> tuple[sqlite3.Connection, LogCache]:
        try:
            return _opened(self._path)
        except sqlite3.OperationalError as error:
            raise NotReady(f"the prediction log {self._path} cannot be opened: {error}") from error
        except (
            sqlite3.DatabaseError
        ) as error:  # not a database, or a damaged one: start with an empty log, so that serving goes on
            aside = set_aside(self._path, suffix=f"damaged-{self._now_ms()}")
            _log.error("prediction_log_damaged", path=str(self._path), kept_as=str(aside), error=str(error))
            return _opened(self._path)

    def know_epoch(self, epoch: int, incarnation: str) -> None:

        with self._writing() as db:
            self._know(db, epoch, incarnation)

    def know_vocabulary(self, model: str, version: int, vocabulary: Vocabulary) -> None:

        if self._cache.vocabularies.get((model, version)) == vocabulary:
            return
        with self._writing() as db:
            vocabularies.store(db, model, version, vocabulary)
            self._cache.vocabularies[model, version] = vocabulary

    def record(self, batches: Sequence[PredictionBatch]) -> None:

        whole = [batch for batch in batches if write.is_whole(batch)]
        sent = sum(len(batch.counters) for batch in batches)
        lost = sent - sum(len(batch.counters) for batch in whole)
        try:
            with self._writing(RECORD_S) as db:
                rows = self._rows(db, whole)
                kept = [row for row in rows if row[0] >= self._cache.floor_ms]
                recorded = write.insert(db, kept) if kept else 0
                counts = LogCounts(recorded, lost + len(rows) - len(kept))
                if self._cache.waiting:
                    self._join(db).arrived(kept, counts)
            self._count(counts)
        except NotReady as error:
            self._count(LogCounts(dropped=sent))
            with self._lock:
                self._dropped.add(whole)
            _limited.error("predictions_dropped", count=sent, dropped_in_all=self._counts.dropped, error=str(error))

    def accept(self, items: Sequence[Feedback]) -> list[Verdict]:

        with self._writing() as db:
            return self._join(db).verdicts(items)

    def quality(self, model: str, window_s: float = 0.0) -> tuple[VersionQuality, ...]:

        return tuple(one for _, one in self._quality(model, window_s))

    def quality_of_all(self, window_s: float = 0.0) -> tuple[tuple[str, VersionQuality], ...]:

        return self._quality(None, window_s)

    def pending(self) -> int:

        return self._cache.pending

    def counts(self) -> LogCounts:

        return self._counts

    def coverage(self, dropped_before: int = 0) -> float:

        counts = self.counts()
        lost = counts.dropped + dropped_before
        return self._settings.prediction_sample * (counts.recorded / (counts.recorded + lost) if lost else 1.0)

    def tick(self) -> None:
        """
        Deletes predictions that are too old or exceed the bound, oldest first, and labels that waited too long. Works in short
        transactions, between which others may write, and at most STEPS_A_TICK of them; the next call continues.
        """
        now_ms = self._now_ms()
        with self._writing() as db:
            lapsed = expiry.lapse(db, now_ms - int(self._limits.pending_s * 1000))
            if lapsed:
                self._count(LogCounts(lapsed=lapsed))
                _recall_pending(db, self._cache)
        oldest_ms = now_ms - int(self._settings.prediction_window_s * 1000)
        limit: float = self._settings.prediction_bytes
        for _ in range(STEPS_A_TICK):
            with self._writing() as db:
                is_full = used_bytes(db) > limit
                floor_ms = expiry.next_floor(db, oldest_ms=oldest_ms, max_bytes=limit)
                if floor_ms is None:
                    break
                expiry.drop_before(db, floor_ms)
                self._cache.floor_ms = max(self._cache.floor_ms, floor_ms)
            limit = self._settings.prediction_bytes * expiry.FILL if is_full else limit
        with self._lock:
            try:
                expiry.give_back(self._db, self._settings.prediction_bytes)
            except sqlite3.Error as error:
                raise NotReady(f"the prediction log cannot be shortened now: {error}") from error

    def close(self) -> None:
        """Closes the file. No method may be called afterwards."""
        with self._lock:
            self._db.close()

    def _quality(self, model: str | None, window_s: float) -> tuple[tuple[str, VersionQuality], ...]:
        since_ms = self._now_ms() - int(window_s * 1000) if window_s > 0 else 0
        try:
            with closing(open_reader(self._path)) as db:
                return read.quality(db, model, max(since_ms, self._cache.floor_ms))
        except sqlite3.Error as error:
            raise NotReady(f"the prediction log cannot be read now: {error}") from error

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)

    @contextmanager
    def _writing(self, wait_s: float = BUSY_S) -> Iterator[sqlite3.Connection]:
        """
        Runs one transaction. Waits ``wait_s`` for other threads and as long for other programs. A failure leaves the tables
        and the cache as they were.
        """
        if not self._lock.acquire(timeout=wait_s):
            raise NotReady("the prediction log cannot be written now: it is slow, or another program has locked it")
        try:
            try:
                self._db.execute(f"PRAGMA busy_timeout={int(wait_s * 1000)}")
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._undo()
                raise NotReady(f"the prediction log cannot be written now: {error}") from error
            except BaseException:
                self._undo()
                raise
        finally:
            self._lock.release()

    def _join(self, db: sqlite3.Connection) -> Join:
        return Join(db, self._settings, self._limits, self._cache, self._dropped, now_ms=self._now_ms())

    def _count(self, more: LogCounts) -> None:
        with self._counting:
            self._counts = self._counts.plus(more)

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._cache = _load(self._db)
        except sqlite3.Error as error:
            raise NotReady(f"the prediction log cannot be read now: {error}") from error

    def _rows(self, db: sqlite3.Connection, batches: Sequence[PredictionBatch]) -> list[write.Row]:
        def series_of(series: Series) -> int:
            return self._series_id(db, series)

        rows = [row for batch in batches for row in write.rows_of(batch, series_of, rate=self._settings.prediction_sample)]
        for epoch in {row[1] for row in rows} - self._cache.epochs:
            self._know(db, epoch, "")
        return rows

    def _series_id(self, db: sqlite3.Connection, series: Series) -> int:
        found = self._cache.series.get(series)
        if found is not None:
            return found
        values = (series.model, series.version, series.arm, series.kind)
        made = db.execute("INSERT INTO series (model, version, arm, kind) VALUES (?, ?, ?, ?)", values).lastrowid or 0
        self._cache.series[series] = made
        self._cache.by_id[made] = series
        return made

    def _know(self, db: sqlite3.Connection, epoch: int, incarnation: str) -> None:
        db.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?)", (epoch, incarnation))
        self._cache.epochs.add(epoch)


def _opened(path: Path) -> tuple[sqlite3.Connection, LogCache]:
    db = open_writer(path)
    try:
        return db, _load(db)
    except BaseException:
        db.close()
        raise


def _load(db: sqlite3.Connection) -> LogCache:
    by_id = {row[0]: Series(*row[1:]) for row in db.execute("SELECT id, model, version, arm, kind FROM series")}
    cache = LogCache(
        series={series: series_id for series_id, series in by_id.items()},
        by_id=by_id,
        epochs={epoch for (epoch,) in db.execute("SELECT epoch FROM epochs")},
        vocabularies=vocabularies.load(db),
        waiting=set(),
        pending=0,
        floor_ms=db.execute("SELECT number FROM facts WHERE name = 'floor_ms'").fetchone()[0],
    )
    _recall_pending(db, cache)
    return cache


def _recall_pending(db: sqlite3.Connection, cache: LogCache) -> None:
    cache.waiting = {target for (target,) in db.execute("SELECT DISTINCT target FROM pending")}
    cache.pending = db.execute("SELECT count(*) FROM pending").fetchone()[0]
