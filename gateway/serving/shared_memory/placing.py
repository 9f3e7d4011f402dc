"""Requests whose tensors lie in shared memory: inputs copied out before batching, outputs put there and told of."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.runtime.session import Array
from gateway.runtime.tensors import to_raw, to_typed
from gateway.serving.item import Item, decode_input
from gateway.serving.lane.opening import Call
from gateway.serving.merge import split_rows
from gateway.serving.oip.placed_response import Answered, placed_response
from gateway.serving.shared_memory.regions import Regions


def take_inputs(item: Item, regions: Regions) -> dict[str, Array]:
    """
    Every input of a request as an array of its own, wherever it lies, so that the caller may change the region once it is
    answered although a shadow still reads. A request with outputs there keeps its regions open. Raises GatewayError.
    """
    memory = regions.use(item.binding)
    if item.binding.placements:
        item.memory = memory
    return {
        feed.name: decode_input(item, feed) if feed.placement is None else memory.read(feed, feed.placement)
        for feed in item.binding.feeds
    }


def place_outputs(items: Sequence[Item], outputs: Sequence[Array]) -> None:
    """
    Puts each request's rows of the outputs where it wants them. Raises InvalidRequest for the first that has no room; those
    before it have been written, which does no harm: their requests are then run again, each alone.
    """
    for item, own in zip(items, _own(items, outputs), strict=True):
        binding, memory = item.binding, item.memory
        memory.written = [
            None if placement is None else memory.write(name, array, placement)
            for name, array, placement in zip(binding.outputs, own, binding.placements, strict=True)
        ]


def placed_answers(
    items: Sequence[Item], outputs: Sequence[Array], id_head: str, counters: Sequence[int]
) -> list[tuple[Call, bytes]]:
    """The answers of requests whose outputs `place_outputs` has put in place; they need their regions no longer."""
    own = _own(items, outputs)
    answers = [
        (item.call, _response(item, arrays, f"{id_head}{counter:012x}"))
        for item, arrays, counter in zip(items, own, counters, strict=True)
    ]
    for item in items:
        item.memory.release()
    return answers


def _response(item: Item, arrays: Sequence[Array], prediction_id: str) -> bytes:
    served = item.target.served
    is_binary = item.parameters.is_binary
    encode = to_raw if is_binary else to_typed
    described = [(name, served.datatypes[name], array.shape) for name, array in zip(item.binding.outputs, arrays, strict=True)]
    contents = [placed or encode(array) for placed, array in zip(item.memory.written, arrays, strict=True)]
    answered = Answered(served.model, served.number, item.target.arm, prediction_id)
    return placed_response(answered, described, contents, item.id_field, is_binary=is_binary)


def _own(items: Sequence[Item], outputs: Sequence[Array]) -> list[tuple[Array, ...]]:
    """Each request's rows of the outputs that go to callers."""
    arrays = outputs[: len(items[0].binding.outputs)]
    if len(items) == 1:
        return [tuple(arrays)]
    rows = [item.binding.rows for item in items]
    return list(zip(*(split_rows(array, rows) for array in arrays), strict=True))
