"""Traces of requests as control exports them: times on the wall clock, the unit id hashed."""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import Any

from gateway.contract.traces import RequestTrace
from gateway.protocol.services import INFERENCE_NAME
from gateway.serving.arm import Arm
from gateway.serving.stages import Answers, Received

_METHOD = f"{INFERENCE_NAME}/ModelInfer"
_Times = tuple[int, int, int, int, int, int]  # in the order of RequestTrace


def request_trace(answers: Answers, index: int) -> RequestTrace:
    """Returns the trace of the request at position ``index`` of a run that was answered."""
    offset = time.time_ns() - time.perf_counter_ns()
    outputs = answers.outputs
    request, received = outputs.requests[index], outputs.received[index]
    before = received.received_ns + offset, request.routed_ns + offset, outputs.taken_ns + offset
    times = (*before, outputs.joined_ns + offset, outputs.ran_ns + offset, answers.sent_ns + offset)
    return _trace(
        received,
        request.arm,
        "OK",
        times,
        rows=request.plan.rows,
        batch_rows=sum(outputs.rows),
        prediction_id=f"{answers.id_head}{answers.counters[index]:012x}",
    )


def refusal_trace(request: Received, arm: Arm, code: str, error: str) -> RequestTrace:
    """Returns the trace of a request that was routed to ``arm`` and ends now with an error."""
    now_ns = time.time_ns()
    received_ns = request.received_ns + now_ns - time.perf_counter_ns()
    times = (received_ns, received_ns, now_ns, 0, 0, now_ns)
    return _trace(request, arm, code, times, error=error, traceparent=request.traceparent)


def _trace(request: Received, arm: Arm, code: str, times: _Times, **facts: Any) -> RequestTrace:
    return RequestTrace(
        request.trace,
        _METHOD,
        code,
        *times,
        model=arm.version.model,
        version=arm.version.number,
        arm=arm.name,
        unit_hash=blake2b(request.unit_id.encode(), digest_size=8).hexdigest() if request.unit_id else "",
        **facts,
    )
