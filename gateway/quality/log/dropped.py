"""The predictions that could not be written lately, so that their ground truth is told so instead of waiting for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.contract.predictions import PredictionBatch

MAX_DROPPED = 50_000  # predictions remembered: some MiB; of older ones it is not known any more


@dataclass(frozen=True, slots=True)
class _Batch:
    epoch: int
    counters: frozenset[int]
    inference_ids: frozenset[str]


class DroppedPredictions:
    """The last MAX_DROPPED predictions that were dropped. Not thread-safe: the log's lock guards it."""

    def __init__(self, limit: int = MAX_DROPPED) -> None:
        self._limit, self._count = limit, 0
        self._batches: deque[_Batch] = deque()

    def add(self, batches: Sequence[PredictionBatch]) -> None:
        """Remembers the predictions of these batches, and forgets the oldest beyond the limit."""
        for batch in batches:
            made = _Batch(batch.epoch, frozenset(batch.counters), frozenset(filter(None, batch.inference_ids)))
            self._batches.append(made)
            self._count += len(made.counters)
        while self._count > self._limit:
            self._count -= len(self._batches.popleft().counters)

    def has(self, epoch: int, counter: int) -> bool:
        """Returns whether the prediction with this id was dropped."""
        return any(batch.epoch == epoch and counter in batch.counters for batch in self._batches)

    def has_own(self, inference_id: str) -> bool:
        """Returns whether a prediction with this id of its caller was dropped."""
        return any(inference_id in batch.inference_ids for batch in self._batches)
