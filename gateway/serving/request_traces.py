"""A finished request as a trace: performance-counter times put on the wall clock, the unit id hashed."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import Any

from gateway.contract.traces import RequestTrace
from gateway.protocol.services import INFERENCE_NAME
from gateway.serving.item import Item

_METHOD = f"{INFERENCE_NAME}/ModelInfer"
_Times = tuple[int, int, int, int, int, int]  # as they are in a RequestTrace


def request_trace(
    item: Item, taken_ns: int, run_ns: int, ran_ns: int, answered_ns: int, batch_rows: int, prediction_id: str
) -> RequestTrace:
    """The trace of a request that was run and answered; times are nanoseconds of the performance counter."""
    offset = time.time_ns() - time.perf_counter_ns()
    before = item.received_ns + offset, item.routed_ns + offset, taken_ns + offset
    times = (*before, run_ns + offset, ran_ns + offset, answered_ns + offset)
    return _trace(item, "OK", times, rows=item.binding.rows, batch_rows=batch_rows, prediction_id=prediction_id)


def refusal_trace(item: Item, code: str, error: str) -> RequestTrace:
    """The trace of a routed request that ends now with an error."""
    now_ns = time.time_ns()
    offset = now_ns - time.perf_counter_ns()
    times = (item.received_ns + offset, item.routed_ns + offset, now_ns, 0, 0, now_ns)
    return _trace(item, code, times, error=error, traceparent=item.traceparent)


def _trace(item: Item, code: str, times: _Times, **facts: Any) -> RequestTrace:
    served = item.target.served
    return RequestTrace(
        item.trace,
        _METHOD,
        code,
        *times,
        model=served.model,
        version=served.number,
        arm=item.target.arm,
        unit_hash=blake2b(item.unit_id.encode(), digest_size=8).hexdigest() if item.unit_id else "",
        **facts,
    )
