"""
A worker's side of tracing: decides which requests are traced, and buffers the traces of finished requests until they go to
control, which exports them.

On the request path, `Tracing.sample` decides before anything is built (well under a microsecond for a request that is not
traced), and `Tracing.emit` buffers a traced request after its answer. Both do nothing if no exporter is configured.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping

import structlog

from gateway.contract.traces import RequestTrace, TraceContext
from gateway.telemetry.trace_sampling import Sampling, exporters_of, parse_traceparent, sampling_of

MAX_ERRORS_PER_S = 10  # traces of unsampled failed requests per second; a flood of errors must cost next to nothing
MAX_WAITING = 512  # traces between two reports to control; 2,048 spans, as many as OpenTelemetry's exporter queues

_log = structlog.get_logger("interlock.tracing")


class Tracing:
    """
    Samples requests and buffers their traces. Thread-safe.

    ``ratio`` (0 to 1) is the share of traced requests among those for which the caller has not decided. The standard variables
    ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG`` override it. ``environ`` replaces the process' variables.
    `is_on` says whether an exporter is configured; `share` is the resulting ratio, 0 without an exporter; `dropped` counts
    traces that found the buffer full.
    """

    def __init__(self, ratio: float = 0.01, *, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.is_on = _goes_anywhere(environ)
        self.dropped = 0
        self._sampling = _sampling(ratio, environ)
        self.share = self._sampling.ratio if self.is_on else 0.0
        self._bits = random.Random().getrandbits
        self._errors = _Allowance(MAX_ERRORS_PER_S)
        self._waiting: list[RequestTrace] = []
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Tracing(is_on={self.is_on}, share={self.share}, waiting={len(self._waiting)}, dropped={self.dropped})"

    def sample(self, traceparent: str | None, coin: float) -> TraceContext | None:
        """
        Returns the trace context of a request that is traced, else None. ``traceparent`` is the caller's header, ignored if
        malformed; ``coin`` is a uniform random number in [0, 1).
        """
        if not self.is_on:
            return None
        if traceparent is None:
            return self._new_context() if coin < self.share else None
        parent = parse_traceparent(traceparent)
        if not self._sampling.takes(parent, coin):
            return None
        return parent or self._new_context()

    def may_take_error(self, end_ns: int) -> bool:
        """Returns whether `emit` would keep an unsampled request that failed at ``end_ns``."""
        return self.is_on and self._errors.is_left(end_ns)

    def emit(self, trace: RequestTrace) -> None:
        """
        Buffers the trace of a finished request, or drops and counts it if the buffer is full. An unsampled request (without a
        context) is kept only if it failed, and at most MAX_ERRORS_PER_S of them.
        """
        if not self.is_on:
            return
        if trace.context is None:
            if trace.code == "OK" or not self._errors.take(trace.end_ns):
                return
            trace.context = parse_traceparent(trace.traceparent) or self._new_context()
        with self._lock:
            if len(self._waiting) < MAX_WAITING:
                self._waiting.append(trace)
            else:
                self.dropped += 1

    def take(self) -> list[RequestTrace]:
        """Returns the traces since the last call, and empties the buffer."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _new_context(self) -> TraceContext:
        return TraceContext(f"{self._bits(128) or 1:032x}")


class _Allowance:
    """Allows ``per_s`` events per second, by the times of the events."""

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


def _goes_anywhere(environ: Mapping[str, str]) -> bool:
    return bool(exporters_of(environ).kinds)  # control logs the problems, since it exports


def _sampling(ratio: float, environ: Mapping[str, str]) -> Sampling:
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if not name:
        return Sampling(ratio)
    try:
        return sampling_of(name, environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
    except ValueError as error:
        _log.warning("sampler_ignored", reason=str(error), ratio=ratio)
        return Sampling(ratio)
