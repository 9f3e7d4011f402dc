"""Tensors of requests in shared memory: inputs are copied out before batching, outputs are written there after the run."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.runtime.session import Array
from gateway.runtime.tensor_contents import to_raw, to_typed
from gateway.serving.batch import decode_input, split_rows
from gateway.serving.lane.call import Call
from gateway.serving.oip.placed_response import Answered, placed_response
from gateway.serving.shared_memory.regions import Memory, OpenRegions
from gateway.serving.stages import Routed


def take_inputs(request: Routed, regions: OpenRegions) -> None:
    """
    Reads every input of a request into an array of its own. So the caller may change the region once it is answered,
    although a shadow still reads the input. A request with outputs there keeps its regions open. Raises GatewayError.
    """
    memory = regions.use(request.plan)
    if request.plan.placements:
        request.memory = memory
    request.inputs = {
        feed.name: decode_input(request.received, feed) if feed.placement is None else memory.read(feed, feed.placement)
        for feed in request.plan.feeds
    }


def place_outputs(requests: Sequence[Routed], outputs: Sequence[Array]) -> None:
    """
    Writes each request's rows of the outputs where it wants them. Raises InvalidRequest for the first without room. Those
    before it have been written, which is harmless: their requests are then run again, each alone.
    """
    for request, own in zip(requests, _own(requests, outputs), strict=True):
        plan, memory = request.plan, _memory(request)
        memory.written = [
            None if placement is None else memory.write(name, array, placement)
            for name, array, placement in zip(plan.outputs, own, plan.placements, strict=True)
        ]


def placed_payloads(
    requests: Sequence[Routed], outputs: Sequence[Array], id_head: str, counters: Sequence[int]
) -> list[tuple[Call, bytes]]:
    """Returns the responses of requests whose outputs `place_outputs` has written, and releases their regions."""
    payloads = [
        (request.received.call, _response(request, arrays, f"{id_head}{counter:012x}"))
        for request, arrays, counter in zip(requests, _own(requests, outputs), counters, strict=True)
    ]
    for request in requests:
        _memory(request).release()
    return payloads


def _response(request: Routed, arrays: Sequence[Array], prediction_id: str) -> bytes:
    version, received = request.arm.version, request.received
    is_binary = received.parameters.is_binary
    encode = to_raw if is_binary else to_typed
    described = [(name, version.datatypes[name], array.shape) for name, array in zip(request.plan.outputs, arrays, strict=True)]
    contents = [placed or encode(array) for placed, array in zip(_memory(request).written, arrays, strict=True)]
    answered = Answered(version.model, version.number, request.arm.name, prediction_id)
    return placed_response(answered, described, contents, received.id_field, is_binary=is_binary)


def _memory(request: Routed) -> Memory:
    if request.memory is None:
        raise ValueError("a request without outputs in shared memory has no memory to write to")
    return request.memory


def _own(requests: Sequence[Routed], outputs: Sequence[Array]) -> list[tuple[Array, ...]]:
    """Returns each request's rows of the outputs that go to callers."""
    arrays = outputs[: len(requests[0].plan.outputs)]
    if len(requests) == 1:
        return [tuple(arrays)]
    rows = [request.plan.rows for request in requests]
    return list(zip(*(split_rows(array, rows) for array in arrays), strict=True))
