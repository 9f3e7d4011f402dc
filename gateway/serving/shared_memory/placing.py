"""Tensors of requests in shared memory: inputs are copied out before batching, outputs are written there after the run."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.runtime.session import Array
from gateway.serving.batch import decode_input
from gateway.serving.composed import own_outputs
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
    for request, own in zip(requests, own_outputs(requests, outputs), strict=True):
        plan, memory = request.plan, _memory(request)
        memory.written = [
            None if placement is None else memory.write(name, array, placement)
            for name, array, placement in zip(plan.outputs, own, plan.placements, strict=True)
        ]


def _memory(request: Routed) -> Memory:
    if request.memory is None:
        raise ValueError("a request without outputs in shared memory has no memory to write to")
    return request.memory
