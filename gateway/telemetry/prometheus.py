"""
The page /metrics: renders `MetricsFacts` in Prometheus' text format. The only importer of prometheus_client, whose objects
render here and count nothing. docs/metrics.md lists every metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.contract.counts import LATENCY_BOUNDS_S, ArmCounts, ShadowCounts
from gateway.telemetry.facts import (
    SWAP_BOUNDS_S,
    DeathCount,
    FeedbackCounts,
    MetricsFacts,
    QualityFacts,
    VersionFacts,
    WorkerFacts,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # rows; upper bounds of the buckets of a run's size
ARM = ("model", "version", "arm")
SHADOW = ("model", "primary", "version")
VERSION = ("worker", "model", "version")
DEATH = ("model", "version", "signal")

# name without prefix and _total, help, value
_ARM_COUNTERS: tuple[tuple[str, str, Callable[[ArmCounts], float]], ...] = (
    ("rows", "Rows answered (inferences).", lambda arm: arm.rows),
    ("decode_seconds", "Time spent decoding answered requests.", lambda arm: arm.decode_ns / 1e9),
    ("queue_seconds", "Time that answered requests waited for their batch.", lambda arm: arm.queue_ns / 1e9),
    ("run_seconds", "Time that answered requests spent in their batch's run.", lambda arm: arm.run_ns / 1e9),
    ("encode_seconds", "Time spent encoding answers.", lambda arm: arm.encode_ns / 1e9),
    ("execution_seconds", "Time of model runs; a batch counts once.", lambda arm: sum(arm.run_ns_by_size.values()) / 1e9),
)
_SHADOW_COUNTERS: tuple[tuple[str, str, Callable[[ShadowCounts], float]], ...] = (
    ("shadow_compared", "Shadow answers that were compared with the primary's.", lambda shadow: shadow.compared),
    ("shadow_disagreed", "Shadow answers that differed from the primary's.", lambda shadow: shadow.disagreed),
    ("shadow_dropped", "Shadow copies that were not run, because their queue was full.", lambda shadow: shadow.dropped),
    ("shadow_failed", "Shadow copies whose run failed.", lambda shadow: shadow.failed),
    ("shadow_values", "Numbers compared between shadow and primary.", lambda shadow: shadow.values),
    ("shadow_abs_diff", "Sum of the absolute differences of the compared numbers.", lambda shadow: shadow.sum_abs_diff),
)
_VERSION_GAUGES: tuple[tuple[str, str, Callable[[VersionFacts], float]], ...] = (
    ("version_memory_bytes", "Memory that a version uses in a worker (estimate).", lambda version: version.memory_bytes),
    ("version_private_bytes", "Part of that memory that no other process shares.", lambda version: version.private_bytes),
    ("version_mapped_bytes", "Part of that memory that workers share: mapped files.", lambda version: version.mapped_bytes),
    ("version_in_flight", "Requests that hold a lease on a version now.", lambda version: version.in_flight),
    ("version_load_seconds", "Duration of the version's load.", lambda version: version.load_s),
)
_WORKER_GAUGES: tuple[tuple[str, str, Callable[[WorkerFacts], float]], ...] = (
    ("worker_up", "1 while the worker is connected to control.", lambda worker: worker.is_up),
    ("worker_serving", "1 while the worker takes requests.", lambda worker: worker.is_serving),
    ("worker_desired_revision", "Revision of the last desired state that the worker took.", lambda worker: worker.revision),
)
_FEEDBACK_COUNTERS: tuple[tuple[str, str, Callable[[FeedbackCounts], float]], ...] = (
    ("feedback_joined_late", "Labels that arrived early and were joined later.", lambda feedback: feedback.joined_late),
    ("feedback_lapsed", "Labels deleted because their prediction did not arrive.", lambda feedback: feedback.lapsed),
    ("feedback_refused_late", "Labels that waited and did not fit their prediction.", lambda feedback: feedback.refused_late),
)
_QUALITY_GAUGES: tuple[tuple[str, str, Callable[[QualityFacts], float | None]], ...] = (
    ("quality_predictions", "Recorded predictions in the window.", lambda quality: quality.predictions),
    ("quality_labelled", "Recorded predictions in the window with ground truth.", lambda quality: quality.labelled),
    ("quality_coverage", "Share of the recorded predictions that have ground truth.", lambda quality: quality.coverage),
    ("quality_accuracy", "Share of labelled predictions with the right class.", lambda quality: quality.accuracy),
    ("quality_precision_macro", "Precision, mean over classes.", lambda quality: quality.precision_macro),
    ("quality_recall_macro", "Recall, mean over classes.", lambda quality: quality.recall_macro),
    ("quality_f1_macro", "F1, mean over classes.", lambda quality: quality.f1_macro),
    ("quality_mae", "Mean absolute error.", lambda quality: quality.mae),
    ("quality_rmse", "Root mean squared error.", lambda quality: quality.rmse),
    ("quality_r2", "Coefficient of determination.", lambda quality: quality.r2),
)


def render_metrics(facts: MetricsFacts) -> bytes:
    """Returns the page for one scrape, in the text format that CONTENT_TYPE names."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ScrapeCollector(facts))
    return generate_latest(registry)


