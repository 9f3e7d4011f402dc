"""
What a trace of one request is, and whether it is taken: plain values and pure decisions, on W3C Trace Context.

https://www.w3.org/TR/trace-context/ (``traceparent``), https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampling.
What becomes of a trace is in `gateway.telemetry.otel`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SAMPLED = 0x01
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a request's spans belong: the trace, the caller's span (0: the request starts the trace) and W3C's flags."""

    trace_id: int
    parent_id: int = 0
    flags: int = SAMPLED

    @property
    def is_sampled(self) -> bool:
        """Whether the one who started the trace wants it recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def trace_id_hex(self) -> str:
        """The trace id as it stands in headers and log lines."""
        return f"{self.trace_id:032x}"


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a request's life, from ``start_ns`` to ``end_ns`` in Unix nanoseconds: route, queue, run."""

    name: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """
    One finished request. ``context`` is what `Tracing.sample` answered, ``traceparent`` the caller's header, if any.

    ``method`` is "package.Service/Method"; times are Unix nanoseconds; ``code`` the gRPC code's name; ``version`` the
    resolved version that served (0: none did); ``rows`` those of the request, ``batch_rows`` those of the batch in which
    it ran; ``unit_hash`` a hash of the unit id, never the id itself; ``error`` the text that the caller got.
    """

    context: TraceContext | None
    method: str
    start_ns: int
    end_ns: int
    code: str = "OK"
    traceparent: str | None = None
    model: str = ""
    version: int = 0
    arm: str = ""
    revision: int = 0
    rows: int = 0
    batch_rows: int = 0
    prediction_id: str = ""
    unit_hash: str = ""
    error: str = ""
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """
    Which requests are traced: ``ratio`` (0 to 1) of them; where ``is_parent_based``, a caller that sends a trace
    context decides for its own requests.
    """

    ratio: float = 0.01
    is_parent_based: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio <= 1.0:
            raise ValueError(f"sampling ratio: got {self.ratio}, expected 0 to 1")

    def takes(self, parent: TraceContext | None, coin: float) -> bool:
        """Whether a request is traced; ``coin`` is uniform in [0, 1) and independent of everything."""
        if parent is None:
            return coin < self.ratio
        if self.is_parent_based:
            return parent.is_sampled
        # Decided on the trace id, so that every service that is asked to decides alike (OpenTelemetry's TraceIdRatioBased).
        return parent.trace_id & 0xFFFF_FFFF_FFFF_FFFF < round(self.ratio * 2**64)


def parse_traceparent(header: str | None) -> TraceContext | None:
    """
    The caller's trace context, or None where there is none or it is malformed (W3C: it is ignored then). A version
    above 00 may carry more fields at the end; ff is no version.
    """
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more):
        return None
    context = TraceContext(int(trace_id, 16), int(parent_id, 16), int(flags, 16))
    return context if context.trace_id and context.parent_id else None


_SAMPLERS = {
    "always_on": (1.0, False),
    "always_off": (0.0, False),
    "traceidratio": (None, False),
    "parentbased_always_on": (1.0, True),
    "parentbased_always_off": (0.0, True),
    "parentbased_traceidratio": (None, True),
}


def sampling_of(name: str, argument: str) -> Sampling:
    """
    The sampling that ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG`` ask for (a ratio left out is 1). Raises
    ValueError, naming the variable, for what is not one of the six standard samplers or no ratio.
    """
    if name not in _SAMPLERS:
        raise ValueError(f"OTEL_TRACES_SAMPLER: got {name!r}, expected one of {', '.join(_SAMPLERS)}")
    ratio, is_parent_based = _SAMPLERS[name]
    if ratio is not None:
        return Sampling(ratio, is_parent_based)
    try:
        return Sampling(float(argument or 1.0), is_parent_based)
    except ValueError:
        raise ValueError(f"OTEL_TRACES_SAMPLER_ARG: got {argument!r}, expected a ratio from 0 to 1") from None
