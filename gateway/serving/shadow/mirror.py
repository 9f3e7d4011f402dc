"""
The shadow's side of a worker: copies of requests run after the caller has its answer, and compared with it.

The queue is bounded and drops its newest; the thread has the lowest priority that a thread may give itself; whatever
goes wrong here is counted and never reaches a caller.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from gateway.contract.counts import LATENCY_BOUNDS_S, ShadowCounts
from gateway.errors import GatewayError
from gateway.quality.compare import compare_classes, compare_values
from gateway.runtime.scheduling import least_important
from gateway.runtime.session import Array, RunFailed
from gateway.runtime.tensors import bfloat16_values
from gateway.serving.item import Item, decode_inputs, merge_inputs
from gateway.serving.merge import split_rows
from gateway.serving.prediction_records import has_row_each, labels
from gateway.serving.served import Served, Target
from registry.versions import PredictionKind

MAX_WAITING = 256  # copied requests; beyond it the newest are dropped
_log = structlog.get_logger("interlock.mirror")


@dataclass(frozen=True, slots=True)
class Copy:
    """Requests of one batch, the primary's outputs for all their rows by name, and which of the requests are copied."""

    batch: Sequence[Item]
    primary: Target
    batch_outputs: dict[str, Array]
    shadow: Target
    kept: Sequence[int]

    @property
    def items(self) -> list[Item]:
        """The requests copied."""
        return [self.batch[index] for index in self.kept]

    @property
    def outputs(self) -> dict[str, Array]:
        """The primary's outputs for the rows of the requests copied."""
        if len(self.kept) == len(self.batch):
            return self.batch_outputs
        is_kept = np.zeros(len(self.batch), np.bool_)
        is_kept[list(self.kept)] = True
        rows = np.repeat(is_kept, [item.binding.rows for item in self.batch])
        return {name: array[rows] for name, array in self.batch_outputs.items()}


class Mirror:
    """Takes copies from any thread, runs them in its own. ``counts_of`` gives the counters of a pair of versions."""

    def __init__(self, counts_of: Callable[[str, int, int], ShadowCounts]) -> None:
        self._counts_of = counts_of
        self._waiting: deque[Copy] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def offer(self, copy: Copy, *, is_overloaded: bool = False) -> None:
        """
        Queues a copy if there is room and the shadow is to be had, else drops and counts it; drops it too where the primary
        ``is_overloaded``, as a shadow is the first thing to do without. Never blocks for long.
        """
        size = len(copy.kept)
        counts = self._counts_of(copy.primary.served.model, copy.primary.served.number, copy.shadow.served.number)
        with self._changed:
            if not is_overloaded and self._size + size <= MAX_WAITING and copy.shadow.served.acquire(size):
                self._size += size
                self._waiting.append(copy)
                self._changed.notify()
            else:
                counts.dropped += size

    def stop(self) -> None:
        """Forgets what waits and ends the thread."""
        with self._changed:
            self._is_stopped = True
            for copy in self._waiting:
                copy.shadow.served.release(len(copy.kept))
            self._waiting.clear()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        least_important()
        while True:
            with self._changed:
                while not self._waiting and not self._is_stopped:
                    self._changed.wait()
                if self._is_stopped:
                    return
                copy = self._waiting.popleft()
                self._size -= len(copy.kept)
            try:
                self._run(copy)
            finally:
                copy.shadow.served.release(len(copy.kept))

    def _run(self, copy: Copy) -> None:
        """Runs and compares a copy; a shadow can neither fail nor delay the primary, whatever goes wrong here."""
        served, left = copy.shadow.served, len(copy.kept)
        pair = self._counts_of(served.model, copy.primary.served.number, served.number)
        try:
            for items, ours in _runs(copy):
                rows = [item.binding.rows for item in items]
                start = time.perf_counter()
                theirs = shadow_outputs(served, items)
                _count(copy.shadow, len(items), sum(rows), time.perf_counter() - start)
                compare(pair, copy.primary.served, served, ours, theirs, rows)
                left -= len(items)
            return
        except (GatewayError, RunFailed) as error:
            _log.debug("shadow_failed", model=served.model, version=served.number, error=str(error))
        except Exception:
            _log.exception("shadow_error", model=served.model, version=served.number)
        pair.failed += left
        copy.shadow.count("INTERNAL", left)


