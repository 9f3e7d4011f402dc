"""
The decisions whether a request is traced and whether traces are exported. Pure.

They follow W3C Trace Context (``traceparent``) and OpenTelemetry's environment variables:
https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/otel/trace/sdk/#sampling,
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.contract.traces import TraceContext

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32


@dataclass(frozen=True, slots=True)
class Sampling:
    """
    The rule which requests are traced: the share ``ratio`` (0 to 1). With ``is_parent_based``, a caller that sends a trace
    context decides for its own requests.
    """

    ratio: float = 0.01
    is_parent_based: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.ratio <= 1.0:
            raise ValueError(f"sampling ratio: got {self.ratio}, expected 0 to 1")

    def takes(self, parent: TraceContext | None, coin: float) -> bool:
        """Returns whether a request is traced. ``coin`` is an independent random number, uniform in [0, 1)."""
        if parent is None:
            return coin < self.ratio
        if self.is_parent_based:
            return parent.is_sampled
        # By the trace id, so that all services decide alike for one trace (OpenTelemetry's TraceIdRatioBased).
        return int(parent.trace_id[16:], 16) < round(self.ratio * 2**64)


def parse_traceparent(header: str | None) -> TraceContext | None:
    """
    Returns the caller's trace context; None if the header is missing or malformed, which W3C says to ignore. A version above
    00 may have more fields at the end; ff is not a version.
    """
    match = _TRACEPARENT.fullmatch(header) if header else None
    if match is None:
        return None
    version, trace_id, parent_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more):
        return None
    context = TraceContext(trace_id, int(parent_id, 16), int(flags, 16))
    return context if trace_id != _NO_TRACE and context.parent_id else None


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
    Returns the sampling that ``OTEL_TRACES_SAMPLER`` (``name``) and ``OTEL_TRACES_SAMPLER_ARG`` (``argument``) configure. An
    empty argument is the ratio 1. Raises ValueError, naming the variable, for an unknown sampler or an invalid ratio.
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


@dataclass(frozen=True, slots=True)
class Exporters:
    """``kinds``: the exporters to use, of console, otlp-grpc and otlp-http. ``problems``: what is asked for and not there."""

    kinds: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


_OTLP_KINDS = {"grpc": "otlp-grpc", "http/protobuf": "otlp-http"}  # by the value of OTEL_EXPORTER_OTLP_PROTOCOL


def exporters_of(environ: Mapping[str, str]) -> Exporters:
    """
    Returns the exporters that OpenTelemetry's variables configure. Each known one of a list is used; a problem names the
    variable.
    """
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Exporters()
    names = dict.fromkeys(name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "").split(",") if name.strip())
    kinds: list[str] = []
    problems: list[str] = []
    for name in names or ("otlp",):
        if name == "console":
            kinds.append(name)
        elif name == "otlp":
            _add_otlp(environ, kinds, problems)
        elif name != "none":
            problems.append(f"OTEL_TRACES_EXPORTER: got {name!r}, expected otlp, console or none")
    return Exporters(tuple(kinds), tuple(problems))


def _add_otlp(environ: Mapping[str, str], kinds: list[str], problems: list[str]) -> None:
    if not (environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        return
    variable, protocol = "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, "").strip():
            variable, protocol = name, environ[name].strip()
            break
    kind = _OTLP_KINDS.get(protocol)
    if kind is None:
        problems.append(f"{variable}: got {protocol!r}, expected {' or '.join(_OTLP_KINDS)}")
    else:
        kinds.append(kind)
