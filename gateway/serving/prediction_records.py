"""Prediction records on their way to control: kept as they are after the reply, put into columns when they are sent."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from typing import Any

import numpy as np

from gateway.contract.predictions import PredictionBatch
from gateway.quality.prediction_id import is_sampled
from gateway.runtime.session import Array
from gateway.serving.oip.decode import id_text
from registry.versions import Prediction, PredictionKind

MAX_KEPT_ROWS = 100_000  # rows kept until the next report; further batches are dropped and counted


class PredictionIds:
    """Issues prediction ids; thread-safe."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._next = 0
        self._lock = threading.Lock()

    def draw(self, ids: int) -> range:
        """Returns the counters of ``ids`` new ids."""
        with self._lock:
            first, self._next = self._next, self._next + ids
        return range(first, first + ids)


@dataclass(slots=True)  # not frozen: to make a frozen one takes three times as long
class Executed:
    """One executed batch: one entry per request, ``output`` over all rows."""

    time_ms: int
    model: str
    version: int
    prediction: Prediction
    arms: list[str]
    counters: Sequence[int]
    id_fields: list[bytes]
    rows: list[int]
    output: Array


class Records:
    """A bounded buffer of executed batches. ``sample_rate`` (0 to 1) decides by prediction id what is kept."""

    def __init__(self, epoch: int, sample_rate: float) -> None:
        self._epoch = epoch
        self.sample_rate = sample_rate
        self.dropped = 0
        self._kept: deque[Executed] = deque()
        self._rows = 0
        self._lock = threading.Lock()

    def offer(self, executed: Executed) -> None:
        """Keeps a batch, or counts its requests as dropped when the buffer is full."""
        rows = len(executed.output)
        with self._lock:
            if self._rows + rows > MAX_KEPT_ROWS:
                self.dropped += len(executed.rows)
                return
            self._rows += rows
            self._kept.append(executed)

    def take(self) -> list[PredictionBatch]:
        """Returns everything kept, in columns: one value per version, since every message costs control time."""
        with self._lock:
            kept, self._kept, self._rows = self._kept, deque(), 0
        by_version: dict[tuple[str, int, Prediction], list[Executed]] = {}
        for executed in kept:
            by_version.setdefault((executed.model, executed.version, executed.prediction), []).append(executed)
        batches = (self._columns(executions) for executions in by_version.values())
        return [batch for batch in batches if batch.counters]

    def _columns(self, executions: list[Executed]) -> PredictionBatch:
        """Returns the executions of one version in columns. Works on whole columns, since a step per request is slow."""
        if self.sample_rate < 1:
            executions = [self._sampled(one) for one in executions]
        first = executions[0]
        is_value = first.prediction.kind is PredictionKind.VALUE
        outputs = _merged([one.output for one in executions])
        return PredictionBatch(
            model=first.model,
            version=first.version,
            arms=tuple(chain.from_iterable(one.arms for one in executions)),
            kind="value" if is_value else "class",
            epoch=self._epoch,
            times_ms=tuple(chain.from_iterable(repeat(one.time_ms, len(one.counters)) for one in executions)),
            counters=tuple(chain.from_iterable(one.counters for one in executions)),
            inference_ids=_own_ids(list(chain.from_iterable(one.id_fields for one in executions))),
            rows=tuple(chain.from_iterable(one.rows for one in executions)),
            labels=() if is_value else tuple(chain.from_iterable(labels(first.prediction, output) for output in outputs)),
            numbers=tuple(float(x) for output in outputs for x in output.reshape(-1).tolist()) if is_value else (),
        )

    def _sampled(self, executed: Executed) -> Executed:
        """Returns an execution with only the requests that are in the sample."""
        kept = [index for index, counter in enumerate(executed.counters) if is_sampled(counter, self.sample_rate)]
        if len(kept) == len(executed.rows):
            return executed
        is_kept = np.zeros(len(executed.rows), np.bool_)
        is_kept[kept] = True
        return replace(
            executed,
            arms=[executed.arms[index] for index in kept],
            counters=[executed.counters[index] for index in kept],
            id_fields=[executed.id_fields[index] for index in kept],
            rows=[executed.rows[index] for index in kept],
            output=executed.output[np.repeat(is_kept, executed.rows)],
        )


def _own_ids(fields: list[bytes]) -> tuple[str, ...]:
    """Returns the callers' own ids; most callers give none."""
    return tuple(id_text(field) for field in fields) if any(fields) else ("",) * len(fields)


def _merged(outputs: list[Array]) -> list[Array]:
    """Returns one array of all rows if their shapes are equal, else the arrays."""
    return [np.concatenate(outputs)] if len({output.shape[1:] for output in outputs}) == 1 else outputs


def labels(prediction: Prediction, output: Array) -> list[str]:
    """Returns the predicted class of each row as text: the label itself, or the name or index of the largest score."""
    if prediction.kind is PredictionKind.SCORES:
        best = np.argmax(output.reshape(len(output), -1), axis=1).tolist() if len(output) else []
        named = prediction.classes
        names = (*named, *map(str, range(len(named), max(best, default=0) + 1)))
        return [names[i] for i in best]
    values = output.reshape(-1).tolist()
    texts = {value: _label(value) for value in set(values)}
    return [texts[value] for value in values]


def _label(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def has_row_each(prediction: Prediction, output: Array, rows: Sequence[int]) -> bool:
    """Whether an output has one prediction for every row, so that it can be recorded."""
    if not output.ndim or len(output) != sum(rows):
        return False
    return prediction.kind is PredictionKind.SCORES or output.size == len(output)
