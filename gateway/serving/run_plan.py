"""Run plans: a request signature checked against a version's signature, once per pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from gateway.errors import InvalidRequest
from gateway.runtime.tensor_contents import DTYPES, element_count
from gateway.serving.oip.classification import Classes, classes_of
from gateway.serving.oip.decode import InputSignature, RequestSignature
from gateway.serving.oip.placement import Placement
from registry.signature import Signature, TensorSpec
from registry.versions import Prediction

_EAGER = frozenset(("BYTES", "BOOL"))  # their raw contents must be checked byte by byte before batching


@dataclass(frozen=True, slots=True)
class Feed:
    """
    One input to feed, and how its contents become an array. ``index`` is its position among the request's contents;
    ``placement`` is set if it lies in shared memory.
    """

    name: str
    index: int
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    placement: Placement | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunPlan:
    """
    How requests of one signature are run by one version.

    ``group``: requests of equal groups may share a batch; None if a request has to run alone. ``rows`` is the first
    dimension of every input if there is a group. ``outputs`` go to the caller; ``run_outputs`` begin with them and may
    have the prediction after them. ``is_eager``: inputs are decoded by request, not joined as bytes. ``regions`` are
    the names of all shared memory regions that are used; ``placements`` say where outputs go and ``classes`` how they are
    classified, one for each of ``outputs`` or none at all. ``is_composed``: there are any of either, so answers are composed
    one by one.
    """

    feeds: tuple[Feed, ...]
    outputs: tuple[str, ...]
    run_outputs: tuple[str, ...]
    rows: int
    group: tuple[object, ...] | None
    is_eager: bool
    regions: frozenset[str] = frozenset()
    placements: tuple[Placement | None, ...] = ()
    classes: tuple[Classes | None, ...] = ()
    is_composed: bool = False


def plan_run(
    request: RequestSignature,
    signature: Signature,
    prediction: Prediction | None,
    *,
    is_batched: bool,
    max_rows: int,
    batched_inputs: frozenset[tuple[str, ...]] = frozenset(),
) -> RunPlan:
    """
    Checks a request against a version's signature and returns its plan. A request with optional inputs has to run alone
    unless ``batched_inputs`` has the set of their names, in alphabetical order. Raises InvalidRequest naming the tensor.
    """
    given = {tensor.name: index for index, tensor in enumerate(request.inputs)}
    for name in given.keys() - {spec.name for spec in signature.inputs}:  # before missing ones: it may be misspelt
        expected = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidRequest(f"input {name!r}: unknown, the model takes {expected}", field=name)
    feeds, sent = [], _sent_before(request)
    for spec in signature.inputs:
        index = given.pop(spec.name, None)
        if index is not None:
            feeds.append(_feed(spec, request.inputs[index], sent[index], request))
        elif not spec.is_optional:
            raise InvalidRequest(f"input {spec.name!r}: missing, expected {spec}", field=spec.name)
    outputs = _outputs(request, signature)
    classes = _classes(request, signature, prediction, is_batched=is_batched)
    regions = _regions(feeds, request)
    is_eager = not request.raw_sizes or bool(regions) or any(feed.datatype in _EAGER for feed in feeds)
    rows = _rows(feeds)
    group = None
    fed = {feed.name for feed in feeds}
    optional = tuple(spec.name for spec in signature.inputs if spec.is_optional and spec.name in fed)
    if is_batched and 0 < rows <= max_rows and (not optional or tuple(sorted(optional)) in batched_inputs):
        group = (outputs, is_eager, bool(request.placements), classes, tuple((feed.name, feed.shape[1:]) for feed in feeds))
    run_outputs = _run_outputs(outputs, prediction)
    is_composed = bool(request.placements or classes)
    return RunPlan(
        tuple(feeds), outputs, run_outputs, max(rows, 1), group, is_eager, regions, request.placements, classes, is_composed
    )


def _classes(
    request: RequestSignature, signature: Signature, prediction: Prediction | None, *, is_batched: bool
) -> tuple[Classes | None, ...]:
    """Returns how each requested output is classified; empty if none is."""
    if not request.class_counts:
        return ()
    specs = {spec.name: spec for spec in signature.outputs}
    return tuple(
        classes_of(specs[name], count, prediction, is_batched=is_batched)
        for name, count in zip(request.outputs, request.class_counts, strict=True)
    )


def _regions(feeds: list[Feed], request: RequestSignature) -> frozenset[str]:
    """Returns the names of the shared memory regions that inputs come from and outputs go to."""
    placements = (*(feed.placement for feed in feeds), *request.placements)
    return frozenset(placement.region for placement in placements if placement is not None)


def _run_outputs(outputs: tuple[str, ...], prediction: Prediction | None) -> tuple[str, ...]:
    """Returns the outputs to compute: also the prediction if it was not requested, as it is recorded and compared."""
    if prediction is None or prediction.output in outputs:
        return outputs
    return (*outputs, prediction.output)


def _rows(feeds: list[Feed]) -> int:
    firsts = {feed.shape[0] if feed.shape else -1 for feed in feeds}
    return firsts.pop() if len(firsts) == 1 else -1


def _sent_before(request: RequestSignature) -> Sequence[int]:
    """Returns for every input its position among the contents: inputs in shared memory have no raw ones."""
    if not request.raw_sizes:
        return range(len(request.inputs))
    return [0, *accumulate(tensor.placement is None for tensor in request.inputs)]


def _outputs(request: RequestSignature, signature: Signature) -> tuple[str, ...]:
    known = tuple(spec.name for spec in signature.outputs)
    names = frozenset(known)
    for name in request.outputs:
        if name not in names:
            raise InvalidRequest(f"output {name!r}: unknown, the model gives {', '.join(known)}", field=name)
    return request.outputs or known


def _feed(spec: TensorSpec, tensor: InputSignature, index: int, request: RequestSignature) -> Feed:
    name = spec.name
    if tensor.datatype != spec.datatype:
        raise InvalidRequest(f"input {name!r}: expected {spec.datatype}, got {tensor.datatype or 'no datatype'}", field=name)
    if not _fits(tensor.shape, spec):
        expected = [dim if dim >= 0 else "?" for dim in spec.shape]
        raise InvalidRequest(
            f"input {name!r}: expected shape [{', '.join(map(str, expected))}], got {list(tensor.shape)}", field=name
        )
    dtype = DTYPES[spec.datatype]
    got = _byte_size(tensor, index, request)
    if got is not None and spec.datatype != "BYTES":
        expected_bytes = element_count(tensor.shape) * dtype.itemsize
        if got != expected_bytes:
            raise InvalidRequest(
                f"input {name!r}: {spec.datatype} {list(tensor.shape)} is {expected_bytes} bytes, got {got}", field=name
            )
    return Feed(name, index, spec.datatype, dtype, tensor.shape, tensor.placement)


def _byte_size(tensor: InputSignature, index: int, request: RequestSignature) -> int | None:
    """Returns the bytes of an input's contents; None if they are typed."""
    if tensor.placement is not None:
        return tensor.placement.byte_size
    return request.raw_sizes[index] if request.raw_sizes else None


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    if not spec.is_ranked:
        return True
    return len(shape) == len(spec.shape) and all(want in (-1, got) for got, want in zip(shape, spec.shape, strict=True))
