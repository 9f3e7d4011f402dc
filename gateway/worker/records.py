"""Prediction records on their way to control: taken in a moment after the reply, put into columns by whoever sends them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from gateway.fleet import PredictionBatch
from gateway.quality.prediction_id import is_sampled, prefix
from gateway.rpc.codec import id_text
from gateway.runtime.session import Array
from registry.versions import Prediction, PredictionKind

MAX_WAITING_ROWS = 100_000


class PredictionIds:
    """Issues prediction ids; thread-safe, since each counter value is drawn by one C call."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._next = count().__next__

    def draw(self, ids: int) -> list[int]:
        """Counters of so many new ids."""
        draw = self._next
        return [draw() for _ in range(ids)]


@dataclass(frozen=True, slots=True)
class Executed:
    """What is kept of one executed batch: one entry per request, ``output`` over all rows."""

    time_ms: int
    model: str
    version: int
    prediction: Prediction
    arms: list[str]
    counters: list[int]
    id_fields: list[bytes]
    rows: list[int]
    output: Array


class Records:
    """A bounded buffer of executed batches. ``sample_rate`` (0 to 1) decides by prediction id what is kept."""

    def __init__(self, epoch: int, sample_rate: float) -> None:
        self._epoch = epoch
        self.sample_rate = sample_rate
        self.dropped = 0
        self._waiting: deque[Executed] = deque()
        self._rows = 0
        self._lock = threading.Lock()

    def offer(self, executed: Executed) -> None:
        """Keeps a batch, or counts its requests as dropped when the buffer is full."""
        rows = len(executed.output)
        with self._lock:
            if self._rows + rows > MAX_WAITING_ROWS:
                self.dropped += len(executed.rows)
                return
            self._rows += rows
            self._waiting.append(executed)

    def take(self) -> list[PredictionBatch]:
        """Everything that waits, in columns."""
        with self._lock:
            waiting, self._waiting, self._rows = self._waiting, deque(), 0
        batches = (_columns(executed, self._epoch, self.sample_rate) for executed in waiting)
        return [batch for batch in batches if batch.prediction_ids]


def _columns(executed: Executed, epoch: int, sample_rate: float) -> PredictionBatch:
    head = prefix(executed.time_ms, epoch)
    kept = [i for i, counter in enumerate(executed.counters) if is_sampled(counter, sample_rate)]
    output = executed.output
    if len(kept) != len(executed.counters):
        output = output[np.repeat([is_sampled(c, sample_rate) for c in executed.counters], executed.rows)]
    is_value = executed.prediction.kind is PredictionKind.VALUE
    return PredictionBatch(
        time_ms=executed.time_ms,
        model=executed.model,
        version=executed.version,
        arms=tuple(executed.arms[i] for i in kept),
        kind="value" if is_value else "class",
        prediction_ids=tuple(f"{head}{executed.counters[i]:012x}" for i in kept),
        inference_ids=tuple(id_text(executed.id_fields[i]) for i in kept),
        rows=tuple(executed.rows[i] for i in kept),
        labels=() if is_value else tuple(labels(executed.prediction, output)),
        numbers=tuple(output.reshape(-1).astype(np.float64).tolist()) if is_value else (),
    )


def labels(prediction: Prediction, output: Array) -> list[str]:
    """The predicted class of each row, as text: the label itself, or the name or index of the largest score."""
    if prediction.kind is PredictionKind.SCORES:
        best = np.argmax(output.reshape(len(output), -1), axis=1).tolist() if len(output) else []
        return [prediction.classes[i] if i < len(prediction.classes) else str(i) for i in best]
    return [_label(value) for value in output.reshape(-1).tolist()]


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def has_row_each(prediction: Prediction, output: Array, rows: Sequence[int]) -> bool:
    """Whether an output has one prediction for every row, so that it can be recorded."""
    if not output.ndim or len(output) != sum(rows):
        return False
    return prediction.kind is PredictionKind.SCORES or output.size == len(output)
