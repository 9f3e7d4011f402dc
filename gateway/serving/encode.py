"""Answers of a batch as bytes, by the templates of who answers. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.runtime.session import Array
from gateway.runtime.tensors import to_raw
from gateway.serving.item import Item
from gateway.serving.lane.opening import Call
from gateway.serving.merge import LARGE_BYTES, Raw, raw_bytes, split_raw, split_rows
from gateway.serving.oip.codec import raw_frame
from gateway.serving.served import Shapes


def encoded(
    items: list[Item], arrays: Sequence[Array], rows: list[int], head_id: bytes, counters: Sequence[int], *, is_alike: bool
) -> list[tuple[Call, bytes]]:
    """
    The answers of requests that share a run, each with its ``rows`` of the outputs. ``head_id`` is the head of their
    prediction ids, ``counters`` the rest. ``is_alike``: all go to one arm.
    """
    names = items[0].binding.outputs
    parts = list(zip(*_columns(arrays, rows), strict=True))
    is_large = any(array.nbytes >= LARGE_BYTES for array in arrays)
    has_texts = any(array.dtype == np.object_ for array in arrays)
    if is_alike and not is_large and not has_texts and rows.count(rows[0]) == len(rows):  # the usual case: one template for all
        template = items[0].target.template(names, _shapes(arrays, rows[0], len(items)), tuple(map(len, parts[0])))
        return [
            (item.call, template % (head_id, counter, *own, item.id_field))
            for item, counter, own in zip(items, counters, parts, strict=True)
        ]
    answers = []
    for item, count, counter, own in zip(items, rows, counters, parts, strict=True):
        shapes = _shapes(arrays, count, len(items))
        if is_large:
            head = item.target.template(names, shapes, ()) % (head_id, counter, b"")
            answers.append((item.call, _joined(head, arrays, own, item.id_field)))
            continue
        sizes = tuple(-1 if array.dtype == np.object_ else len(part) for array, part in zip(arrays, own, strict=True))
        template = item.target.template(names, shapes, sizes)
        answers.append((item.call, template % (head_id, counter, *own, item.id_field)))
    return answers


def _joined(head: bytes, arrays: Sequence[Array], parts: Sequence[Raw], id_field: bytes) -> bytes:
    """An answer with large outputs, whose contents are copied this one time: formatting would copy them twice."""
    pieces: list[Raw] = [head]
    for array, part in zip(arrays, parts, strict=True):
        if array.dtype != np.object_:
            pieces.append(raw_frame(len(part)))
        pieces.append(part)
    return b"".join((*pieces, id_field))


def _columns(arrays: Sequence[Array], rows: list[int]) -> list[list[Raw]]:
    """Per output the raw contents of every request; of texts with their frame, whose length differs by request."""
    if len(rows) == 1:
        return [[_framed(array) if array.dtype == np.object_ else raw_bytes(array)] for array in arrays]
    return [
        [_framed(part) for part in split_rows(array, rows)] if array.dtype == np.object_ else split_raw(array, rows)
        for array in arrays
    ]


def _framed(texts: Array) -> bytes:
    raw = to_raw(texts)
    return raw_frame(len(raw)) + raw


def _shapes(arrays: Sequence[Array], rows: int, requests: int) -> Shapes:
    """The outputs' shapes for one of the requests that share them."""
    if requests == 1:
        return tuple(array.shape for array in arrays)
    return tuple((rows, *array.shape[1:]) for array in arrays)
