"""
A worker's side of tracing: which requests are traced, and those that have ended, until control takes and exports them.

On the request path `Tracing.sample` decides before anything is built (well under a microsecond for a request that is not
traced), `Tracing.emit` keeps a traced request after it was answered. Where no exporter is configured both do nothing.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping

import structlog

from gateway.contract.traces import RequestTrace, TraceContext
from gateway.telemetry.trace import Sampling, exporter_of, parse_traceparent, sampling_of

# Errors are traced whether sampled or not, but a flood of them must cost next to nothing.
MAX_ERRORS_PER_S = 10
# Between two reports to control: 2,048 spans, as many as OpenTelemetry's exporter queues.
MAX_WAITING = 512

_log = structlog.get_logger("interlock.tracing")


class Tracing:
    """
    ``ratio`` (0 to 1) of the requests without a caller's decision are traced, unless the standard ``OTEL_TRACES_SAMPLER`` and
    ``OTEL_TRACES_SAMPLER_ARG`` say otherwise. ``environ`` replaces the process' variables; they also say whether traces go
    anywhere: `is_on`. ``share`` is what remains of the ratio, 0 where they do not. Thread-safe.
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

    def sample(self, traceparent: str | None, coin: float) -> TraceContext | None:
        """
        Whether to trace a request: its place in its trace, or None. ``traceparent`` is the caller's header (a malformed
        one is ignored), ``coin`` a uniform random number in [0, 1).
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
        """Whether a request that was not sampled and failed at this time (ns) would be taken."""
        return self.is_on and self._errors.is_left(end_ns)

    def emit(self, trace: RequestTrace) -> None:
        """
        Keeps a finished request until it is taken, without blocking; drops and counts it where too many wait. A request
        that was not sampled is kept when it failed.
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
        """What was kept since the last call."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _new_context(self) -> TraceContext:
        return TraceContext(f"{self._bits(128) or 1:032x}")


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


def _goes_anywhere(environ: Mapping[str, str]) -> bool:
    try:
        return bool(exporter_of(environ))
    except ValueError:
        return False  # control, which exports, says so


def _sampling(ratio: float, environ: Mapping[str, str]) -> Sampling:
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip()
    if not name:
        return Sampling(ratio)
    try:
        return sampling_of(name, environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip())
    except ValueError as error:
        _log.warning("sampler_ignored", why=str(error), ratio=ratio)
        return Sampling(ratio)
