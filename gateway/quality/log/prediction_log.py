"""The prediction log as the rest of the gateway sees it: one file, one writer at a time, any number of readers."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from gateway.clock import Clock
from gateway.contract.feedback import Feedback, Verdict
from gateway.contract.predictions import PredictionBatch
from gateway.errors import NotReady
from gateway.quality.log import expiry, read, write
from gateway.quality.log.config import LogCounts, PendingLimits, Series
from gateway.quality.log.join import Join, Memory
from gateway.quality.log.schema import open_reader, open_writer, set_aside, used_bytes
from gateway.quality.metrics import VersionQuality
from gateway.settings.sections import PredictionSettings

STEPS_A_TICK = 50

_log = structlog.get_logger("interlock.quality")


class PredictionLog:
    """
    PredictionSettings, and the ground truth joined with them, in one SQLite file. Thread-safe.

    What `accept` answered and `record` took is there after the process was killed. Raises NotReady where the file cannot
    be read or written (a full disk).
    """

    def __init__(self, path: Path, settings: PredictionSettings, clock: Clock, limits: PendingLimits = PendingLimits()) -> None:
        self._path, self._settings, self._limits, self._clock = path, settings, limits, clock
        self._lock = threading.Lock()  # of the writer's connection, the memory and the counts
        self._counts = LogCounts()
        self._db, self._memory = self._open()

    def _open(self) -> tuple[sqlite3.Connection, Memory]:
        try:
            return _opened(self._path)
        except sqlite3.OperationalError as error:
            raise NotReady(f"the prediction log {self._path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:  # not a database, or a damaged one: serving must go on without its past
            aside = set_aside(self._path, suffix=f"damaged-{self._now_ms()}")
            _log.error("prediction_log_damaged", path=str(self._path), kept_as=str(aside), error=str(error))
            return _opened(self._path)

    def know_epoch(self, epoch: int, incarnation: str) -> None:
        """Announces that prediction ids of this epoch are ours; ids of an epoch never announced are UNKNOWN."""
        with self._writing() as db:
            self._know(db, epoch, incarnation)

    def know_classes(self, model: str, version: int, classes: Sequence[str]) -> None:
        """Names a version's classes, so that a label may also be the index of one. Kept over restarts."""
        if self._memory.classes.get((model, version), ()) == tuple(classes):
            return
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO classes VALUES (?, ?, ?)", (model, version, json.dumps(list(classes))))
            self._memory.classes[model, version] = tuple(classes)

    def record(self, batches: Sequence[PredictionBatch]) -> None:
        """
        Writes predictions in one transaction and joins the labels that waited for them. A prediction that is there
        already is ignored. Never raises for what it cannot write: that is counted as dropped.
        """
        whole = [batch for batch in batches if write.is_whole(batch)]
        sent = sum(len(batch.counters) for batch in batches)
        lost = sent - sum(len(batch.counters) for batch in whole)
        try:
            with self._writing() as db:
                rows = self._rows(db, whole)
                kept = [row for row in rows if row[0] >= self._memory.floor_ms]
                recorded = write.insert(db, kept) if kept else 0
                counts = replace(self._counts)
                counts.recorded += recorded
                counts.dropped += lost + len(rows) - len(kept)
                if self._memory.waiting:
                    Join(db, self._settings, self._limits, self._memory, now_ms=self._now_ms()).arrived(kept, counts)
            self._counts = counts
        except NotReady as error:
            self._counts.dropped += sent
            _log.error("predictions_dropped", count=sent, error=str(error))

    def accept(self, items: Sequence[Feedback]) -> list[Verdict]:
        """
        Joins ground truth with predictions, in the order of ``items``; one verdict each. All of it is kept when this
        returns. Raises NotReady when it could not be kept, Overloaded when too many labels wait: then nothing was.
        """
        with self._writing() as db:
            return Join(db, self._settings, self._limits, self._memory, now_ms=self._now_ms()).verdicts(items)

    def quality(self, model: str, window_s: float = 0.0) -> tuple[VersionQuality, ...]:
        """Quality per version and arm over the predictions made in the last ``window_s`` seconds; 0 = all that is kept."""
        return tuple(one for _, one in self._quality(model, window_s))

    def quality_of_all(self, window_s: float = 0.0) -> tuple[tuple[str, VersionQuality], ...]:
        """As `quality`, for every model: (model, quality)."""
        return self._quality(None, window_s)

    def pending(self) -> int:
        """Labels that wait for their prediction."""
        return self._memory.pending

    def counts(self) -> LogCounts:
        """What was counted since the log was opened."""
        with self._lock:
            return replace(self._counts)

    def coverage(self, dropped_before: int = 0) -> float:
        """Share of predictions that are recorded: the sampling rate, less what the log or, ``dropped_before``, workers lost."""
        counts = self.counts()
        lost = counts.dropped + dropped_before
        return self._settings.prediction_sample * (counts.recorded / (counts.recorded + lost) if lost else 1.0)

    def tick(self) -> None:
        """
        Drops what is too old or too much, oldest first, and labels that waited in vain. Works in short steps between
        which others may write, and leaves what is too much for one call to the next.
        """
        now_ms = self._now_ms()
        with self._writing() as db:
            lapsed = expiry.lapse(db, now_ms - int(self._limits.pending_s * 1000))
            if lapsed:
                self._counts.lapsed += lapsed
                _recall_pending(db, self._memory)
        oldest_ms = now_ms - int(self._settings.prediction_window_s * 1000)
        limit: float = self._settings.prediction_bytes
        for _ in range(STEPS_A_TICK):
            with self._writing() as db:
                is_full = used_bytes(db) > limit
                floor_ms = expiry.next_floor(db, oldest_ms=oldest_ms, max_bytes=limit)
                if floor_ms is None:
                    break
                expiry.drop_before(db, floor_ms)
                self._memory.floor_ms = max(self._memory.floor_ms, floor_ms)
            limit = self._settings.prediction_bytes * expiry.FILL if is_full else limit
        with self._lock:
            try:
                expiry.give_back(self._db, self._settings.prediction_bytes)
            except sqlite3.Error as error:
                raise NotReady(f"the prediction log cannot be shortened now: {error}") from error

    def close(self) -> None:
        """Ends all use; nothing more may be called."""
        with self._lock:
            self._db.close()

    def _quality(self, model: str | None, window_s: float) -> tuple[tuple[str, VersionQuality], ...]:
        since_ms = self._now_ms() - int(window_s * 1000) if window_s > 0 else 0
        try:
            with closing(open_reader(self._path)) as db:
                return read.quality(db, model, max(since_ms, self._memory.floor_ms))
        except sqlite3.Error as error:
            raise NotReady(f"the prediction log cannot be read now: {error}") from error

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; what fails leaves tables and memory as they were."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._undo()
                raise NotReady(f"the prediction log cannot be written now: {error}") from error
            except BaseException:
                self._undo()
                raise

    def _undo(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._memory = _load(self._db)
        except sqlite3.Error as error:
            raise NotReady(f"the prediction log cannot be read now: {error}") from error

    def _rows(self, db: sqlite3.Connection, batches: Sequence[PredictionBatch]) -> list[write.Row]:
        def series_of(series: Series) -> int:
            return self._series_id(db, series)

        rows = [row for batch in batches for row in write.rows_of(batch, series_of, rate=self._settings.prediction_sample)]
        for epoch in {row[1] for row in rows} - self._memory.epochs:
            self._know(db, epoch, "")
        return rows

    def _series_id(self, db: sqlite3.Connection, series: Series) -> int:
        found = self._memory.series.get(series)
        if found is not None:
            return found
        values = (series.model, series.version, series.arm, series.kind)
        made = db.execute("INSERT INTO series (model, version, arm, kind) VALUES (?, ?, ?, ?)", values).lastrowid or 0
        self._memory.series[series] = made
        self._memory.by_id[made] = series
        return made

    def _know(self, db: sqlite3.Connection, epoch: int, incarnation: str) -> None:
        db.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?)", (epoch, incarnation))
        self._memory.epochs.add(epoch)


def _opened(path: Path) -> tuple[sqlite3.Connection, Memory]:
    db = open_writer(path)
    try:
        return db, _load(db)
    except BaseException:
        db.close()
        raise


def _load(db: sqlite3.Connection) -> Memory:
    by_id = {row[0]: Series(*row[1:]) for row in db.execute("SELECT id, model, version, arm, kind FROM series")}
    classes = db.execute("SELECT model, version, names FROM classes").fetchall()
    memory = Memory(
        series={series: series_id for series_id, series in by_id.items()},
        by_id=by_id,
        epochs={epoch for (epoch,) in db.execute("SELECT epoch FROM epochs")},
        classes={(model, version): tuple(json.loads(names)) for model, version, names in classes},
        waiting=set(),
        pending=0,
        floor_ms=db.execute("SELECT number FROM facts WHERE name = 'floor_ms'").fetchone()[0],
    )
    _recall_pending(db, memory)
    return memory


def _recall_pending(db: sqlite3.Connection, memory: Memory) -> None:
    memory.waiting = {target for (target,) in db.execute("SELECT DISTINCT target FROM pending")}
    memory.pending = db.execute("SELECT count(*) FROM pending").fetchone()[0]