class _ScrapeCollector(Collector):
    """Collects the metrics of one scrape, in the order of docs/metrics.md."""

    def __init__(self, facts: MetricsFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Yields every family that has samples."""
        facts = self._facts
        for family in (
            *_requests(facts),
            *_shadows(facts),
            *_versions(facts),
            *_swaps(facts),
            *_loading(facts),
            *_workers(facts),
            *_predictions(facts),
            *_build(facts),
        ):
            if family.samples:
                yield family


def _requests(facts: MetricsFacts) -> Iterator[Metric]:
    arms = sorted(facts.merged.arms.items())
    by_code = [((*_texts(key), code), count) for key, arm in arms for code, count in sorted(arm.requests.items())]
    yield _counter("requests", "Requests answered, by gRPC code.", (*ARM, "code"), by_code)
    lost = [((code,), count) for code, count in sorted(facts.merged.not_routed.items())]
    yield _counter("requests_not_routed", "Requests that reached no version, by gRPC code.", ("code",), lost)
    latency = HistogramMetricFamily(
        "interlock_request_duration_seconds", "Time from a request's arrival at the server to its answer.", labels=ARM
    )
    batches = HistogramMetricFamily("interlock_batch_rows", "Rows of a run (its batch size).", labels=ARM)
    for key, arm in arms:
        latency.add_metric(_texts(key), _buckets(arm.latency_buckets, LATENCY_BOUNDS_S), arm.latency_sum_s)
        rows = sum(size * count for size, count in arm.executions.items())
        batches.add_metric(_texts(key), _buckets(_batch_counts(arm.executions), BATCH_BOUNDS), rows)
    yield latency
    for name, text, value in _ARM_COUNTERS:
        yield _counter(name, text, ARM, [(_texts(key), value(arm)) for key, arm in arms])
    yield batches
    traces = facts.merged.traces_dropped
    yield _counter("traces_dropped", "Traced requests not exported because a worker's buffer was full.", (), [((), traces)])


def _shadows(facts: MetricsFacts) -> Iterator[Metric]:
    shadows = [(_texts(key), shadow) for key, shadow in sorted(facts.merged.shadows.items())]
    for name, text, value in _SHADOW_COUNTERS:
        yield _counter(name, text, SHADOW, [(labels, value(shadow)) for labels, shadow in shadows])
    largest = [(labels, shadow.max_abs_diff) for labels, shadow in shadows]
    yield _gauge("shadow_abs_diff_max", "Largest absolute difference since the workers started.", SHADOW, largest)


def _versions(facts: MetricsFacts) -> Iterator[Metric]:
    loads = [(_texts(key), count) for key, count in sorted(facts.merged.loads.items())]
    yield _counter("model_loads", "Loads of a version in a worker.", ("model", "version", "result"), loads)
    versions = sorted(facts.versions, key=lambda version: (version.model, version.version, version.worker))
    labelled = [(_texts((version.worker, version.model, version.version)), version) for version in versions]
    states = [((*labels, version.state.lower()), 1) for labels, version in labelled]
    yield _gauge("version_state", "1 for the state of a version in a worker.", (*VERSION, "state"), states)
    for name, text, value in _VERSION_GAUGES:
        yield _gauge(name, text, VERSION, [(labels, value(version)) for labels, version in labelled])
    routes = sorted(facts.routes, key=lambda route: route.model)
    shares = [((route.model, str(version)), part) for route in routes for version, part in sorted(route.shares.items())]
    yield _gauge("route_share", "Share of the callers that a version should serve, 0 to 1.", ("model", "version"), shares)
    copied = [((route.model, str(route.shadow)), route.shadow_percent / 100) for route in routes if route.shadow is not None]
    yield _gauge("shadow_share", "Share of the requests that should be copied, 0 to 1.", ("model", "version"), copied)
    revisions = [((route.model,), route.revision) for route in routes]
    yield _gauge("deployment_revision", "Revision of the deployment.", ("model",), revisions)


def _swaps(facts: MetricsFacts) -> Iterator[Metric]:
    labels = ("model", "verb", "result")
    counts = [((swap.model, swap.verb, swap.result), sum(swap.buckets)) for swap in facts.swaps]
    yield _counter("swaps", "Finished promotes, rollbacks and other traffic changes.", labels, counts)
    durations = HistogramMetricFamily(
        "interlock_swap_duration_seconds",
        "Time from the operator's request to the last worker's acknowledgement.",
        labels=labels,
    )
    for swap in facts.swaps:
        durations.add_metric((swap.model, swap.verb, swap.result), _buckets(swap.buckets, SWAP_BOUNDS_S), swap.sum_s)
    yield durations


def _loading(facts: MetricsFacts) -> Iterator[Metric]:
    counts = facts.loading
    if counts is None:
        return
    yield _counter("on_demand_loads", "Loads begun because a caller named a version.", (), [((), counts.loads)])
    yield _counter("on_demand_failures", "Versions that callers named and that could not load.", (), [((), counts.failures)])
    evictions = [((), counts.evictions)]
    yield _counter("on_demand_evictions", "Versions unloaded to make room for others that callers named.", (), evictions)
    yield _gauge("on_demand_held", "Versions in memory because callers named them.", (), [((), counts.loaded)])
    yield _gauge("on_demand_waiting", "Versions that callers named and that wait to be loaded.", (), [((), counts.waiting)])
    parked = [((str(worker.worker),), worker.parked) for worker in facts.merged.workers]
    yield _gauge("on_demand_parked", "Requests that wait in a worker for their version.", ("worker",), parked)


def _deaths(counts: Sequence[DeathCount]) -> list[tuple[tuple[str, ...], float]]:
    return [((one.model, str(one.version or ""), one.signal), one.count) for one in counts]


def _workers(facts: MetricsFacts) -> Iterator[Metric]:
    workers = [((str(worker.worker),), worker) for worker in sorted(facts.workers, key=lambda worker: worker.worker)]
    for name, text, value in _WORKER_GAUGES:
        yield _gauge(name, text, ("worker",), [(labels, value(worker)) for labels, worker in workers])
    restarts = [(labels, worker.restarts) for labels, worker in workers]
    yield _counter("worker_restarts", "Restarts after the worker died.", ("worker",), restarts)
    died = "Workers that died while they ran a version, by signal; without a version if they ran none."
    yield _counter("worker_deaths", died, DEATH, _deaths(facts.deaths))
    yield _counter("isolated_deaths", "Deaths of isolated versions' own processes.", DEATH, _deaths(facts.isolated_deaths))
    replaced = [(labels, worker.replacements) for labels, worker in workers if worker.replacements is not None]
    yield _counter("worker_replacements", "Replacements of a worker by a rolling restart.", ("worker",), replaced)
    started = [(labels, worker.started_at) for labels, worker in workers if worker.started_at]
    yield _gauge("worker_start_time_seconds", "Unix time at which the worker's process started.", ("worker",), started)
    answered = [((str(worker),), count) for worker, count in sorted(facts.merged.worker_requests.items())]
    yield _counter("worker_requests", "Requests answered by all processes of a worker.", ("worker",), answered)
    live = [((str(worker.worker),), worker) for worker in facts.merged.workers]
    open_ones = [(labels, worker.connections) for labels, worker in live if worker.connections >= 0]
    yield _gauge("worker_connections", "Clients' connections to a worker.", ("worker",), open_ones)
    rss = [(labels, worker.rss_bytes) for labels, worker in live]
    yield _gauge("worker_rss_bytes", "Resident memory of a worker.", ("worker",), rss)
    yield _gauge("in_flight", "Requests in a worker now.", ("worker",), [(at, worker.in_flight) for at, worker in live])


def _predictions(facts: MetricsFacts) -> Iterator[Metric]:
    dropped = facts.merged.predictions_dropped + facts.predictions_dropped
    yield _counter("predictions_recorded", "Predictions written to the log.", (), [((), facts.predictions_recorded)])
    yield _counter("predictions_dropped", "Predictions that could not be recorded.", (), [((), dropped)])
    for name, text, count in _FEEDBACK_COUNTERS:
        yield _counter(name, text, (), [((), count(facts.feedback))])
    for name, text, value in _QUALITY_GAUGES:
        known = [(_texts((row.model, row.version, row.arm)), value(row)) for row in facts.quality]
        yield _gauge(name, text, ARM, [(labels, number) for labels, number in known if number is not None])


def _build(facts: MetricsFacts) -> Iterator[Metric]:
    info = InfoMetricFamily("interlock_build", "The running release.")
    if facts.build:
        info.add_metric((), dict(facts.build))
    yield info


Samples = Iterable[tuple[Sequence[str], float]]


def _counter(name: str, text: str, labels: Sequence[str], samples: Samples) -> CounterMetricFamily:
    family = CounterMetricFamily(f"interlock_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"interlock_{name}", text, labels=labels)
    for values, number in samples:
        family.add_metric(values, float(number))
    return family


def _texts(key: Iterable[object]) -> tuple[str, ...]:
    return tuple(str(part) for part in key)


def _buckets(counts: Sequence[int], bounds: Sequence[float]) -> list[tuple[str, float]]:
    """Prometheus' cumulative buckets from plain counts; the last is +Inf."""
    names = [*(str(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def _batch_counts(executions: dict[int, int]) -> list[int]:
    counts = [0] * (len(BATCH_BOUNDS) + 1)
    for size, count in executions.items():
        bucket = next((index for index, bound in enumerate(BATCH_BOUNDS) if size <= bound), len(BATCH_BOUNDS))
        counts[bucket] += count
    return counts
