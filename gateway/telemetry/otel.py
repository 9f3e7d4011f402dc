"""
Traces of requests as OpenTelemetry spans: the only importer of opentelemetry.

Two calls on the request path: `Tracing.sample` decides before anything is built (well under a microsecond for a request
that is not traced), `Tracing.emit` builds the spans of a traced request after it was answered, from its recorded times.
Without a configured exporter both do nothing and the SDK is not even imported. Configured by the standard variables:

    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT   where to send; either switches tracing on
    OTEL_TRACES_EXPORTER         otlp (default), console, none
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_*, OTEL_EXPORTER_OTLP_*   as the SDK reads them
    OTEL_TRACES_SAMPLER(_ARG)    in place of the configured ratio
    OTEL_SDK_DISABLED            true: off

Attributes follow OpenTelemetry's RPC conventions, what is ours is named ``interlock.*``.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from gateway.telemetry.trace import SAMPLED, RequestTrace, Sampling, TraceContext, parse_traceparent, sampling_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "interlock"
# Errors are traced whether sampled or not, but a flood of them must cost next to nothing: to send a hundred a second holds up
# the request path for more than 10 ms, every few seconds.
MAX_ERRORS_PER_S = 10
SHUTDOWN_TIMEOUT_S = 3.0
# Spans at once, where OTEL_BSP_MAX_EXPORT_BATCH_SIZE does not say: the SDK's 512 take 25 ms of a core that requests wait for.
EXPORTED_AT_ONCE = 64
# Codes that are the server's fault in OpenTelemetry's RPC conventions; the others are the caller's.
_SERVER_FAULTS = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))

_log = structlog.get_logger("interlock.tracing")


class Tracing:
    """
    Traces of one worker (None: of a process that is none). ``ratio`` of the requests without a caller's decision are
    taken (0 to 1). ``exporter`` replaces the one that ``environ`` (default: the process') asks for. Thread-safe.
    """

    def __init__(
        self,
        ratio: float = 0.01,
        worker: int | None = None,
        *,
        exporter: SpanExporter | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._sampling = _sampling(ratio, environ)
        self._bits = random.Random().getrandbits
        self._errors = _Allowance(MAX_ERRORS_PER_S)
        is_disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        chosen = None if is_disabled else exporter or _exporter(environ)
        self._sink = _Sink(chosen, worker, environ) if chosen is not None else None

    @property
    def is_on(self) -> bool:
        """Whether traces go anywhere."""
        return self._sink is not None

    def sample(self, traceparent: str | None, coin: float) -> TraceContext | None:
        """
        Whether to trace a request: its place in its trace, or None. ``traceparent`` is the caller's header (a malformed
        one is ignored), ``coin`` a uniform random number in [0, 1).
        """
        if self._sink is None:
            return None
        if traceparent is None:
            return TraceContext(self._trace_id()) if coin < self._sampling.ratio else None
        parent = parse_traceparent(traceparent)
        if not self._sampling.takes(parent, coin):
            return None
        return parent or TraceContext(self._trace_id())

    def may_take_error(self, end_ns: int) -> bool:
        """Whether a request that was not sampled and failed at this time (ns) would be taken."""
        return self._sink is not None and self._errors.is_left(end_ns)

    def emit(self, trace: RequestTrace) -> None:
        """
        Sends a finished request's spans on their way: at once and without blocking; dropped where the queue is full. A
        request that was not sampled is taken when it failed.
        """
        sink = self._sink
        if sink is None:
            return
        context = trace.context
        if context is None:
            if trace.code == "OK" or not self._errors.take(trace.end_ns):
                return
            context = parse_traceparent(trace.traceparent) or TraceContext(self._trace_id())
        sink.put(trace, context, lambda: self._bits(64) or 1)

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """Sends what waits, for at most ``timeout_s`` seconds. Safe to call twice; later traces are dropped."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.shutdown(timeout_s)

    def _trace_id(self) -> int:
        return self._bits(128) or 1


