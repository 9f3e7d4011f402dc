"""
Answers that are composed one by one, of requests that want an output in another form than the model gives it: in shared
memory, or classified. All others are encoded together in `answer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway.runtime.session import Array
from gateway.runtime.tensor_contents import to_raw, to_typed
from gateway.serving.batch import split_rows
from gateway.serving.lane.call import Call
from gateway.serving.oip.classification import class_texts
from gateway.serving.oip.composed_response import Answered, composed_response
from gateway.serving.oip.encode import Output
from gateway.serving.stages import Routed

Described = tuple[Output, Array]


def composed_payloads(
    requests: Sequence[Routed], outputs: Sequence[Array], id_head: str, counters: Sequence[int]
) -> list[tuple[Call, bytes]]:
    """Returns the responses of requests, whose outputs in shared memory are written, and releases their regions."""
    payloads = [
        (request.received.call, _response(request, arrays, f"{id_head}{counter:012x}"))
        for request, arrays, counter in zip(requests, own_outputs(requests, outputs), counters, strict=True)
    ]
    for request in requests:
        if request.memory is not None:
            request.memory.release()
    return payloads


def own_outputs(requests: Sequence[Routed], outputs: Sequence[Array]) -> list[tuple[Array, ...]]:
    """Returns each request's rows of the outputs that go to callers."""
    arrays = outputs[: len(requests[0].plan.outputs)]
    if len(requests) == 1:
        return [tuple(arrays)]
    rows = [request.plan.rows for request in requests]
    return list(zip(*(split_rows(array, rows) for array in arrays), strict=True))


def _response(request: Routed, arrays: Sequence[Array], prediction_id: str) -> bytes:
    version, received = request.arm.version, request.received
    is_binary = received.parameters.is_binary
    encode = to_raw if is_binary else to_typed
    described = list(_described(request, arrays))
    placed = request.memory.written if request.memory is not None else [None] * len(described)
    contents = [place or encode(array) for place, (_, array) in zip(placed, described, strict=True)]
    answered = Answered(version.model, version.number, request.arm.name, prediction_id)
    heads = [output for output, _ in described]
    return composed_response(answered, heads, contents, received.id_field, is_binary=is_binary)


def _described(request: Routed, arrays: Sequence[Array]) -> Iterator[Described]:
    """Yields the outputs in the form that the request wants, with name, datatype and shape."""
    plan, datatypes = request.plan, request.arm.version.datatypes
    for name, array, classes in zip(plan.outputs, arrays, plan.classes or [None] * len(arrays), strict=True):
        if classes is None:
            yield (name, datatypes[name], array.shape), array
        else:
            texts = class_texts(array, classes)
            yield (name, "BYTES", texts.shape), texts
