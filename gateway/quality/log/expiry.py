"""What leaves the prediction log: by age, by size, and labels that waited in vain. In short steps: others write between."""

from __future__ import annotations

import sqlite3

from gateway.quality.log.schema import MINUTE_MS, used_bytes

STEP = 2_000  # predictions a step
FILL = 0.95  # of the byte bound, to which a full log is emptied
VACUUM_PAGES = 500  # given back to the file system a step


def next_floor(db: sqlite3.Connection, *, oldest_ms: int, max_bytes: float) -> int | None:
    """The time before which one step should delete; None when there is nothing to do."""
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
    """Deletes predictions older than ``floor_ms`` with all that belongs to them, inside the caller's transaction."""
    db.execute("UPDATE facts SET number = max(number, ?) WHERE name = 'floor_ms'", (floor_ms,))
    for table in ("predictions", "labels", "corrections"):
        db.execute(f"DELETE FROM {table} WHERE time_ms < ?", (floor_ms,))
    for table in ("minutes", "cells", "sums"):
        db.execute(f"DELETE FROM {table} WHERE minute < ?", (floor_ms // MINUTE_MS,))
    db.execute("DELETE FROM keys WHERE received_ms < ?", (floor_ms,))


def lapse(db: sqlite3.Connection, before_ms: int) -> int:
    """
    Deletes labels that have waited since before ``before_ms``, at most a step of them; returns how many.

    Their idempotency keys go too: sent again, they are judged again.
    """
    old = "SELECT seq FROM pending WHERE received_ms < ? ORDER BY seq LIMIT ?"
    keys = f"DELETE FROM keys WHERE key IN (SELECT key FROM pending WHERE seq IN ({old}) AND key IS NOT NULL)"
    db.execute(keys, (before_ms, STEP))
    return db.execute(f"DELETE FROM pending WHERE seq IN ({old})", (before_ms, STEP)).rowcount


def give_back(db: sqlite3.Connection, max_bytes: float) -> None:
    """Shortens a file that is longer than the byte bound by some of its free pages (outside a transaction)."""
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * size > max_bytes:
        # execute() would step the statement once, which is one page
        db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
