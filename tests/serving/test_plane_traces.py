"""A traced request tells its whole life, under the caller's span."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from plane_models import ask, scale

from gateway.telemetry.worker_tracing import Tracing

ONE = np.ones((1, 4), np.float32)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def traced(open_gate, lane_kind, wait_for):
    """(gate, traces): no request is traced unless its caller, or an error, asks for it."""
    gate = open_gate(lane_kind, tracing=Tracing(0.0, environ={"OTEL_TRACES_EXPORTER": "console"}))
    gate.load("m", 1, scale(2))
    gate.route("m", 1)

    def traces():
        found = []
        wait_for(lambda: found.extend(gate.plane.take_traces()) or found)
        return found

    return gate, traces


def test_a_callers_trace_gets_the_requests_stages(traced):
    gate, traces = traced
    gate.infer(ask("m", ONE))  # not traced
    response = gate.infer(ask("m", ONE), metadata=(("traceparent", f"00-{TRACE}-{SPAN}-01"), ("x-unit-id", "me")))
    (one,) = traces()
    assert (one.context.trace_id, one.context.parent_id) == (TRACE, int(SPAN, 16))
    assert one.prediction_id == response.parameters["prediction_id"].string_param
    assert (one.model, one.version, one.arm, one.code, one.rows) == ("m", 1, "default", "OK", 1)
    assert one.unit_hash
    assert "me" not in one.unit_hash  # the unit's id stays with the caller
    assert [stage.name for stage in one.stages] == ["route", "queue", "run"]
    times = [one.start_ns, *(at for stage in one.stages for at in (stage.start_ns, stage.end_ns)), one.end_ns]
    assert times == sorted(times)


def test_a_failed_request_is_traced_whatever_the_ratio(traced):
    gate, traces = traced
    with pytest.raises(grpc.RpcError):
        gate.infer(ask("m", np.ones((1, 3), np.float32)))
    (one,) = traces()
    assert one.context.parent_id == 0
    assert one.code == "INVALID_ARGUMENT"
    assert "shape" in one.error
