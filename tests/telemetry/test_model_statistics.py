from __future__ import annotations

import pytest
from telemetry_values import counted, sent

from gateway.api.forwarded import INFERENCE_RPCS
from gateway.contract.questions import Statistics
from gateway.control.observe.statistics import version_statistics
from gateway.errors import ModelNotFound
from gateway.protocol.pb import inference_pb2
from gateway.telemetry.aggregate import Aggregate
from gateway.telemetry.merged_counts import Merged


@pytest.fixture
def merged() -> Merged:
    aggregate = Aggregate()
    aggregate.update(0, sent("a", counted(ok=4, failed=1), counted(version=10, ok=1)))
    aggregate.update(1, sent("b", counted(ok=6), counted(arm="pinned", ok=2), counted("prices", 1, ok=1)))
    return aggregate.merged()


def statistics_response(
    merged: Merged, model: str, version: int | None, **more: object
) -> inference_pb2.ModelStatisticsResponse:
    """From the merged counts to the message, as control and api do."""
    return INFERENCE_RPCS["ModelStatistics"].response(Statistics(version_statistics(merged, model, version, **more)))


def names(response: inference_pb2.ModelStatisticsResponse) -> list[tuple[str, str]]:
    return [(model.name, model.version) for model in response.model_stats]


def test_one_version_is_summed_over_workers_and_arms(merged: Merged) -> None:
    (model,) = statistics_response(merged, "digits", 2).model_stats
    stats = model.inference_stats
    assert (model.inference_count, model.execution_count) == (24, 15)
    assert (stats.success.count, stats.success.ns) == (12, 1200)
    assert (stats.queue.count, stats.queue.ns) == (12, 120)
    assert (stats.compute_input.count, stats.compute_input.ns) == (12, 240)
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (12, 360)
    assert (stats.compute_output.count, stats.compute_output.ns) == (12, 480)
    assert (stats.fail.count, stats.cache_hit.count) == (1, 0)
    assert stats.fail.ns > 0
    assert model.last_inference == 1_700_000_000_002


def test_runs_are_told_by_batch_size(merged: Merged) -> None:
    (model,) = statistics_response(merged, "digits", 2).model_stats
    batches = [(batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns) for batch in model.batch_stats]
    assert batches == [(1, 3, 1500), (3, 12, 2100)]


def test_no_version_means_all_of_the_model_in_order(merged: Merged) -> None:
    assert names(statistics_response(merged, "digits", None)) == [("digits", "2"), ("digits", "10")]


def test_no_name_means_everything(merged: Merged) -> None:
    assert names(statistics_response(merged, "", None)) == [("digits", "2"), ("digits", "10"), ("prices", "1")]
    assert names(statistics_response(Merged(), "", None)) == []


def test_a_version_without_requests_answers_zeros(merged: Merged) -> None:
    (model,) = statistics_response(merged, "idle", None, served={"idle": (3,)}, memory_bytes={("idle", 3): 4096}).model_stats
    assert (model.version, model.inference_count, model.inference_stats.success.count) == ("3", 0, 0)
    assert model.memory_usage[0].byte_size == 4096


def test_an_unknown_model_is_not_found(merged: Merged) -> None:
    with pytest.raises(ModelNotFound, match="model 'nope' is not served"):
        statistics_response(merged, "nope", None)


def test_an_unknown_version_is_not_found_and_the_known_ones_named(merged: Merged) -> None:
    with pytest.raises(ModelNotFound, match=r"model 'digits' has no version 7 served \(has 2, 10\)"):
        statistics_response(merged, "digits", 7)


def test_a_client_of_triton_reads_the_message(merged: Merged) -> None:
    service_pb2 = pytest.importorskip("tritonclient.grpc").service_pb2
    body = statistics_response(merged, "digits", 2).SerializeToString()
    (model,) = service_pb2.ModelStatisticsResponse.FromString(body).model_stats
    assert (model.name, model.inference_count, model.inference_stats.success.count) == ("digits", 24, 12)
