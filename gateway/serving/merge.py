"""
Merging rows of several requests into one batch and telling the answers apart again. Pure.

Rows, not requests, count towards a batch. Only requests of equal shapes beyond the first axis are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gateway.serving.sizes import batch_rows

Array = NDArray[Any]
Raw = bytes | memoryview
T = TypeVar("T")
LARGE_BYTES = 65_536  # an output of this size is not copied before it is put into its answer


def join_raw(parts: Sequence[bytes | memoryview], dtype: np.dtype[Any], rows: int, tail: tuple[int, ...]) -> Array:
    """Raw contents of several requests, one after the other, as one array of shape [rows, *tail]."""
    joined = parts[0] if len(parts) == 1 else b"".join(parts)
    array: Array = np.frombuffer(joined, dtype).reshape((rows, *tail))
    return array if array.flags.aligned else array.copy()


def raw_bytes(array: Array) -> Raw:
    """The row-major bytes of a numeric array: copied when small, a view of it from LARGE_BYTES on."""
    if array.nbytes < LARGE_BYTES:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def split_raw(array: Array, rows: Sequence[int]) -> list[Raw]:
    """The row-major bytes of each request's rows of a numeric output; ``rows`` sum to its first dimension."""
    data = raw_bytes(array)
    row_bytes = len(data) // len(array) if len(array) else 0
    if len(rows) == len(array):  # the common case: one row each
        return [data[start : start + row_bytes] for start in range(0, len(data), row_bytes)] if data else [b""] * len(rows)
    parts, start = [], 0
    for count in rows:
        end = start + count * row_bytes
        parts.append(data[start:end])
        start = end
    return parts


def split_rows(array: Array, rows: Sequence[int]) -> list[Array]:
    """Each request's rows of an output, as views."""
    return list(np.split(array, np.cumsum(rows)[:-1])) if len(rows) > 1 else [array]


def chunks(items: Sequence[T], rows: Sequence[int], max_rows: int, preferred: Sequence[int] = ()) -> list[list[T]]:
    """
    Items in order, in batches of at most ``max_rows`` rows, of ``preferred`` sizes where they are filled (`sizes`); an item
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
