"""How many rows the next batch takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def batch_rows(waiting: int, max_rows: int, preferred: Sequence[int] = ()) -> int:
    """
    The most rows of the next batch when ``waiting`` rows wait: the largest of the ``preferred`` sizes (ascending) that they
    fill, else all that wait; never more than ``max_rows``. Preferred sizes are Triton's ``preferred_batch_size``.
    """
    if waiting < max_rows or preferred:
        for size in reversed(preferred):
            if size <= min(waiting, max_rows):
                return size
    return max_rows


def enough_rows(max_rows: int, preferred: Sequence[int] = ()) -> int:
    """Rows for which a batch that may wait to fill waits no longer."""
    return min(preferred[0], max_rows) if preferred else max_rows
