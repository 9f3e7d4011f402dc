"""Limits, counts and series of the prediction log. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PendingLimits:
    """
    Limits on labels that wait for their prediction; no settings, tests set others.

    pending_s: seconds for which a label waits for a prediction that is not in the log yet; 0 for not at all.
    max_pending: labels that may wait at a time; further ones are refused as an overload.
    """

    pending_s: float = 600.0
    max_pending: int = 200_000


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
