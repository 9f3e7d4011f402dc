"""
ModelStatistics in Triton's message.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md
"""

from __future__ import annotations

from gateway.contract.questions import VersionStatistics
from gateway.protocol.pb import inference_pb2


def statistics_message(statistics: VersionStatistics) -> inference_pb2.ModelStatistics:
    """
    Returns one version's message. ``inference_count`` is rows, ``execution_count`` runs (a batch is one); durations are
    sums over successful requests. Success is the sum of its four parts; the rest of the latencies belongs to failures.
    """
    counts = statistics.counts
    succeeded = counts.requests.get("OK", 0)
    failed = sum(counts.requests.values()) - succeeded
    parts_ns = counts.queue_ns + counts.decode_ns + counts.run_ns + counts.encode_ns
    failed_ns = max(0, int(counts.latency_sum_s * 1e9) - parts_ns) if failed else 0
    return inference_pb2.ModelStatistics(
        name=statistics.model,
        version=str(statistics.version),
        last_inference=counts.last_inference_ms,
        inference_count=counts.rows,
        execution_count=sum(counts.executions.values()),
        inference_stats=inference_pb2.InferStatistics(
            success=_duration(succeeded, parts_ns),
            fail=_duration(failed, failed_ns),
            queue=_duration(succeeded, counts.queue_ns),
            compute_input=_duration(succeeded, counts.decode_ns),
            compute_infer=_duration(succeeded, counts.run_ns),
            compute_output=_duration(succeeded, counts.encode_ns),
            cache_hit=_duration(0, 0),
            cache_miss=_duration(0, 0),
        ),
        batch_stats=[
            # Decoding and encoding are not measured per batch size, so those two parts stay unset.
            inference_pb2.InferBatchStatistics(
                batch_size=size, compute_infer=_duration(runs, counts.run_ns_by_size.get(size, 0))
            )
            for size, runs in sorted(counts.executions.items())
        ],
        memory_usage=[inference_pb2.MemoryUsage(type="CPU", id=0, byte_size=statistics.memory_bytes)]
        if statistics.memory_bytes
        else [],
    )


def _duration(count: int, nanoseconds: int) -> inference_pb2.StatisticDuration:
    return inference_pb2.StatisticDuration(count=count, ns=nanoseconds)
