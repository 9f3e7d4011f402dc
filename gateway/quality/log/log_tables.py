"""
The prediction log's tables and connections (SQLite in write-ahead mode).

Predictions are clustered by the time in their id: new ones are appended, a window is a range, and the oldest are deleted
without a separate index. A row of ``labels`` repeats the series and the prediction, and is added to sums per minute on
arrival. So quality reads single rows only for the part of a minute with which a window begins.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from gateway.errors import ForbiddenNow

VERSION = 1  # of the tables below
BUSY_S = 5.0  # seconds to wait for a program that has locked the file: less than callers wait for an answer
MINUTE_MS = 60_000  # ms in a minute, the unit of the sums

_TABLES = """
CREATE TABLE series (id INTEGER PRIMARY KEY, model TEXT NOT NULL, version INTEGER NOT NULL, arm TEXT NOT NULL,
    kind TEXT NOT NULL, UNIQUE (model, version, arm, kind)) STRICT;
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, incarnation TEXT NOT NULL) STRICT;
-- classes: written by releases before the table vocabularies, which has what they lack
CREATE TABLE classes (model TEXT NOT NULL, version INTEGER NOT NULL, names TEXT NOT NULL,
    PRIMARY KEY (model, version)) STRICT, WITHOUT ROWID;
-- predicted: one row: the label, or the number (NULL: NaN); several rows: JSON of labels, or packed float64
CREATE TABLE predictions (time_ms INTEGER NOT NULL, epoch INTEGER NOT NULL, counter INTEGER NOT NULL,
    series INTEGER NOT NULL, rows INTEGER NOT NULL, predicted ANY, inference BLOB,
    PRIMARY KEY (time_ms, epoch, counter)) STRICT, WITHOUT ROWID;
CREATE INDEX predictions_by_inference ON predictions (inference) WHERE inference IS NOT NULL;
CREATE TABLE minutes (minute INTEGER NOT NULL, series INTEGER NOT NULL, rows INTEGER NOT NULL,
    PRIMARY KEY (minute, series)) STRICT, WITHOUT ROWID;
CREATE TABLE labels (time_ms INTEGER NOT NULL, epoch INTEGER NOT NULL, counter INTEGER NOT NULL, row INTEGER NOT NULL,
    series INTEGER NOT NULL, predicted ANY, truth ANY NOT NULL, received_ms INTEGER NOT NULL, observed_ms INTEGER,
    source TEXT, PRIMARY KEY (time_ms, epoch, counter, row)) STRICT, WITHOUT ROWID;
-- labelled rows by minute: confusion counts of classifiers, moments of regressors (NULL: NaN)
CREATE TABLE cells (minute INTEGER NOT NULL, series INTEGER NOT NULL, truth TEXT NOT NULL, predicted TEXT NOT NULL,
    rows INTEGER NOT NULL, PRIMARY KEY (minute, series, truth, predicted)) STRICT, WITHOUT ROWID;
CREATE TABLE sums (minute INTEGER NOT NULL, series INTEGER NOT NULL, labelled INTEGER NOT NULL, n INTEGER NOT NULL,
    sum_abs REAL, sum_error REAL, sum_square REAL, mean_truth REAL, m2_truth REAL,
    PRIMARY KEY (minute, series)) STRICT, WITHOUT ROWID;
CREATE TABLE corrections (time_ms INTEGER NOT NULL, epoch INTEGER NOT NULL, counter INTEGER NOT NULL, row INTEGER NOT NULL,
    truth ANY NOT NULL, series INTEGER NOT NULL, received_ms INTEGER NOT NULL, observed_ms INTEGER, source TEXT,
    PRIMARY KEY (time_ms, epoch, counter, row, truth)) STRICT, WITHOUT ROWID;
-- labels without their prediction: by id (time_ms, epoch, counter) or by the caller's id (inference)
CREATE TABLE pending (seq INTEGER PRIMARY KEY AUTOINCREMENT, target BLOB NOT NULL, row INTEGER NOT NULL, truth ANY NOT NULL,
    received_ms INTEGER NOT NULL, observed_ms INTEGER, source TEXT, key BLOB) STRICT;
CREATE INDEX pending_by_target ON pending (target, row);
CREATE TABLE keys (key BLOB PRIMARY KEY, content BLOB NOT NULL, received_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_time ON keys (received_ms);
CREATE TABLE facts (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO facts VALUES ('floor_ms', 0);
"""


# Added without a new VERSION: an earlier release does not read it.
_VOCABULARIES = """
CREATE TABLE IF NOT EXISTS vocabularies (model TEXT NOT NULL, version INTEGER NOT NULL, datatype TEXT NOT NULL,
    classes TEXT NOT NULL, columns INTEGER NOT NULL, PRIMARY KEY (model, version)) STRICT, WITHOUT ROWID;
"""


def open_writer(path: Path) -> sqlite3.Connection:
    """
    Opens the only connection that writes, and creates the tables in a new file.

    A commit survives the death of the process. With synchronous=NORMAL, the last commits may be lost if the machine loses
    power. Raises ForbiddenNow for a file of a newer release.
    """
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
    try:
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")  # has an effect only in a new file, before its first table
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA journal_size_limit=67108864")
        _migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def set_aside(path: Path, *, suffix: str) -> Path:
    """Renames a database and its companion files, so that a new one can be created. Returns the main file's new path."""
    for companion in ("-wal", "-shm", ""):
        old = path.with_name(path.name + companion)
        if old.exists():
            old.rename(path.with_name(f"{path.name}.{suffix}{companion}"))
    return path.with_name(f"{path.name}.{suffix}")


def open_reader(path: Path) -> sqlite3.Connection:
    """Opens a connection for one reader. It sees everything that was committed before each of its transactions."""
    db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
    db.execute("PRAGMA query_only=ON")
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if found > VERSION:
        raise ForbiddenNow(f"{path}: written by a newer release (schema {found}, this one knows {VERSION})", rule="schema")
    if found == 0:
        db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={VERSION}; COMMIT;")
    db.execute(_VOCABULARIES)


def used_bytes(db: sqlite3.Connection) -> int:
    """Returns the bytes of the pages in use."""
    pages, free, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)
