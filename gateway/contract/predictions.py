"""The predictions that workers send for the prediction log, in columns. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """
    Predictions of one version since the last message, in columns (one entry per request unless said otherwise).

    ``epoch``, ``times_ms`` and ``counters`` are the parts of the responses' prediction ids (`gateway.quality.prediction_id`);
    ``inference_ids`` are the callers' own ids or ""; ``rows`` the rows of each request. Flat over all rows: ``labels`` when the
    kind is class (labels as text), ``numbers`` when it is value.
    """

    model: str
    version: int
    arms: tuple[str, ...]
    kind: str  # "class" or "value"
    epoch: int
    times_ms: tuple[int, ...]
    counters: tuple[int, ...]
    inference_ids: tuple[str, ...]
    rows: tuple[int, ...]
    labels: tuple[str, ...] = ()
    numbers: tuple[float, ...] = ()
