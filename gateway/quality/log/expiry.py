"""
Deletion from the prediction log: predictions by age and by the log's size, and labels that waited too long. It works in short
steps, so that others can write in between.
"""

from __future__ import annotations

import sqlite3

from gateway.quality.log.log_tables import MINUTE_MS, used_bytes

STEP = 2_000  # predictions, or labels, deleted per step
FILL = 0.95  # share of the byte bound down to which a full log is emptied, so that it is not full again at once
VACUUM_PAGES = 500  # pages returned to the file system per step


def next_floor(db: sqlite3.Connection, *, oldest_ms: int, max_bytes: float) -> int | None:
    """Returns the time (ms) before which the next step should delete; None if there is nothing to delete."""
    is_full = used_bytes(db) > max_bytes
    first = db.execute("SELECT time_ms FROM predictions ORDER BY time_ms LIMIT 1").fetchone()
    if first is None or (first[0] >= oldest_ms and not is_full):
        return None
    after = db.execute("SELECT time_ms FROM predictions ORDER BY time_ms LIMIT 1 OFFSET ?", (STEP,)).fetchone()
    if after is None:
        after = (db.execute("SELECT max(time_ms) FROM predictions").fetchone()[0] + 1,)
    bound = max(int(after[0]), int(first[0]) + 1)
    return bound if is_full else min(bound, oldest_ms)


def drop_before(db: sqlite3.Connection, floor_ms: int) -> None:
    """Deletes predictions before ``floor_ms`` and everything that belongs to them, inside the caller's transaction."""
    db.execute("UPDATE facts SET number = max(number, ?) WHERE name = 'floor_ms'", (floor_ms,))
    for table in ("predictions", "labels", "corrections"):
        db.execute(f"DELETE FROM {table} WHERE time_ms < ?", (floor_ms,))
    for table in ("minutes", "cells", "sums"):
        db.execute(f"DELETE FROM {table} WHERE minute < ?", (floor_ms // MINUTE_MS,))
    db.execute("DELETE FROM keys WHERE received_ms < ?", (floor_ms,))


def lapse(db: sqlite3.Connection, before_ms: int) -> int:
    """
    Deletes labels that arrived before ``before_ms`` and still wait, at most STEP of them. Returns their number.

    Deletes their idempotency keys too, so that a label that is sent again gets a new verdict.
    """
    old = "SELECT seq FROM pending WHERE received_ms < ? ORDER BY seq LIMIT ?"
    keys = f"DELETE FROM keys WHERE key IN (SELECT key FROM pending WHERE seq IN ({old}) AND key IS NOT NULL)"
    db.execute(keys, (before_ms, STEP))
    return db.execute(f"DELETE FROM pending WHERE seq IN ({old})", (before_ms, STEP)).rowcount


def give_back(db: sqlite3.Connection, max_bytes: float) -> None:
    """Returns some free pages of a file beyond the byte bound to the file system. Must run outside a transaction."""
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * size > max_bytes:
        # execute() would step the statement once, which returns one page only
        db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