def _runs(copy: Copy) -> Iterator[tuple[list[Item], dict[str, Array]]]:
    """
    What the shadow runs together, with the primary's outputs for it. The primary's batch is the shadow's only where the
    shadow's rows are independent too; else each request is run alone, as it would be if the shadow served.
    """
    items, outputs = copy.items, copy.outputs
    if copy.shadow.served.is_batched or len(items) == 1:
        yield items, outputs
        return
    rows = [item.binding.rows for item in items]
    parts = {name: split_rows(array, rows) for name, array in outputs.items()}
    for index, item in enumerate(items):
        yield [item], {name: part[index] for name, part in parts.items()}


def _count(shadow: Target, requests: int, rows: int, elapsed_s: float) -> None:
    shadow.count("OK", requests)
    counts, elapsed_ns = shadow.counts, int(elapsed_s * 1e9)
    counts.latency_buckets[bisect_left(LATENCY_BOUNDS_S, elapsed_s)] += requests
    counts.latency_sum_s += elapsed_s * requests
    counts.rows += rows
    counts.run_ns += elapsed_ns * requests
    counts.executions[rows] = counts.executions.get(rows, 0) + 1
    counts.run_ns_by_size[rows] = counts.run_ns_by_size.get(rows, 0) + elapsed_ns
    counts.last_inference_ms = int(time.time() * 1000)


def shadow_outputs(served: Served, items: Sequence[Item]) -> dict[str, Array]:
    """The shadow's outputs for requests of one primary batch. Raises InvalidRequest or RunFailed."""
    layout = items[0].layout
    binding = served.bindings.get(layout) or served.bind(layout)
    for item in items[1:]:
        if item.layout is not layout:
            served.bindings.get(item.layout) or served.bind(item.layout)
    is_decoded = len(items) > 1 or items[0].arrays is not None
    inputs = merge_inputs(items) if is_decoded else decode_inputs(items[0], binding)
    return dict(zip(binding.run_outputs, served.session.run(binding.run_outputs, inputs), strict=True))


def compare(
    counts: ShadowCounts, primary: Served, shadow: Served, ours: dict[str, Array], theirs: dict[str, Array], rows: list[int]
) -> None:
    """Adds one comparison to the counts: agreement of classes where both have them, else of all numbers within tolerance."""
    ours, theirs = _comparable(primary, ours), _comparable(shadow, theirs)
    for name, array in ours.items():
        other = theirs.get(name)
        if other is not None and array.dtype.kind in "fiu" and other.dtype.kind in "fiu":
            values, sum_abs, max_abs = compare_values(array, other)
            counts.values += values
            counts.sum_abs_diff += sum_abs
            counts.max_abs_diff = max(counts.max_abs_diff, max_abs)
    classes = [_classes(primary, ours, rows), _classes(shadow, theirs, rows)]
    if classes[0] is not None and classes[1] is not None:
        compared, disagreed = compare_classes(classes[0], classes[1])
    else:
        compared, disagreed = len(rows), sum(not _is_close(ours, theirs, i, rows) for i in range(len(rows)))
    counts.compared += compared
    counts.disagreed += disagreed


def _comparable(served: Served, outputs: dict[str, Array]) -> dict[str, Array]:
    """The outputs with BF16, which travels as bits, as numbers."""
    return {name: bfloat16_values(array) if served.datatypes[name] == "BF16" else array for name, array in outputs.items()}


def _classes(served: Served, outputs: dict[str, Array], rows: list[int]) -> list[str] | None:
    prediction = served.prediction
    if prediction is None or prediction.kind is PredictionKind.VALUE:
        return None
    output = outputs.get(prediction.output)
    return labels(prediction, output) if output is not None and has_row_each(prediction, output, rows) else None


RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-5


def _is_close(ours: dict[str, Array], theirs: dict[str, Array], request: int, rows: list[int]) -> bool:
    """Whether one request got the same answer from both, numbers within tolerance."""
    start = sum(rows[:request])
    for name, array in ours.items():
        other: Any = theirs.get(name)
        if other is None or other.shape != array.shape or other.dtype != array.dtype:
            return False
        if len(rows) > 1:
            array, other = array[start : start + rows[request]], other[start : start + rows[request]]
        if array.dtype.kind in "fiu":
            tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * abs(array.astype("f8"))
            is_same = (abs(array.astype("f8") - other) <= tolerance) | (array == other) | ((array != array) & (other != other))
        else:
            is_same = array == other
        if not is_same.all():
            return False
    return True
