"""Answers: splits the outputs of a run into the responses of its requests, encodes and sends them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from gateway.quality.prediction_id import prefix
from gateway.runtime.session import Array
from gateway.runtime.tensor_contents import to_raw, to_typed
from gateway.serving.arm import Shapes
from gateway.serving.batch import LARGE_BYTES, Raw, raw_bytes, split_raw, split_rows
from gateway.serving.composed import composed_payloads
from gateway.serving.lane.call import Call, Lane
from gateway.serving.oip.encode import raw_frame, typed_response
from gateway.serving.prediction_records import PredictionIds
from gateway.serving.shared_memory.placing import place_outputs
from gateway.serving.stages import Answers, Outputs, Routed

Payload = tuple[Call, bytes]


def encode(outputs: Outputs, ids: PredictionIds) -> Answers:
    """
    Encodes the responses of a run; nothing is sent. Raises InvalidRequest for an output that does not fit where its
    request wants it.
    """
    requests = outputs.requests
    plan = requests[0].plan
    if plan.placements:
        place_outputs(requests, outputs.arrays)
    time_ms = int(time.time() * 1000)
    counters = ids.draw(len(requests))
    id_head = prefix(time_ms, ids.epoch)
    if plan.is_composed:
        payloads = composed_payloads(requests, outputs.arrays, id_head, counters)
    else:
        payloads = _encoded(outputs, outputs.arrays[: len(plan.outputs)], id_head.encode(), counters)
    answers = Answers(outputs, payloads, time_ms, id_head, counters)
    for index in [index for index, one in enumerate(outputs.received) if one.wants_trailers or not one.parameters.is_binary]:
        _obey(answers, index)
    return answers


def send(lane: Lane, answers: Answers) -> None:
    """Sends every response, and sets the time when that was done."""
    if answers.trailers:
        for index, payload in enumerate(answers.payloads):
            lane.reply([payload], answers.trailers.get(index))
    else:
        lane.reply(answers.payloads)
    answers.sent_ns = time.perf_counter_ns()


def _obey(answers: Answers, index: int) -> None:
    """Gives one request the form of response that it asks for: typed contents, trailing metadata."""
    outputs = answers.outputs
    request, prediction_id = outputs.requests[index], f"{answers.id_head}{answers.counters[index]:012x}"
    if not (request.received.parameters.is_binary or request.plan.is_composed):
        arrays = outputs.arrays[: len(request.plan.outputs)]
        own = [split_rows(array, outputs.rows)[index] if len(outputs.requests) > 1 else array for array in arrays]
        answers.payloads[index] = _typed(request, own, prediction_id)
    if request.received.wants_trailers:
        version = ("x-model-version", str(request.arm.version.number))
        answers.trailers[index] = (version, ("x-arm", request.arm.name), ("x-prediction-id", prediction_id))


def _encoded(outputs: Outputs, arrays: Sequence[Array], id_head: bytes, counters: Sequence[int]) -> list[Payload]:
    """Encodes responses with raw contents."""
    requests, rows = outputs.requests, outputs.rows
    names = requests[0].plan.outputs
    parts = list(zip(*_columns(arrays, rows), strict=True))
    is_large = any([array.nbytes >= LARGE_BYTES for array in arrays])
    has_texts = any([array.dtype == np.object_ for array in arrays])
    if outputs.is_uniform and not is_large and not has_texts and rows.count(rows[0]) == len(rows):  # the usual case
        template = requests[0].arm.template(names, _shapes(arrays, rows[0], len(requests)), tuple(map(len, parts[0])))
        return [
            (received.call, template % (id_head, counter, *own, received.id_field))
            for received, counter, own in zip(outputs.received, counters, parts, strict=True)
        ]
    payloads = []
    for request, count, counter, own in zip(requests, rows, counters, parts, strict=True):
        received, arm = request.received, request.arm
        shapes = _shapes(arrays, count, len(requests))
        if is_large:
            head = arm.template(names, shapes, ()) % (id_head, counter, b"")
            payloads.append((received.call, _joined(head, arrays, own, received.id_field)))
            continue
        sizes = tuple(-1 if array.dtype == np.object_ else len(part) for array, part in zip(arrays, own, strict=True))
        payloads.append((received.call, arm.template(names, shapes, sizes) % (id_head, counter, *own, received.id_field)))
    return payloads


def _joined(head: bytes, arrays: Sequence[Array], parts: Sequence[Raw], id_field: bytes) -> bytes:
    """Returns a response with large outputs. Their contents are copied here, once; formatting would copy them twice."""
    pieces: list[Raw] = [head]
    for array, part in zip(arrays, parts, strict=True):
        if array.dtype != np.object_:
            pieces.append(raw_frame(len(part)))
        pieces.append(part)
    return b"".join((*pieces, id_field))


def _columns(arrays: Sequence[Array], rows: list[int]) -> list[list[Raw]]:
    """Returns per output the raw contents of every request; texts with their frame, as its length differs by request."""
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
    """Returns the outputs' shapes for one of the requests that share them."""
    if requests == 1:
        return tuple([array.shape for array in arrays])
    return tuple([(rows, *array.shape[1:]) for array in arrays])


def _typed(request: Routed, outputs: Sequence[Array], prediction_id: str) -> Payload:
    """Returns a response with typed contents, for a request that asks for them."""
    version, received = request.arm.version, request.received
    described = tuple(
        (name, version.datatypes[name], array.shape) for name, array in zip(request.plan.outputs, outputs, strict=True)
    )
    values = [to_typed(array) for array in outputs]
    arm = request.arm.name
    return received.call, typed_response(
        version.model, version.number, arm, prediction_id, described, values, received.id_field
    )
