"""A traced request tells its whole life, under the caller's span."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from plane_models import ask, scale

from gateway.telemetry.otel import Tracing

ONE = np.ones((1, 4), np.float32)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def traced(open_gate, lane_kind, wait_for, monkeypatch):
    """(gate, spans): no request is traced unless its caller, or an error, asks for it."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds
    exporter = InMemorySpanExporter()
    tracing = Tracing(0.0, exporter=exporter)
    gate = open_gate(lane_kind, tracing=tracing)
    gate.load("m", 1, scale(2))
    gate.route("m", 1)

    def spans(count: int) -> dict[str, object]:
        wait_for(lambda: len(exporter.get_finished_spans()) >= count)
        return {span.name: span for span in exporter.get_finished_spans()}

    return gate, spans


def test_a_callers_trace_gets_the_requests_spans(traced):
    gate, spans = traced
    gate.infer(ask("m", ONE))  # not traced
    response = gate.infer(ask("m", ONE), metadata=(("traceparent", f"00-{TRACE}-{SPAN}-01"), ("x-unit-id", "me")))
    found = spans(4)
    (server,) = (span for span in found.values() if span.parent and span.parent.span_id == int(SPAN, 16))
    assert f"{server.context.trace_id:032x}" == TRACE
    facts = dict(server.attributes)
    assert response.parameters["prediction_id"].string_param in facts.values()
    assert "me" not in facts.values()  # the unit's id stays with the caller
    children = {span.name: span for span in found.values() if span.parent and span.parent.span_id == server.context.span_id}
    assert {name.rsplit(" ")[-1].rsplit(".")[-1] for name in children} == {"route", "queue", "run"}
    for child in children.values():
        assert server.start_time <= child.start_time <= child.end_time <= server.end_time


def test_a_failed_request_is_traced_whatever_the_ratio(traced):
    gate, spans = traced
    with pytest.raises(grpc.RpcError):
        gate.infer(ask("m", np.ones((1, 3), np.float32)))
    (server,) = (span for span in spans(1).values() if span.parent is None)
    assert "INVALID_ARGUMENT" in dict(server.attributes).values()
