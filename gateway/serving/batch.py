"""
Batches: which requests share a run, their rows joined into one input, and the outputs split into each request's rows.

Rows, not requests, count towards a batch. Only requests of equal groups (`run_plan.RunPlan.group`) share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gateway.runtime.tensor_contents import from_raw, from_typed
from gateway.serving.oip.typed_contents import typed_values
from gateway.serving.run_plan import Feed, RunPlan
from gateway.serving.stages import Received, Routed

Array = NDArray[Any]
Raw = bytes | memoryview
T = TypeVar("T")
LARGE_BYTES = 65_536  # bytes of an output from which on it is not copied before it is put into its answer

# ---- forming --------------------------------------------------------------------------------------------------------


def grouped(requests: list[Routed], max_rows: int, preferred: Sequence[int] = ()) -> list[list[Routed]]:
    """
    Returns the batches of one version's requests, in order of arrival: equal groups together, at most ``max_rows`` rows
    each, of ``preferred`` sizes where they are filled.
    """
    first = requests[0].plan
    if first.group is not None and len({request.plan for request in requests}) == 1:  # the usual case
        return chunks(requests, [first.rows] * len(requests), max_rows, preferred)
    groups: dict[object, list[Routed]] = {}
    for request in requests:
        groups.setdefault(request.plan.group or request, []).append(request)
    batches: list[list[Routed]] = []
    for group in groups.values():
        if len(group) == 1:
            batches.append(group)
        else:
            batches += chunks(group, [request.plan.rows for request in group], max_rows, preferred)
    return batches


def first_batch(requests: Sequence[Routed], max_rows: int) -> list[Routed]:
    """Returns the first request and those that may share its run, in order, up to ``max_rows`` rows."""
    group = requests[0].plan.group
    if group is None:
        return [requests[0]]
    batch: list[Routed] = []
    rows = 0
    for request in requests:
        if request.plan.group == group:
            rows += request.plan.rows
            if batch and rows > max_rows:
                break
            batch.append(request)
    return batch


def chunks(items: Sequence[T], rows: Sequence[int], max_rows: int, preferred: Sequence[int] = ()) -> list[list[T]]:
    """
    Returns items in order, in batches of at most ``max_rows`` rows, of ``preferred`` sizes where they are filled. An item
    with more rows is a batch of its own.
    """
    left, room = sum(rows), 0
    if 0 < left <= max_rows and not preferred:
        return [list(items)]
    made: list[list[T]] = []
    for item, count in zip(items, rows, strict=True):
        if count > room:
            made.append([])
            room = batch_rows(left, max_rows, preferred)
        made[-1].append(item)
        room -= count
        left -= count
    return made


def batch_rows(queued: int, max_rows: int, preferred: Sequence[int] = ()) -> int:
    """
    Returns the most rows of the next batch when ``queued`` rows are queued: the largest of the ``preferred`` sizes
    (ascending) that they fill, else all of them; never more than ``max_rows``. Preferred sizes are Triton's
    ``preferred_batch_size``.
    """
    if queued < max_rows or preferred:
        for size in reversed(preferred):
            if size <= min(queued, max_rows):
                return size
    return max_rows


def enough_rows(max_rows: int, preferred: Sequence[int] = ()) -> int:
    """Returns the rows with which a batch that may wait to fill waits no longer."""
    return min(preferred[0], max_rows) if preferred else max_rows


# ---- joining --------------------------------------------------------------------------------------------------------


def decode_inputs(request: Received, plan: RunPlan) -> dict[str, Array]:
    """Returns every input of a request as an array; none may lie in shared memory. Raises InvalidRequest naming the input."""
    return {feed.name: decode_input(request, feed) for feed in plan.feeds}


def decode_input(request: Received, feed: Feed) -> Array:
    """Returns one input from the message itself. Raises InvalidRequest naming it."""
    if request.signature.raw_sizes:
        return from_raw(feed.name, feed.datatype, feed.shape, request.contents[feed.index])
    values = typed_values(feed.name, feed.datatype, request.contents[feed.index])
    return from_typed(feed.name, feed.datatype, feed.shape, values)


def join_inputs(requests: Sequence[Routed]) -> dict[str, Array]:
    """Returns the inputs of requests of one group, row after row. Raises InvalidRequest naming the input."""
    first = requests[0]
    plan = first.plan
    if len(requests) == 1:
        return first.inputs if first.inputs is not None else decode_inputs(first.received, plan)
    if plan.is_eager:
        for request in requests:
            if request.inputs is None:
                request.inputs = decode_inputs(request.received, request.plan)
        return {
            feed.name: np.concatenate([request.inputs[feed.name] for request in requests if request.inputs])
            for feed in plan.feeds
        }
    rows = sum([request.plan.rows for request in requests])
    return {
        feed.name: join_raw([request.received.contents[feed.index] for request in requests], feed.dtype, rows, feed.shape[1:])
        for feed in plan.feeds
    }


def join_raw(parts: Sequence[Raw], dtype: np.dtype[Any], rows: int, tail: tuple[int, ...]) -> Array:
    """Returns raw contents of several requests, one after the other, as one array of shape [rows, *tail]."""
    joined = parts[0] if len(parts) == 1 else b"".join(parts)
    array: Array = np.frombuffer(joined, dtype).reshape((rows, *tail))
    return array if array.flags.aligned else array.copy()


# ---- splitting ------------------------------------------------------------------------------------------------------


def raw_bytes(array: Array) -> Raw:
    """Returns the row-major bytes of a numeric array: a copy if small, a view from LARGE_BYTES on."""
    if array.nbytes < LARGE_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def split_raw(array: Array, rows: Sequence[int]) -> list[Raw]:
    """Returns the row-major bytes of each request's rows of a numeric output; ``rows`` sum to its first dimension."""
    data = raw_bytes(array)
    row_bytes = len(data) // len(array) if len(array) else 0
    if len(rows) == len(array):  # the usual case: one row each
        return [data[start : start + row_bytes] for start in range(0, len(data), row_bytes)] if data else [b""] * len(rows)
    parts, start = [], 0
    for count in rows:
        end = start + count * row_bytes
        parts.append(data[start:end])
        start = end
    return parts


def split_rows(array: Array, rows: Sequence[int]) -> list[Array]:
    """Returns each request's rows of an output, as views."""
    return list(np.split(array, np.cumsum(rows)[:-1])) if len(rows) > 1 else [array]
