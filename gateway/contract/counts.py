"""
The counts that workers send: cumulative since the worker started, so the last message wins and none can be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Upper bounds of the latency histogram in seconds, as Prometheus' `le`; one bucket more is +Inf.
LATENCY_BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


@dataclass(slots=True)
class ArmCounts:
    """
    Everything counted for one (model, resolved version, arm) since the worker started. Mutable, because the request
    path adds to it; it crosses the link as a value. ``arm`` is default, candidate, pinned or shadow.
    """

    model: str
    version: int
    arm: str
    requests: dict[str, int] = field(default_factory=dict)  # by gRPC code name, e.g. "OK"
    latency_buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    latency_sum_s: float = 0.0
    rows: int = 0  # rows of successful requests ("inferences" in Triton's words)
    queue_ns: int = 0  # summed over successful requests
    decode_ns: int = 0
    run_ns: int = 0
    encode_ns: int = 0
    executions: dict[int, int] = field(default_factory=dict)  # runs by batch size in rows
    run_ns_by_size: dict[int, int] = field(default_factory=dict)
    last_inference_ms: int = 0  # Unix milliseconds


@dataclass(slots=True)
class ShadowCounts:
    """Comparison of a shadow's answers with the primary's since the worker started; per (model, primary, shadow)."""

    model: str
    primary: int
    shadow: int
    compared: int = 0  # rows for predictions that are classes, else requests
    disagreed: int = 0
    dropped: int = 0  # copies never run: queue full
    failed: int = 0  # copies whose run failed
    values: int = 0  # numbers compared
    sum_abs_diff: float = 0.0
    max_abs_diff: float = 0.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """
    Counts since the start of this worker's ``incarnation``: cumulative, so the last one wins and none can be lost.
    ``connections`` are the clients' connections to it now, -1 where that is not known.
    """

    incarnation: str
    arms: tuple[ArmCounts, ...]
    shadows: tuple[ShadowCounts, ...]
    not_routed: Mapping[str, int]  # requests that reached no version, by gRPC code name
    in_flight: int
    rss_bytes: int
    loads: Mapping[str, int]  # "model|version|ok" and "model|version|failed"
    predictions_dropped: int = 0
    connections: int = -1
    private_bytes: int = 0  # of rss_bytes, what no other process shares
    parked: int = 0  # requests that wait for a version to be loaded
    traces_dropped: int = 0
    isolated_deaths: Mapping[str, int] = field(default_factory=dict)  # of child processes, by "model|version|signal"
