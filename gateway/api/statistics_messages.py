"""
ModelStatistics: what the workers counted, in Triton's message and by Triton's meaning.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md. Counts of all arms of
a version are summed, its shadow runs included: Triton knows no arms (/metrics tells them apart).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.contract.counts import ArmCounts
from gateway.errors import ModelNotFound
from gateway.protocol.pb import inference_pb2
from gateway.telemetry.aggregate import Merged, by_version, summed


def statistics_response(
    merged: Merged,
    name: str,
    version: str,
    *,
    served: Mapping[str, Iterable[int]] | None = None,
    memory_bytes: Mapping[tuple[str, int], int] | None = None,
) -> inference_pb2.ModelStatisticsResponse:
    """
    Statistics of one version, of all versions of a model (``version`` empty) or of everything (``name`` empty too).

    ``version`` is a number: aliases are resolved by the caller. ``served`` names what is loaded, so that a version
    without requests yet answers zeros; a version counted earlier stays listed. ``memory_bytes`` is per version over
    all workers. Raises ModelNotFound for a name or version that is neither served nor counted.
    """
    known = _known(merged, served or {})
    if name and name not in known:
        raise ModelNotFound(f"model {name!r} is not served and never was", model=name)
    chosen = {name: known[name]} if name else known
    keys = [(model, number) for model in sorted(chosen) for number in sorted(chosen[model])]
    if version:
        keys = [key for key in keys if str(key[1]) == version]
    if name and version and not keys:
        have = ", ".join(str(number) for number in sorted(known[name]))
        raise ModelNotFound(f"model {name!r} has no version {version!r} served (has {have})", model=name, version=version)
    response = inference_pb2.ModelStatisticsResponse()
    arms = by_version(merged)
    for key in keys:
        response.model_stats.append(_statistics(*key, summed(arms.get(key, ())), (memory_bytes or {}).get(key, 0)))
    return response


def _known(merged: Merged, served: Mapping[str, Iterable[int]]) -> dict[str, set[int]]:
    known = {model: set(numbers) for model, numbers in served.items()}
    for model, number, _ in merged.arms:
        known.setdefault(model, set()).add(number)
    return known


def _statistics(model: str, version: int, counts: ArmCounts, memory_bytes: int) -> inference_pb2.ModelStatistics:
    """
    One version's message. ``inference_count`` is rows, ``execution_count`` runs (a batch is one), the durations are
    sums over successful requests. Success is the sum of its four parts; what else the latencies hold is the failures'.
    """
    succeeded = counts.requests.get("OK", 0)
    failed = sum(counts.requests.values()) - succeeded
    parts_ns = counts.queue_ns + counts.decode_ns + counts.run_ns + counts.encode_ns
    failed_ns = max(0, int(counts.latency_sum_s * 1e9) - parts_ns) if failed else 0
    return inference_pb2.ModelStatistics(
        name=model,
        version=str(version),
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
        memory_usage=[inference_pb2.MemoryUsage(type="CPU", id=0, byte_size=memory_bytes)] if memory_bytes else [],
    )


def _duration(count: int, nanoseconds: int) -> inference_pb2.StatisticDuration:
    return inference_pb2.StatisticDuration(count=count, ns=nanoseconds)
