"""A worker's sampling of requests, and its buffer of traces."""

from __future__ import annotations

from dataclasses import replace

import pytest
import structlog
from telemetry_values import CALLER, TRACE_ID, UNSAMPLED, request

from gateway.contract.traces import TraceContext
from gateway.telemetry import worker_tracing as module
from gateway.telemetry.worker_tracing import Tracing

ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("header", "coin", "is_taken"),
    [
        (CALLER, 0.99, True),
        (UNSAMPLED, 0.0, False),
        (None, 0.0099, True),
        (None, 0.01, False),
        ("garbage", 0.0, True),
        ("garbage", 0.5, False),
    ],
)
def test_the_caller_decides_and_else_the_ratio(header: str | None, coin: float, is_taken: bool) -> None:
    assert (Tracing(ratio=0.01, environ=ON).sample(header, coin) is not None) is is_taken


def test_traces_that_start_here_differ() -> None:
    tracing = Tracing(ratio=1.0, environ=ON)
    assert len({tracing.sample(None, 0.0) for _ in range(100)}) == 100


def test_what_was_sampled_is_kept_until_it_is_taken() -> None:
    tracing = Tracing(ratio=0.0, environ=ON)
    sampled = request(tracing.sample(CALLER, 0.99))
    for one in (request(None), sampled, request(None)):
        tracing.emit(one)
    assert tracing.take() == [sampled]
    assert tracing.take() == []


def test_a_failed_request_is_kept_whatever_the_ratio() -> None:
    tracing = Tracing(ratio=0.0, environ=ON)
    for header in (UNSAMPLED, None, "garbage"):
        tracing.emit(request(None, code="INTERNAL", traceparent=header))
    told, own, ignored = (one.context for one in tracing.take())
    assert told is not None
    assert (told.trace_id, told.parent_id) == (TRACE_ID, 0xB7AD6B7169203331)
    for context in (own, ignored):
        assert context is not None
        assert context.parent_id == 0
        assert int(context.trace_id, 16)


def test_a_flood_of_errors_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ERRORS_PER_S", 5)
    tracing = Tracing(ratio=0.0, environ=ON)
    told = []
    for second in range(2):
        for _ in range(50):
            end_ns = 1700 * SECOND_NS + second * SECOND_NS
            told.append(tracing.may_take_error(end_ns))
            tracing.emit(replace(request(None, code="INTERNAL"), end_ns=end_ns))
    assert len(tracing.take()) == 10
    assert told == [*[True] * 5, *[False] * 45] * 2, "what will not be taken need not be built"


def test_what_control_does_not_take_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    tracing = Tracing(ratio=1.0, environ=ON)
    sent = [request(tracing.sample(None, 0.0)) for _ in range(5)]
    for one in sent:
        tracing.emit(one)
    assert tracing.take() == sent[:3]
    assert tracing.dropped == 2
    tracing.emit(sent[4])
    assert tracing.take() == sent[4:]


@pytest.mark.parametrize("environ", [{}, {**ON, "OTEL_SDK_DISABLED": "true"}, {**ON, "OTEL_TRACES_EXPORTER": "zipkin"}])
def test_where_traces_go_nowhere_nothing_is_traced(environ: dict[str, str]) -> None:
    tracing = Tracing(ratio=1.0, environ=environ)
    assert not tracing.is_on
    assert tracing.sample(CALLER, 0.0) is None
    assert not tracing.may_take_error(0)
    tracing.emit(request(TraceContext(TRACE_ID)))
    assert tracing.take() == []


def test_the_standard_sampler_variables_replace_the_ratio() -> None:
    environ = {**ON, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    tracing = Tracing(ratio=0.0, environ=environ)
    assert tracing.sample(None, 0.49) is not None
    assert tracing.sample(None, 0.51) is None


def test_a_wrong_sampler_is_said_and_the_ratio_stays() -> None:
    with structlog.testing.capture_logs() as lines:
        tracing = Tracing(ratio=0.25, environ={**ON, "OTEL_TRACES_SAMPLER": "sometimes"})
    assert [line["event"] for line in lines] == ["sampler_ignored"]
    assert tracing.sample(None, 0.24) is not None
