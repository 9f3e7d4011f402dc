"""
Export of the workers' traces as OpenTelemetry spans, by control. The only importer of opentelemetry.

Workers only record the facts of a traced request (`gateway.telemetry.worker_tracing`): building and sending its four spans
takes 0.2 ms of a core, which a worker would take from its requests. The standard variables configure it:

    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT   where to send; either one switches tracing on
    OTEL_TRACES_EXPORTER         otlp (default), console, none; or several, as otlp,console
    OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL   grpc (default), http/protobuf
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*, OTEL_EXPORTER_OTLP_*   read by the SDK
    OTEL_TRACES_SAMPLER(_ARG)    replaces the configured ratio
    OTEL_SDK_DISABLED            true: off

Attributes follow OpenTelemetry's RPC conventions; the gateway's own attributes are named ``interlock.*``.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import structlog

from gateway.contract.handshake import Hello
from gateway.contract.traces import SAMPLED, RequestTrace, Traces
from gateway.telemetry.trace_sampling import exporters_of

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "interlock"
SHUTDOWN_TIMEOUT_S = 3.0  # s; longest wait for the exporter at shutdown
# Codes that count as the server's fault in OpenTelemetry's RPC conventions. All others are the caller's.
_SERVER_FAULTS = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))

_log = structlog.get_logger("interlock.tracing")


class TraceExport:
    """
    Sends the workers' traces. ``exporter`` replaces those that ``environ`` (default: the process' variables) configures.
    Without an exporter, nothing is sent and the SDK is not imported. Thread-safe.
    """

    def __init__(self, *, exporter: SpanExporter | None = None, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        chosen = [exporter] if exporter is not None else _exporters(environ)
        self._sink = _Sink(chosen, environ) if chosen else None

    def put(self, source: Hello, traces: Traces) -> None:
        """
        Queues the spans of ``traces``, which come from the incarnation ``source``. Does not block. If the SDK's queue is full,
        the SDK drops spans and logs a warning.
        """
        sink = self._sink
        if sink is not None:
            for trace in traces.requests:
                sink.put(source, trace)

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Sends the queued spans, for at most ``timeout_s`` seconds. Safe to call twice. Drops later traces."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.shutdown(timeout_s)


class _Sink:
    """Makes spans and hands them to the SDK's batch processors. Imports the SDK, which takes time and memory."""

    def __init__(self, exporters: Sequence[SpanExporter], environ: Mapping[str, str]) -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        self._is_named = bool(environ.get("OTEL_SERVICE_NAME")) or "service.name=" in environ.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        )
        self._scope = InstrumentationScope("interlock")
        self._resources: dict[int, tuple[str, Resource]] = {}  # by worker: its incarnation, and that one's resource
        self._span, self._context = ReadableSpan, SpanContext
        self._server, self._internal = SpanKind.SERVER, SpanKind.INTERNAL
        self._fault, self._fine = StatusCode.ERROR, Status()
        self._status = Status
        self._flags = TraceFlags(SAMPLED)
        self._bits = random.Random().getrandbits
        self._processors = [BatchSpanProcessor(exporter) for exporter in exporters]

    def put(self, source: Hello, trace: RequestTrace) -> None:

        context = trace.context
        if context is None:
            return
        resource = self._resource(source)
        trace_id = int(context.trace_id, 16)
        root = self._span_context(trace_id, self._bits(64) or 1)
        is_fault = trace.code in _SERVER_FAULTS
        self._end(
            name=trace.method,
            context=root,
            parent=self._span_context(trace_id, context.parent_id, is_remote=True) if context.parent_id else None,
            kind=self._server,
            attributes=_attributes(trace, source.worker),
            status=self._status(self._fault, trace.error or trace.code) if is_fault else self._fine,
            start_time=trace.start_ns,
            end_time=trace.end_ns,
            resource=resource,
        )
        for stage in trace.stages:
            self._end(
                name=stage.name,
                context=self._span_context(trace_id, self._bits(64) or 1),
                parent=root,
                kind=self._internal,
                attributes=_stage_attributes(trace, stage.name),
                status=self._fine,
                start_time=stage.start_ns,
                end_time=stage.end_ns,
                resource=resource,
            )

    def _span_context(self, trace_id: int, span_id: int, *, is_remote: bool = False) -> Any:
        return self._context(trace_id, span_id, is_remote=is_remote, trace_flags=self._flags)

    def _end(self, **facts: Any) -> None:
        span = self._span(**facts, instrumentation_scope=self._scope)
        for processor in self._processors:
            processor.on_end(span)

    def _resource(self, source: Hello) -> Resource:
        known = self._resources.get(source.worker)
        if known is None or known[0] != source.incarnation:
            known = self._resources[source.worker] = source.incarnation, self._new_resource(source)
        return known[1]

    def _new_resource(self, source: Hello) -> Resource:
        from opentelemetry.sdk.resources import Resource

        own = {"service.instance.id": f"worker-{source.worker}-{source.pid}"}
        if not self._is_named:
            own["service.name"] = SERVICE_NAME
        return Resource.create(own)

    def shutdown(self, timeout_s: float) -> None:
        """Flushes in threads, to keep the bound: a processor's own shutdown waits for its exporter's retries."""
        closing = [
            threading.Thread(target=processor.shutdown, name="tracing-shutdown", daemon=True) for processor in self._processors
        ]
        for thread in closing:
            thread.start()
        deadline_s = time.monotonic() + timeout_s
        for thread in closing:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if any(thread.is_alive() for thread in closing):
            _log.warning("traces_lost", reason=f"the exporter took longer than {timeout_s} s at shutdown")


def _attributes(trace: RequestTrace, worker: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rpc.system.name": "grpc",
        "rpc.method": trace.method,
        "rpc.response.status_code": trace.code,
        "interlock.model": trace.model,
        "interlock.version": trace.version,
        "interlock.arm": trace.arm,
        "interlock.rows": trace.rows,
        "interlock.batch_rows": trace.batch_rows,
        "interlock.prediction_id": trace.prediction_id,
        "interlock.unit_hash": trace.unit_hash,
        "interlock.error": trace.error,
    }
    if trace.code in _SERVER_FAULTS:
        found["error.type"] = trace.code
    return {key: value for key, value in found.items() if value not in ("", 0)} | {"interlock.worker": worker}


def _stage_attributes(trace: RequestTrace, stage: str) -> dict[str, Any]:
    if stage == "run":
        return {"interlock.model": trace.model, "interlock.version": trace.version, "interlock.batch_rows": trace.batch_rows}
    if stage == "route":
        return {"interlock.arm": trace.arm, "interlock.version": trace.version}
    return {}


def _exporters(environ: Mapping[str, str]) -> list[SpanExporter]:
    """Returns the configured exporters. Warns of those that are not there; the others are used."""
    configured = exporters_of(environ)
    made, problems = [], list(configured.problems)
    for kind in configured.kinds:
        try:
            made.append(_made(kind))
        except ImportError as error:
            problems.append(f"{kind}: {error}; install the package opentelemetry-exporter-otlp-proto-http")
    for problem in problems:
        _log.warning("traces_not_exported" if made else "tracing_off", reason=problem)
    return made


def _made(kind: str) -> SpanExporter:
    """Returns an exporter, which reads its own variables. Raises ImportError."""
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stdout)
    if kind == "otlp-http":
        made: SpanExporter = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter()
        return made
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
