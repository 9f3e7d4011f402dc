from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from telemetry_values import counted, sent

from gateway.contract.counts import LATENCY_BOUNDS_S
from gateway.contract.version_state import VersionState
from gateway.telemetry.aggregate import Aggregate
from gateway.telemetry.facts import MetricsFacts, SwapRecorder, VersionFacts
from gateway.telemetry.prometheus import render_metrics

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
SERVED = {"model": "digits", "version": "2", "arm": "default"}


def samples(facts: MetricsFacts) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(render_metrics(facts).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def test_requests_are_counted_by_model_version_arm_and_code(full_facts: MetricsFacts) -> None:
    assert samples(full_facts)["interlock_requests_total"] == [
        ({**SERVED, "code": "INTERNAL"}, 1.0),
        ({**SERVED, "code": "OK"}, 10.0),
        ({"model": "digits", "version": "3", "arm": "candidate", "code": "OK"}, 2.0),
    ]


def test_the_latency_histogram_is_cumulative_and_whole(full_facts: MetricsFacts) -> None:
    found = samples(full_facts)
    buckets = [
        (labels["le"], value)
        for labels, value in found["interlock_request_duration_seconds_bucket"]
        if labels["version"] == "2"
    ]
    assert [float(bound) for bound, _ in buckets] == [*LATENCY_BOUNDS_S, float("inf")]
    assert [value for _, value in buckets] == [0.0] * 3 + [11.0] * 14
    assert found["interlock_request_duration_seconds_count"][0] == (SERVED, 11.0)
    assert found["interlock_request_duration_seconds_sum"][0][1] == pytest.approx(11 * 0.0008)


def test_the_batch_histogram_counts_runs_by_their_rows(full_facts: MetricsFacts) -> None:
    found = samples(full_facts)
    buckets = {labels["le"]: value for labels, value in found["interlock_batch_rows_bucket"] if labels["version"] == "2"}
    assert (buckets["1.0"], buckets["2.0"], buckets["4.0"], buckets["+Inf"]) == (2.0, 2.0, 12.0, 12.0)
    assert found["interlock_batch_rows_sum"][0] == (SERVED, 2 * 1.0 + 10 * 3.0)


def test_a_batch_larger_than_every_bound_is_counted() -> None:
    aggregate, counts = Aggregate(), counted()
    counts.executions = {5000: 2}
    aggregate.update(0, sent("a", counts))
    buckets = samples(MetricsFacts(aggregate.merged()))["interlock_batch_rows_bucket"]
    assert [value for labels, value in buckets if labels["le"] in ("1024.0", "+Inf")] == [0.0, 2.0]


def test_times_are_in_seconds(full_facts: MetricsFacts) -> None:
    found = samples(full_facts)
    assert found["interlock_queue_seconds_total"][0] == (SERVED, pytest.approx(100e-9))
    assert found["interlock_run_seconds_total"][0] == (SERVED, pytest.approx(300e-9))
    assert found["interlock_execution_seconds_total"][0] == (SERVED, pytest.approx(2400e-9))


def test_dropped_predictions_of_workers_and_control_add_up(full_facts: MetricsFacts) -> None:
    assert samples(full_facts)["interlock_predictions_dropped_total"] == [({}, 4.0)]


def test_labels_that_waited_for_their_prediction_are_counted_by_outcome(full_facts: MetricsFacts) -> None:
    found = samples(full_facts)
    outcomes = ("joined_late", "lapsed", "refused_late")
    assert [found[f"interlock_feedback_{outcome}_total"] for outcome in outcomes] == [[({}, 7.0)], [({}, 2.0)], [({}, 1.0)]]


def test_dropped_traces_are_told(full_facts: MetricsFacts) -> None:
    assert samples(full_facts)["interlock_traces_dropped_total"] == [({}, 5.0)]


def test_what_a_quality_report_does_not_know_is_left_out(full_facts: MetricsFacts) -> None:
    found = samples(full_facts)
    assert [labels["model"] for labels, _ in found["interlock_quality_accuracy"]] == ["digits"]
    assert [labels["model"] for labels, _ in found["interlock_quality_rmse"]] == ["prices"]


def test_a_swap_is_counted_and_timed() -> None:
    recorder = SwapRecorder()
    for duration_s in (0.02, 0.005, 500.0):
        recorder.record("digits", "promote", is_ok=True, duration_s=duration_s)
    recorder.record("digits", "promote", is_ok=False, duration_s=1.0)
    found = samples(MetricsFacts(swaps=recorder.counts()))
    done = {"model": "digits", "verb": "promote", "result": "ok"}
    assert found["interlock_swaps_total"] == [({**done, "result": "failed"}, 1.0), (done, 3.0)]
    buckets = {
        labels["le"]: value for labels, value in found["interlock_swap_duration_seconds_bucket"] if labels["result"] == "ok"
    }
    assert (buckets["0.005"], buckets["0.025"], buckets["120.0"], buckets["+Inf"]) == (1.0, 2.0, 2.0, 3.0)


def test_labels_are_escaped() -> None:
    name = 'odd"name\\with\nall'
    found = samples(MetricsFacts(versions=(VersionFacts(0, name, 1, VersionState.READY),)))
    assert found["interlock_version_state"] == [({"worker": "0", "model": name, "version": "1", "state": "ready"}, 1.0)]


def test_an_idle_gateway_renders() -> None:
    dropped = {"interlock_predictions_dropped_total", "interlock_traces_dropped_total"}
    feedback = {f"interlock_feedback_{outcome}_total" for outcome in ("joined_late", "lapsed", "refused_late")}
    assert set(samples(MetricsFacts())) == {"interlock_predictions_recorded_total", *dropped, *feedback}


def test_the_list_in_the_docs_is_what_is_rendered(full_facts: MetricsFacts) -> None:
    page = render_metrics(full_facts).decode()
    rendered = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, tuple(sorted(_labels(family))))
        for family in text_string_to_metric_families(page)
    }
    rows = re.findall(r"^\| `(interlock_\w+)` \| (\w+) \| ([^|]*) \|", DOCS.read_text(), re.MULTILINE)
    documented = {(name, kind, tuple(sorted(re.findall(r"\w+", labels)))) for name, kind, labels in rows}
    assert documented == rendered


def _labels(family: object) -> set[str]:
    return {label for sample in family.samples for label in sample.labels} - {"le"}  # type: ignore[attr-defined]
