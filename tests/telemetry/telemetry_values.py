"""Counts and traces as workers send them."""

from __future__ import annotations

from gateway.contract.counts import ArmCounts, Telemetry
from gateway.contract.traces import RequestTrace, TraceContext

METHOD = "inference.GRPCInferenceService/ModelInfer"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CALLER[:-1] + "0"
TRACE_ID, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", 0xB7AD6B7169203331
T0 = 1_700_000_000_000_000_000


def counted(model: str = "digits", version: int = 2, arm: str = "default", *, ok: int = 4, failed: int = 0) -> ArmCounts:
    counts = ArmCounts(model, version, arm, {"OK": ok}, rows=2 * ok, executions={1: 1, 3: ok}, run_ns_by_size={1: 500, 3: 700})
    if failed:
        counts.requests["INTERNAL"] = failed
    counts.latency_buckets[3] = ok + failed
    counts.latency_sum_s = (ok + failed) * 0.0008
    counts.queue_ns, counts.decode_ns, counts.run_ns, counts.encode_ns = 10 * ok, 20 * ok, 30 * ok, 40 * ok
    counts.last_inference_ms = 1_700_000_000_000 + version
    return counts


def sent(incarnation: str, *arms: ArmCounts, in_flight: int = 1, **more: object) -> Telemetry:
    facts: dict[str, object] = {"shadows": (), "not_routed": {}, "rss_bytes": 1000, "loads": {}, **more}
    return Telemetry(incarnation, arms, in_flight=in_flight, **facts)  # type: ignore[arg-type]


def request(context: TraceContext | None, code: str = "OK", **facts: object) -> RequestTrace:
    ran = (T0 + 310, T0 + 900) if code == "OK" else (0, 0)
    times = (T0, T0 + 20, T0 + 300, *ran, T0 + 1000)
    known: dict[str, object] = {"model": "digits", "version": 2, "arm": "candidate", "rows": 1, "batch_rows": 8}
    return RequestTrace(context, METHOD, code, *times, **{**known, **facts})  # type: ignore[arg-type]
