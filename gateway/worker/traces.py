"""A finished request as a trace: performance-counter times put on the wall clock, the unit id hashed."""

from __future__ import annotations

import time
from hashlib import blake2b

from gateway.fleet import RequestTrace, Stage
from gateway.rpc.service import INFERENCE_NAME
from gateway.worker.item import Item

_METHOD = f"{INFERENCE_NAME}/ModelInfer"


def request_trace(
    item: Item,
    code: str,
    taken_ns: int,
    merged_ns: int,
    ran_ns: int,
    answered_ns: int,
    batch_rows: int,
    *,
    prediction_id: str = "",
    error: str = "",
) -> RequestTrace:
    """The trace of one request; times are nanoseconds of the performance counter."""
    offset = time.time_ns() - time.perf_counter_ns()
    target = item.target
    stages = (
        Stage("route", item.received_ns + offset, item.routed_ns + offset),
        Stage("queue", item.routed_ns + offset, taken_ns + offset),
        Stage("run", merged_ns + offset, ran_ns + offset),
    )
    return RequestTrace(
        context=item.trace,
        method=_METHOD,
        start_ns=item.received_ns + offset,
        end_ns=answered_ns + offset,
        code=code,
        traceparent=item.traceparent,
        model=target.served.model,
        version=target.served.number,
        arm=target.arm,
        rows=item.binding.rows if code == "OK" else 0,
        batch_rows=batch_rows,
        prediction_id=prediction_id,
        unit_hash=blake2b(item.unit_id.encode(), digest_size=8).hexdigest() if item.unit_id else "",
        error=error,
        stages=stages if code == "OK" else stages[:2],
    )
