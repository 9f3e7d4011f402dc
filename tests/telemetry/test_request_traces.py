from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

import grpc
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.telemetry import otel
from gateway.telemetry.otel import Tracing
from gateway.telemetry.trace import RequestTrace, Stage, TraceContext

METHOD = "inference.GRPCInferenceService/ModelInfer"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CALLER[:-1] + "0"
TRACE_ID, CALLERS_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
T0 = 1_700_000_000_000_000_000


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[ResourceSpans] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext) -> object:
        self.received.extend(request.resource_spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        return [span for resource in self.received for scope in resource.scope_spans for span in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.stop(0).wait()


def request(context: TraceContext | None, **facts: object) -> RequestTrace:
    known: dict[str, object] = {
        "model": "digits",
        "version": 2,
        "arm": "candidate",
        "rows": 1,
        "batch_rows": 8,
        "stages": (Stage("route", T0 + 10, T0 + 20), Stage("queue", T0 + 20, T0 + 300), Stage("run", T0 + 300, T0 + 900)),
    }
    return RequestTrace(context, METHOD, T0, T0 + 1000, **{**known, **facts})  # type: ignore[arg-type]


def finished(tracing: Tracing, exporter: InMemorySpanExporter) -> tuple[object, ...]:
    tracing.shutdown()
    return exporter.get_finished_spans()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def test_spans_arrive_over_otlp_under_the_callers_span(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "digits-gateway")
    tracing = Tracing(ratio=0.0, worker=1)
    context = tracing.sample(CALLER, 0.99)
    tracing.emit(request(context))
    tracing.shutdown(timeout_s=10)
    spans = {span.name: span for span in collector.spans()}
    assert set(spans) == {METHOD, "route", "queue", "run"}
    root = spans[METHOD]
    assert root.parent_span_id.hex() == f"{CALLERS_SPAN:016x}"
    assert {span.trace_id.hex() for span in spans.values()} == {f"{TRACE_ID:032x}"}
    assert {span.parent_span_id for name, span in spans.items() if name != METHOD} == {root.span_id}
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (T0, T0 + 1000)
    assert (spans["queue"].start_time_unix_nano, spans["queue"].end_time_unix_nano) == (T0 + 20, T0 + 300)
    assert root.kind == Span.SPAN_KIND_SERVER
    resource = {fact.key: fact.value.string_value for fact in collector.received[0].resource.attributes}
    assert resource["service.name"] == "digits-gateway"


def test_the_server_span_says_who_served_what(exporter: InMemorySpanExporter) -> None:
    tracing = Tracing(ratio=1.0, worker=3, exporter=exporter, environ={})
    tracing.emit(request(tracing.sample(None, 0.5), prediction_id="p1", revision=7))
    root = next(span for span in finished(tracing, exporter) if span.name == METHOD)  # type: ignore[attr-defined]
    assert dict(root.attributes) == {  # type: ignore[attr-defined]
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
        "interlock.model": "digits",
        "interlock.version": 2,
        "interlock.arm": "candidate",
        "interlock.revision": 7,
        "interlock.rows": 1,
        "interlock.batch_rows": 8,
        "interlock.prediction_id": "p1",
        "interlock.worker": 3,
    }
    assert root.resource.attributes["service.name"] == "interlock"  # type: ignore[attr-defined]
    assert root.parent is None  # type: ignore[attr-defined]


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
def test_the_caller_decides_and_else_the_ratio(
    exporter: InMemorySpanExporter, header: str | None, coin: float, is_taken: bool
) -> None:
    tracing = Tracing(ratio=0.01, exporter=exporter, environ={})
    assert (tracing.sample(header, coin) is not None) is is_taken
    tracing.shutdown()


def test_traces_that_start_here_differ(exporter: InMemorySpanExporter) -> None:
    tracing = Tracing(ratio=1.0, exporter=exporter, environ={})
    assert len({tracing.sample(None, 0.0) for _ in range(100)}) == 100
    tracing.shutdown()


def test_a_request_that_was_not_sampled_leaves_no_span(exporter: InMemorySpanExporter) -> None:
    tracing = Tracing(ratio=0.0, exporter=exporter, environ={})
    tracing.emit(request(None))
    assert finished(tracing, exporter) == ()


@pytest.mark.parametrize(("code", "is_fault"), [("INTERNAL", True), ("UNAVAILABLE", True), ("INVALID_ARGUMENT", False)])
def test_a_failed_request_is_traced_whatever_the_ratio(exporter: InMemorySpanExporter, code: str, is_fault: bool) -> None:
    tracing = Tracing(ratio=0.0, exporter=exporter, environ={})
    tracing.emit(request(None, code=code, traceparent=UNSAMPLED, error="it broke", stages=()))
    (root,) = finished(tracing, exporter)
    assert root.context.trace_id == TRACE_ID  # type: ignore[attr-defined]
    assert root.parent.span_id == CALLERS_SPAN  # type: ignore[attr-defined]
    assert root.status.is_ok is not is_fault  # type: ignore[attr-defined]
    assert root.attributes.get("error.type") == (code if is_fault else None)  # type: ignore[attr-defined]
    assert root.attributes["interlock.error"] == "it broke"  # type: ignore[attr-defined]


def test_a_flood_of_errors_is_bounded(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "MAX_ERRORS_PER_S", 5)
    tracing = Tracing(ratio=0.0, exporter=exporter, environ={})
    told = []
    for second in range(2):
        for _ in range(50):
            end_ns = T0 + second * 1_000_000_000
            told.append(tracing.may_take_error(end_ns))
            tracing.emit(RequestTrace(None, METHOD, end_ns - 5, end_ns, "INTERNAL"))
    assert len(finished(tracing, exporter)) == 10
    assert told == [*[True] * 5, *[False] * 45] * 2, "what will not be taken need not be built"


def test_without_an_exporter_nothing_is_sampled() -> None:
    tracing = Tracing(ratio=1.0, environ={})
    assert not tracing.is_on
    assert tracing.sample(CALLER, 0.0) is None
    tracing.emit(request(TraceContext(1)))
    tracing.shutdown()


def test_the_sdk_can_be_disabled(exporter: InMemorySpanExporter) -> None:
    environ = {"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "console"}
    assert not Tracing(ratio=1.0, exporter=exporter, environ=environ).is_on


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_an_exporter_that_is_off_or_not_built_in_switches_tracing_off(environ: dict[str, str]) -> None:
    assert not Tracing(ratio=1.0, environ=environ).is_on


def test_the_standard_sampler_variables_replace_the_ratio(exporter: InMemorySpanExporter) -> None:
    environ = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    tracing = Tracing(ratio=0.0, exporter=exporter, environ=environ)
    assert tracing.sample(None, 0.49) is not None
    assert tracing.sample(None, 0.51) is None
    tracing.shutdown()


def test_a_wrong_sampler_is_said_and_the_ratio_stays(exporter: InMemorySpanExporter) -> None:
    with structlog.testing.capture_logs() as lines:
        tracing = Tracing(ratio=0.25, exporter=exporter, environ={"OTEL_TRACES_SAMPLER": "sometimes"})
    assert [line["event"] for line in lines] == ["sampler_ignored"]
    assert tracing.sample(None, 0.24) is not None
    tracing.shutdown()


class StuckExporter(InMemorySpanExporter):
    """An exporter whose collector does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.is_asked = threading.Event()

    def export(self, spans: object) -> object:  # type: ignore[override]
        self.is_asked.set()
        self.release.wait(30)
        return super().export(spans)  # type: ignore[arg-type]


def test_shutdown_does_not_wait_for_a_collector_that_does_not_answer(wait_for: Callable[..., object]) -> None:
    stuck = StuckExporter()
    tracing = Tracing(ratio=1.0, exporter=stuck, environ={})
    tracing.emit(request(tracing.sample(None, 0.0)))
    with structlog.testing.capture_logs() as lines:
        tracing.shutdown(timeout_s=0.1)
    assert [line["event"] for line in lines] == ["traces_lost"]
    stuck.release.set()
    assert wait_for(lambda: not any("tracing-shutdown" in thread.name for thread in threading.enumerate()))


@pytest.mark.parametrize(("said", "most"), [({}, 64), ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100"}, 100)])
def test_few_spans_are_exported_at_once_unless_the_sdks_variable_says_otherwise(
    said: dict[str, str], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    class Counting(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            sizes.append(len(spans))
            return super().export(spans)

    for name, value in said.items():
        monkeypatch.setenv(name, value)
    tracing = Tracing(ratio=1.0, exporter=Counting(), environ=said)
    for number in range(1, 51):
        tracing.emit(request(TraceContext(number)))
    tracing.shutdown()
    assert sum(sizes) == 50 * 4
    assert max(sizes) == most
