"""Predictions on their way to control: kept while it is away, in bounded number. Not thread-safe; one thread owns it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from gateway.contract.predictions import PredictionBatch

MAX_PREDICTIONS = 100_000


class PredictionBuffer:
    """
    First in, first out. Beyond ``limit`` predictions the oldest batches are dropped, and counted in ``dropped``: the
    newest are those whose ground truth is still to come.
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
        """Keeps the batches, dropping the oldest where there is no room."""
        for batch in batches:
            self._batches.append(batch)
            self._count += len(batch.counters)
        while self._count > self._limit:
            dropped = len(self._batches.popleft().counters)
            self._count -= dropped
            self.dropped += dropped

    def send(self, send: Callable[[PredictionBatch], bool]) -> bool:
        """Sends everything, in order; stops at what ``send`` refuses and keeps it. Whether all went."""
        while self._batches:
            if not send(self._batches[0]):
                return False
            self._count -= len(self._batches.popleft().counters)
        return True
