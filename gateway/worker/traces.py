"""A finished request as a trace: performance-counter times put on the wall clock, the unit id hashed."""

from __future__ import annotations

import time
from hashlib import blake2b

from gateway.fleet import RequestTrace
from gateway.rpc.service import INFERENCE_NAME
from gateway.worker.item import Item

_METHOD = f"{INFERENCE_NAME}/ModelInfer"


def request_trace(
    item: Item, taken_ns: int, run_ns: int, ran_ns: int, answered_ns: int, batch_rows: int, prediction_id: str
) -> RequestTrace:
    """The trace of a request that was run and answered; times are nanoseconds of the performance counter."""
    offset = time.time_ns() - time.perf_counter_ns()
    target = item.target
    return RequestTrace(
        item.trace,
        _METHOD,
        "OK",
        item.received_ns + offset,
        item.routed_ns + offset,
        taken_ns + offset,
        run_ns + offset,
        ran_ns + offset,
        answered_ns + offset,
        target.served.model,
        target.served.number,
        target.arm,
        item.binding.rows,
        batch_rows,
        prediction_id,
        _hashed(item.unit_id),
    )


def refusal_trace(item: Item, code: str, error: str) -> RequestTrace:
    """The trace of a routed request that ends now with an error."""
    now_ns = time.time_ns()
    offset = now_ns - time.perf_counter_ns()
    target = item.target
    return RequestTrace(
        item.trace,
        _METHOD,
        code,
        item.received_ns + offset,
        item.routed_ns + offset,
        now_ns,
        0,
        0,
        now_ns,
        target.served.model,
        target.served.number,
        target.arm,
        unit_hash=_hashed(item.unit_id),
        error=error,
        traceparent=item.traceparent,
    )


def _hashed(unit_id: str) -> str:
    return blake2b(unit_id.encode(), digest_size=8).hexdigest() if unit_id else ""
