"""The prediction log's limits and counts, and the key under which predictions are counted. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class PendingLimits:
    """
    Limits on labels that wait for their prediction. They are no settings; tests set others.

    pending_s: seconds for which a label waits for a prediction that is not in the log yet; 0 does not wait.
    max_pending: labels that may wait at the same time; further ones are refused as an overload.
    """

    pending_s: float = 600.0
    max_pending: int = 200_000


@dataclass(slots=True)
class LogCounts:
    """
    Counts since the log was opened.

    ``recorded`` predictions (requests) were written; ``dropped`` ones could not be (full disk, malformed batch, older than
    the log keeps). Of the labels that waited for their prediction, ``joined_late`` were joined with it, ``lapsed`` waited
    longer than ``pending_s`` and were deleted, ``refused_late`` did not fit it.
    """

    recorded: int = 0
    dropped: int = 0
    joined_late: int = 0
    lapsed: int = 0
    refused_late: int = 0

    def plus(self, more: LogCounts) -> LogCounts:
        """Returns the sum."""
        return LogCounts(*(getattr(self, item.name) + getattr(more, item.name) for item in fields(self)))


@dataclass(frozen=True, slots=True)
class Series:
    """The key under which predictions and labels are counted. ``kind`` is class or value."""

    model: str
    version: int
    arm: str
    kind: str
