"""Predictions on their way to control: a bounded number is kept while it is away. Not thread-safe: one thread owns it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from gateway.contract.predictions import PredictionBatch

MAX_PREDICTIONS = 100_000  # predictions kept; the oldest batches beyond it are dropped and counted


class PredictionBuffer:
    """
    A first-in-first-out buffer. Beyond ``limit`` predictions the oldest batches are dropped and counted in ``dropped``, as
    ground truth is more likely to come for newer ones.
    """

    def __init__(self, limit: int = MAX_PREDICTIONS) -> None:
        self._limit = limit
        self._batches: deque[PredictionBatch] = deque()
        self._count = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Predictions kept."""
        return self._count

    def add(self, batches: Iterable[PredictionBatch]) -> None:
        """Adds batches, and drops the oldest if there is no room."""
        for batch in batches:
            self._batches.append(batch)
            self._count += len(batch.counters)
        while self._count > self._limit:
            dropped = len(self._batches.popleft().counters)
            self._count -= dropped
            self.dropped += dropped

    def send(self, send: Callable[[PredictionBatch], bool]) -> bool:
        """Sends everything in order; stops at, and keeps, a batch that ``send`` refuses. Returns whether all were sent."""
        while self._batches:
            if not send(self._batches[0]):
                return False
            self._count -= len(self._batches.popleft().counters)
        return True
