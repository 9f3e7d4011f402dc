"""What control makes of the workers' traces: spans, over OTLP to a real receiver and in memory."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import structlog
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otlp_receiver import Receiver
from telemetry_values import CALLERS_SPAN, METHOD, T0, TRACE_ID, request

from gateway.contract.handshake import Hello
from gateway.contract.traces import RequestTrace, TraceContext, Traces
from gateway.telemetry.otel import TraceExport

WORKER = Hello(3, 4321, "life", 7, "fast")
HERE, UNDER = TraceContext("1" * 32), TraceContext(TRACE_ID, CALLERS_SPAN)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def exported(exporter: InMemorySpanExporter, *sent: RequestTrace, source: Hello = WORKER) -> Sequence[ReadableSpan]:
    export = TraceExport(exporter=exporter, environ={})
    export.put(source, Traces(sent))
    export.shutdown()
    return exporter.get_finished_spans()


def test_spans_arrive_over_otlp_under_the_callers_span(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "digits-gateway")
    export = TraceExport()
    export.put(WORKER, Traces((request(UNDER),)))
    export.shutdown(timeout_s=10)
    spans = {span.name: span for span in receiver.spans()}
    assert set(spans) == {METHOD, "route", "queue", "run"}
    root = spans[METHOD]
    assert root.parent_span_id.hex() == f"{CALLERS_SPAN:016x}"
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE_ID}
    assert {span.parent_span_id for name, span in spans.items() if name != METHOD} == {root.span_id}
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (T0, T0 + 1000)
    assert (spans["queue"].start_time_unix_nano, spans["queue"].end_time_unix_nano) == (T0 + 20, T0 + 300)
    assert root.kind == Span.SPAN_KIND_SERVER
    resource = {fact.key: fact.value.string_value for fact in receiver.received[0].resource.attributes}
    assert resource["service.name"] == "digits-gateway"


def test_the_server_span_says_who_served_what(exporter: InMemorySpanExporter) -> None:
    spans = exported(exporter, request(HERE, prediction_id="p1"))
    root = next(span for span in spans if span.name == METHOD)
    assert dict(root.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
        "interlock.model": "digits",
        "interlock.version": 2,
        "interlock.arm": "candidate",
        "interlock.rows": 1,
        "interlock.batch_rows": 8,
        "interlock.prediction_id": "p1",
        "interlock.worker": 3,
    }
    assert root.parent is None


def test_every_life_of_a_worker_is_an_instance_of_the_service(exporter: InMemorySpanExporter) -> None:
    export = TraceExport(exporter=exporter, environ={})
    lives = [Hello(0, 11, "a", 1, "fast"), Hello(1, 12, "b", 2, "fast"), Hello(0, 13, "c", 3, "fast")]
    for life in (*lives, lives[0]):
        export.put(life, Traces((request(HERE, code="NOT_FOUND"),)))
    export.shutdown()
    resources = [span.resource.attributes for span in exporter.get_finished_spans() if span.name == METHOD]
    assert [one["service.instance.id"] for one in resources] == ["worker-0-11", "worker-1-12", "worker-0-13", "worker-0-11"]
    assert {one["service.name"] for one in resources} == {"interlock"}


@pytest.mark.parametrize(("code", "is_fault"), [("INTERNAL", True), ("UNAVAILABLE", True), ("INVALID_ARGUMENT", False)])
def test_a_failed_request_says_whose_fault_it_is(exporter: InMemorySpanExporter, code: str, is_fault: bool) -> None:
    root, *stages = exported(exporter, request(UNDER, code=code, error="it broke"))
    assert [stage.name for stage in stages] == ["route", "queue"], "it was not run"
    assert root.context.trace_id == int(TRACE_ID, 16)
    assert root.parent is not None
    assert root.parent.span_id == CALLERS_SPAN
    assert root.status.is_ok is not is_fault
    assert root.attributes is not None
    assert root.attributes.get("error.type") == (code if is_fault else None)
    assert root.attributes["interlock.error"] == "it broke"


def test_without_an_exporter_the_sdk_is_not_imported() -> None:
    script = """
        import sys
        from telemetry_values import request
        from gateway.contract.handshake import Hello
        from gateway.contract.traces import TraceContext, Traces
        from gateway.telemetry.otel import TraceExport
        export = TraceExport(environ={})
        export.put(Hello(0, 11, "a", 1, "fast"), Traces((request(TraceContext("1" * 32)),)))
        export.shutdown()
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environ = {**os.environ, "PYTHONPATH": path}
    run = [sys.executable, "-c", textwrap.dedent(script)]
    assert subprocess.run(run, env=environ, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_exporter_that_is_not_built_in_is_said() -> None:
    with structlog.testing.capture_logs() as lines:
        TraceExport(environ={"OTEL_TRACES_EXPORTER": "zipkin"})
    assert [(line["event"], line["log_level"]) for line in lines] == [("tracing_off", "warning")]
    assert "OTEL_TRACES_EXPORTER: got 'zipkin'" in lines[0]["reason"]


def test_each_exporter_of_a_list_gets_the_spans(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp,console")
    export = TraceExport()
    export.put(WORKER, Traces((request(HERE),)))
    export.shutdown(timeout_s=10)
    assert METHOD in {span.name for span in receiver.spans()}
    assert METHOD in capsys.readouterr().out


class OtlpOverHttp(BaseHTTPRequestHandler):
    """A collector that answers OTLP over HTTP and keeps what came."""

    came: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.came.append((self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_spans_arrive_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="an environment from before it was locked")
    with ThreadingHTTPServer(("127.0.0.1", 0), OtlpOverHttp) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
        export = TraceExport()
        export.put(WORKER, Traces((request(HERE),)))
        export.shutdown(timeout_s=10)
        server.shutdown()
    ((path, body),) = OtlpOverHttp.came
    message = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    spans = [span for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans]
    assert (path, METHOD in {span.name for span in spans}) == ("/v1/traces", True)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    with structlog.testing.capture_logs() as lines:
        TraceExport(environ=environ)
    assert [line["event"] for line in lines] == ["tracing_off"]
    assert "opentelemetry-exporter-otlp-proto-http" in lines[0]["reason"]


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
    export = TraceExport(exporter=stuck, environ={})
    export.put(WORKER, Traces((request(HERE),)))
    with structlog.testing.capture_logs() as lines:
        export.shutdown(timeout_s=0.1)
    assert [line["event"] for line in lines] == ["traces_lost"]
    stuck.release.set()
    assert wait_for(lambda: not any("tracing-shutdown" in thread.name for thread in threading.enumerate()))
