"""Accounts for answered requests: pace of the version, counts, prediction records, recent inputs, traces."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from gateway.contract.counts import LATENCY_BOUNDS_S, ArmCounts
from gateway.runtime.tensor_contents import bfloat16_values, to_raw
from gateway.serving.batch import join_inputs
from gateway.serving.prediction_records import Executed, Records, has_row_each
from gateway.serving.request_traces import request_trace
from gateway.serving.stages import Answers, Routed
from gateway.telemetry.worker_tracing import Tracing
from gateway.versions.loaded import LoadedVersion
from gateway.versions.recent_inputs import MAX_EXAMPLE_BYTES, RecentInputs
from registry.examples import Example, ExampleTensor

EXAMPLE_PERIOD_NS = 1_000_000_000  # nanoseconds between two requests of a version whose inputs are remembered


class Accounting:
    """Runs after the callers have their answers. Thread-safe: one thread per version calls it."""

    def __init__(self, records: Records, recent: RecentInputs, tracing: Tracing) -> None:
        self._records, self._recent, self._tracing = records, recent, tracing

    def account(self, answers: Answers) -> None:
        """Accounts for the requests of one run."""
        outputs = answers.outputs
        version = outputs.requests[0].arm.version
        version.pace.ran(outputs.rows, outputs.run_ns, outputs.processor_ns)
        _count(answers)
        self._record(version, answers)
        if answers.sent_ns >= version.example_due_ns:
            version.example_due_ns = answers.sent_ns + EXAMPLE_PERIOD_NS
            self._remember(version, outputs.requests[0])
        if self._tracing.is_on:
            self._trace(answers)

    def _record(self, version: LoadedVersion, answers: Answers) -> None:
        prediction = version.prediction
        if prediction is None or not self._records.sample_rate:
            return
        outputs = answers.outputs
        array = outputs.arrays[outputs.requests[0].plan.run_outputs.index(prediction.output)]
        if version.datatypes[prediction.output] == "BF16":
            array = bfloat16_values(array)
        if has_row_each(prediction, array, outputs.rows):
            self._records.offer(
                Executed(
                    answers.time_ms,
                    version.model,
                    version.number,
                    prediction,
                    [request.arm.name for request in outputs.requests],
                    answers.counters,
                    [received.id_field for received in outputs.received],
                    outputs.rows,
                    array,
                )
            )

    def _remember(self, version: LoadedVersion, request: Routed) -> None:
        inputs = join_inputs([request])
        if sum(array.nbytes for array in inputs.values()) > MAX_EXAMPLE_BYTES:
            return
        tensors = (
            ExampleTensor(feed.name, feed.datatype, feed.shape, to_raw(inputs[feed.name])) for feed in request.plan.feeds
        )
        self._recent.keep(version.model, Example(tuple(tensors)), is_batched=request.plan.group is not None)

    def _trace(self, answers: Answers) -> None:
        for index, received in enumerate(answers.outputs.received):
            if received.trace is not None:
                self._tracing.emit(request_trace(answers, index))


def _count(answers: Answers) -> None:
    """Counts requests by arm, and the run once, on the arm of the first request."""
    outputs = answers.outputs
    requests, rows, run_ns = outputs.requests, outputs.rows, outputs.run_ns
    size, first = sum(rows), requests[0]
    if outputs.is_uniform:
        by_arm = {first.arm: len(requests)}
        _count_received_together(first, len(requests), size, answers)
    else:
        by_arm = Counter(request.arm for request in requests)
        for request, count in zip(requests, rows, strict=True):
            _count_received_together(request, 1, count, answers)
    for arm, number in by_arm.items():
        arm.count("OK", number)
        counts = arm.counts
        counts.run_ns += run_ns * number
        counts.decode_ns += (outputs.joined_ns - outputs.taken_ns) * number
        counts.encode_ns += (answers.sent_ns - outputs.ran_ns) * number
        counts.last_inference_ms = answers.time_ms
    count_run(first.arm.counts, size, run_ns)


def _count_received_together(request: Routed, requests: int, rows: int, answers: Answers) -> None:
    """Counts requests of one arm that were received at the same time."""
    counts, received_ns = request.arm.counts, request.received.received_ns
    latency_s = (answers.sent_ns - received_ns) * 1e-9
    count_latency(counts, latency_s, requests)
    counts.queue_ns += (answers.outputs.taken_ns - received_ns) * requests
    counts.rows += rows


def count_latency(counts: ArmCounts, latency_s: float, requests: int) -> None:
    """Adds requests with this latency to the histogram."""
    counts.latency_buckets[bisect_left(LATENCY_BOUNDS_S, latency_s)] += requests
    counts.latency_sum_s += latency_s * requests


def count_run(counts: ArmCounts, rows: int, run_ns: int) -> None:
    """Counts one run of a batch of this size."""
    counts.executions[rows] = counts.executions.get(rows, 0) + 1
    counts.run_ns_by_size[rows] = counts.run_ns_by_size.get(rows, 0) + run_ns
