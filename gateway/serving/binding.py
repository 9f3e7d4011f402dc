"""
A request's layout checked against a version's signature, once per pair: what to feed, what to answer. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.errors import InvalidRequest
from gateway.runtime.tensors import DTYPES, element_count
from gateway.serving.oip.codec import InputLayout, Layout
from gateway.serving.oip.placement import Placement
from registry.signature import Signature, TensorSpec
from registry.versions import Prediction

_EAGER = frozenset(("BYTES", "BOOL"))  # their raw contents must be looked into, so they are decoded before batching


@dataclass(frozen=True, slots=True)
class Feed:
    """
    One input to feed: its place in the request (``index`` among the raw contents, or among the inputs where they are typed;
    ``placement`` when it lies in shared memory), and how its contents become an array.
    """

    name: str
    index: int
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    placement: Placement | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """
    A layout that fits a version. ``rows`` is the first dimension of every input when the request may share a batch
    (``group`` is then the same for all requests it may be batched with), else ``group`` is None. ``outputs`` go to the
    caller; ``run_outputs`` begin with them and may have the prediction after them. ``regions`` are the names of all shared
    memory regions that are used, ``placements`` where outputs go, one for each of ``outputs`` or none at all.
    """

    feeds: tuple[Feed, ...]
    outputs: tuple[str, ...]
    run_outputs: tuple[str, ...]
    rows: int
    group: tuple[object, ...] | None
    is_eager: bool
    regions: frozenset[str] = frozenset()
    placements: tuple[Placement | None, ...] = ()


def bind(layout: Layout, signature: Signature, prediction: Prediction | None, *, is_batched: bool, max_rows: int) -> Binding:
    """How a request of this layout is run by a version. Raises InvalidRequest naming the tensor."""
    given = {tensor.name: index for index, tensor in enumerate(layout.inputs)}
    for name in given.keys() - {spec.name for spec in signature.inputs}:  # before the missing: it may be one misspelt
        expected = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidRequest(f"input {name!r}: unknown, the model takes {expected}", field=name)
    feeds = []
    for spec in signature.inputs:
        index = given.pop(spec.name, None)
        if index is not None:
            feeds.append(_feed(spec, layout.inputs[index], index, layout))
        elif not spec.is_optional:
            raise InvalidRequest(f"input {spec.name!r}: missing, expected {spec}", field=spec.name)
    outputs = _outputs(layout, signature)
    regions = _regions(feeds, layout)
    is_eager = not layout.raw_sizes or bool(regions) or any(feed.datatype in _EAGER for feed in feeds)
    rows = _rows(feeds)
    group = None
    if is_batched and 0 < rows <= max_rows:
        group = (outputs, is_eager, bool(layout.placements), tuple((feed.name, feed.shape[1:]) for feed in feeds))
    run_outputs = _run_outputs(outputs, prediction)
    return Binding(tuple(feeds), outputs, run_outputs, max(rows, 1), group, is_eager, regions, layout.placements)


def _regions(feeds: list[Feed], layout: Layout) -> frozenset[str]:
    """The names of the shared memory regions that inputs come from and outputs go to."""
    placements = (*(feed.placement for feed in feeds), *layout.placements)
    return frozenset(placement.region for placement in placements if placement is not None)


def _run_outputs(outputs: tuple[str, ...], prediction: Prediction | None) -> tuple[str, ...]:
    """The outputs to compute: the prediction too, although not asked for, since it is recorded and compared."""
    if prediction is None or prediction.output in outputs:
        return outputs
    return (*outputs, prediction.output)


def _rows(feeds: list[Feed]) -> int:
    firsts = {feed.shape[0] if feed.shape else -1 for feed in feeds}
    return firsts.pop() if len(firsts) == 1 else -1


def _outputs(layout: Layout, signature: Signature) -> tuple[str, ...]:
    known = tuple(spec.name for spec in signature.outputs)
    for name in layout.outputs:
        if name not in known:
            raise InvalidRequest(f"output {name!r}: unknown, the model gives {', '.join(known)}", field=name)
    return layout.outputs or known


def _feed(spec: TensorSpec, tensor: InputLayout, index: int, layout: Layout) -> Feed:
    name = spec.name
    if tensor.datatype != spec.datatype:
        raise InvalidRequest(f"input {name!r}: expected {spec.datatype}, got {tensor.datatype or 'no datatype'}", field=name)
    if not _fits(tensor.shape, spec):
        expected = [dim if dim >= 0 else "?" for dim in spec.shape]
        raise InvalidRequest(
            f"input {name!r}: expected shape [{', '.join(map(str, expected))}], got {list(tensor.shape)}", field=name
        )
    dtype = DTYPES[spec.datatype]
    if layout.raw_sizes:  # those in shared memory have none
        index -= sum(before.placement is not None for before in layout.inputs[:index])
    got = _byte_size(tensor, index, layout)
    if got is not None and spec.datatype != "BYTES":
        expected_bytes = element_count(tensor.shape) * dtype.itemsize
        if got != expected_bytes:
            raise InvalidRequest(
                f"input {name!r}: {spec.datatype} {list(tensor.shape)} is {expected_bytes} bytes, got {got}", field=name
            )
    return Feed(name, index, spec.datatype, dtype, tensor.shape, tensor.placement)


def _byte_size(tensor: InputLayout, index: int, layout: Layout) -> int | None:
    """The bytes of an input's contents; None where they are typed."""
    if tensor.placement is not None:
        return tensor.placement.byte_size
    return layout.raw_sizes[index] if layout.raw_sizes else None


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    if not spec.is_ranked:
        return True
    return len(shape) == len(spec.shape) and all(want in (-1, got) for got, want in zip(shape, spec.shape, strict=True))
