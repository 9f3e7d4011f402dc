"""One request on its way through a worker, and the inputs of several merged into one feed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gateway.contract.traces import TraceContext
from gateway.runtime.session import Array
from gateway.runtime.tensors import from_raw, from_typed
from gateway.serving.binding import Binding, Feed
from gateway.serving.lane.opening import Call
from gateway.serving.merge import join_raw
from gateway.serving.oip.codec import NO_PARAMETERS, Layout, Parameters, Request
from gateway.serving.served import Target
from gateway.serving.shared_memory.regions import Memory


class Item(Request):
    """
    A decoded request on its way: the call that it came by (set with its times by whoever took it), who answers it. ``arrays``
    are its inputs where they had to be decoded before batching, ``memory`` its shared memory (set where outputs go there).
    ``received_ns`` is on the performance counter; ``expires_at`` Unix seconds.
    """

    __slots__ = (
        "arrays",
        "binding",
        "call",
        "expires_at",
        "memory",
        "received_ns",
        "routed_ns",
        "target",
        "trace",
        "traceparent",
        "unit_id",
        "wants_trailers",
    )

    def __init__(
        self, layout: Layout, raw: list[bytes | memoryview], id_field: bytes, parameters: Parameters = NO_PARAMETERS
    ) -> None:
        self.layout = layout  # as its base does, without another call
        self.raw = raw
        self.id_field = id_field
        self.parameters = parameters
        self.arrays: dict[str, Array] | None = None
        self.trace: TraceContext | None = None
        self.traceparent: str | None = None
        self.unit_id = parameters.unit_id
        self.wants_trailers = False
        self.call: Call
        self.received_ns: int
        self.routed_ns: int
        self.expires_at: float
        self.target: Target
        self.binding: Binding
        self.memory: Memory


def decode_inputs(request: Request, binding: Binding) -> dict[str, Array]:
    """Every input of one request as an array; none may lie in shared memory. Raises InvalidRequest naming the input."""
    return {feed.name: decode_input(request, feed) for feed in binding.feeds}


def decode_input(request: Request, feed: Feed) -> Array:
    """One input that the request itself holds. Raises InvalidRequest naming it."""
    if request.layout.raw_sizes:
        return from_raw(feed.name, feed.datatype, feed.shape, request.raw[feed.index])
    return from_typed(feed.name, feed.datatype, feed.shape, request.layout.inputs[feed.index].typed or b"")


def merge_inputs(items: Sequence[Item]) -> dict[str, Array]:
    """The inputs of requests of one group, row after row."""
    binding = items[0].binding
    if len(items) == 1:
        item = items[0]
        return item.arrays if item.arrays is not None else decode_inputs(item, binding)
    if binding.is_eager:
        return {feed.name: np.concatenate([item.arrays[feed.name] for item in items if item.arrays]) for feed in binding.feeds}
    rows = sum(item.binding.rows for item in items)
    return {
        feed.name: join_raw([item.raw[feed.index] for item in items], feed.dtype, rows, feed.shape[1:])
        for feed in binding.feeds
    }