class _Allowance:
    """At most so many a second, by the times that come in."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = 0
        self._left = per_s

    def is_left(self, time_ns: int) -> bool:
        second = time_ns // 1_000_000_000
        if second != self._second:
            self._second, self._left = second, self._per_s
        return self._left > 0

    def take(self, time_ns: int) -> bool:
        is_left = self.is_left(time_ns)
        self._left -= is_left
        return is_left


class _Sink:
    """Spans, their batch processor and what is the same in all of them. Imports the SDK, which takes its time and memory."""

    def __init__(self, exporter: SpanExporter, worker: int | None, environ: Mapping[str, str]) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        own = {"service.instance.id": f"{os.getpid()}" if worker is None else f"worker-{worker}-{os.getpid()}"}
        if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
            own["service.name"] = SERVICE_NAME
        self._shared: dict[str, Any] = {
            "resource": Resource.create(own),
            "instrumentation_scope": InstrumentationScope("interlock"),
        }
        self._span, self._context = ReadableSpan, SpanContext
        self._server, self._internal = SpanKind.SERVER, SpanKind.INTERNAL
        self._fault, self._fine = StatusCode.ERROR, Status()
        self._status = Status
        self._flags = TraceFlags(SAMPLED)
        self._worker = worker
        is_said = environ.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")
        self._processor = BatchSpanProcessor(exporter, max_export_batch_size=None if is_said else EXPORTED_AT_ONCE)

    def put(self, trace: RequestTrace, context: TraceContext, new_id: Any) -> None:
        """Builds the spans of a request and queues them."""
        root = self._context(context.trace_id, new_id(), is_remote=False, trace_flags=self._flags)
        caller = None
        if context.parent_id:
            caller = self._context(context.trace_id, context.parent_id, is_remote=True, trace_flags=self._flags)
        is_fault = trace.code in _SERVER_FAULTS
        self._end(
            name=trace.method,
            context=root,
            parent=caller,
            kind=self._server,
            attributes=_attributes(trace, self._worker),
            status=self._status(self._fault, trace.error or trace.code) if is_fault else self._fine,
            start_time=trace.start_ns,
            end_time=trace.end_ns,
        )
        for stage in trace.stages:
            self._end(
                name=stage.name,
                context=self._context(context.trace_id, new_id(), is_remote=False, trace_flags=self._flags),
                parent=root,
                kind=self._internal,
                attributes=_stage_attributes(trace, stage.name),
                status=self._fine,
                start_time=stage.start_ns,
                end_time=stage.end_ns,
            )

    def _end(self, **facts: Any) -> None:
        self._processor.on_end(self._span(**facts, **self._shared))

    def shutdown(self, timeout_s: float) -> None:
        """Flushes within the bound: the processor's own shutdown waits for its exporter's retries."""
        closing = threading.Thread(target=self._processor.shutdown, name="tracing-shutdown", daemon=True)
        closing.start()
        closing.join(timeout_s)
        if closing.is_alive():
            _log.warning("traces_lost", why=f"the exporter took longer than {timeout_s} s at shutdown")


def _attributes(trace: RequestTrace, worker: int | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "rpc.system.name": "grpc",
        "rpc.method": trace.method,
        "rpc.response.status_code": trace.code,
        "interlock.model": trace.model,
        "interlock.version": trace.version,
        "interlock.arm": trace.arm,
        "interlock.revision": trace.revision,
        "interlock.rows": trace.rows,
        "interlock.batch_rows": trace.batch_rows,
        "interlock.prediction_id": trace.prediction_id,
        "interlock.unit_hash": trace.unit_hash,
        "interlock.error": trace.error,
    }
    if trace.code in _SERVER_FAULTS:
        found["error.type"] = trace.code
    made = {key: value for key, value in found.items() if value not in ("", 0)}
    if worker is not None:
        made["interlock.worker"] = worker
    return made


def _stage_attributes(trace: RequestTrace, stage: str) -> dict[str, Any]:
    if stage == "run":
        return {"interlock.model": trace.model, "interlock.version": trace.version, "interlock.batch_rows": trace.batch_rows}
    if stage == "route":
        return {"interlock.arm": trace.arm, "interlock.version": trace.version}
    return {}


def _sampling(ratio: float, environ: Mapping[str, str]) -> Sampling:
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if not name:
        return Sampling(ratio)
    try:
        return sampling_of(name, environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
    except ValueError as error:
        _log.warning("sampler_ignored", why=str(error), ratio=ratio)
        return Sampling(ratio)


def _exporter(environ: Mapping[str, str]) -> SpanExporter | None:
    """The exporter that the variables ask for; None without one, or (with a warning) for one that is not built in."""
    kind = environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    if kind == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if kind == "none":
        return None
    if kind != "otlp":
        _log.warning("tracing_off", why=f"OTEL_TRACES_EXPORTER: got {kind!r}, expected otlp, console or none")
        return None
    if not (environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        return None
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    if protocol != "grpc":
        _log.warning("tracing_off", why=f"OTEL_EXPORTER_OTLP_PROTOCOL: got {protocol!r}, only grpc is built in")
        return None
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
