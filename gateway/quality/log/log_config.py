"""The prediction log's configuration, its counts, and the key under which predictions are counted. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class LogConfig:
    """
    Configuration of the prediction log.

    sample_rate: share of the predictions that are recorded, 0 to 1, chosen by `prediction_id.is_sampled`; 0 records none.
    window_s: seconds for which a prediction is kept, from the time in its id.
    max_bytes: bytes that the database may use; beyond it, the oldest predictions are deleted.
    pending_s: seconds for which a label waits for a prediction that is not in the log yet; 0 does not wait.
    max_pending: labels that may wait at the same time; further ones are refused as an overload.
    """

    sample_rate: float = 1.0
    window_s: float = 7 * 86_400.0
    max_bytes: float = 5e9
    pending_s: float = 600.0
    max_pending: int = 200_000

    def __post_init__(self) -> None:
        if not 0 <= self.sample_rate <= 1:
            raise InvalidRequest(f"sample_rate: expected 0 to 1, got {self.sample_rate:g}", field="sample_rate")
        for field in ("window_s", "max_bytes", "max_pending"):
            if not getattr(self, field) > 0:
                raise InvalidRequest(f"{field}: expected more than 0, got {getattr(self, field):g}", field=field)
        if not self.pending_s >= 0:
            raise InvalidRequest(f"pending_s: expected 0 or more, got {self.pending_s:g}", field="pending_s")


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


@dataclass(frozen=True, slots=True)
class Series:
    """The key under which predictions and labels are counted. ``kind`` is class or value."""

    model: str
    version: int
    arm: str
    kind: str
