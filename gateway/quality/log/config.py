"""How much the prediction log keeps, for how long, and what it has counted. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class LogConfig:
    """
    sample_rate: share of predictions that are recorded, 0 to 1, chosen by `prediction_id.is_sampled`; 0 = none.
    window_s: seconds for which a prediction is kept (by the time in its id).
    max_bytes: bytes of the database in use; the oldest predictions go first.
    pending_s: seconds for which a label waits for a prediction that is not in the log yet; 0 = not at all.
    max_pending: labels that may wait at a time; more are refused as an overload.
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
    Counted since the log was opened. ``recorded`` predictions (requests) were written, ``dropped`` could not be (a full
    disk, a malformed batch, older than what is kept). ``joined_late`` labels waited for their prediction, ``lapsed`` ones
    waited in vain, ``refused_late`` ones turned out not to fit it.
    """

    recorded: int = 0
    dropped: int = 0
    joined_late: int = 0
    lapsed: int = 0
    refused_late: int = 0


@dataclass(frozen=True, slots=True)
class Series:
    """Who predicted: predictions and labels are counted per series. ``kind`` is class or value."""

    model: str
    version: int
    arm: str
    kind: str
