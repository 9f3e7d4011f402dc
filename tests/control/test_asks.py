"""What a worker passes on, and what it gets back."""

from __future__ import annotations

import pytest
from control_fakes import FakeLog
from world import World

from gateway.api.forwarded import Asks
from gateway.contract.counts import ArmCounts, Telemetry
from gateway.protocol.pb import feedback_pb2
from gateway.protocol.pb import inference_pb2 as pb


@pytest.fixture
def world(world: World) -> World:
    world.control.answer = Asks(world.control).answer
    return world


def test_before_anybody_answers_control_is_starting(make_world: object) -> None:
    answer = make_world().worker().ask("RepositoryIndex")
    assert (answer.code, answer.message) == ("UNAVAILABLE", "control is starting")


@pytest.mark.parametrize("config", [{"log": FakeLog()}])
def test_ground_truth_goes_to_the_prediction_log(world: World) -> None:
    request = feedback_pb2.SendFeedbackRequest(items=[feedback_pb2.FeedbackItem(prediction_id="p", label="7")])
    answer = world.worker().ask("SendFeedback", request.SerializeToString())
    assert answer.code == "OK"
    assert [(item.prediction_id, item.label) for item in world.control.prediction_log.accepted] == [("p", "7")]


def test_statistics_are_fresh(world: World) -> None:
    (worker,) = world.deployed(1)
    arm = ArmCounts("digits", 1, "default", {"OK": 5}, rows=6)
    worker.telemetry = Telemetry(worker.hello.incarnation, (arm,), (), {}, 0, 0, {})
    answer = worker.ask("ModelStatistics", pb.ModelStatisticsRequest(name="digits").SerializeToString())
    (stats,) = pb.ModelStatisticsResponse.FromString(answer.body).model_stats
    assert (stats.name, stats.version, stats.inference_count) == ("digits", "1", 6)


def test_statistics_take_an_alias_for_a_version(world: World) -> None:
    (worker,) = world.deployed(1)
    request = pb.ModelStatisticsRequest(name="digits", version="latest")
    worker.ask("RepositoryIndex")
    assert worker.ask("ModelStatistics", request.SerializeToString(), token=2).code == "NOT_FOUND"  # v2 is not served


def test_the_index_names_what_is_held_and_what_is_not_served(world: World) -> None:
    (worker,) = world.deployed(1)
    world.register("idle")
    body = worker.ask("RepositoryIndex", pb.RepositoryIndexRequest().SerializeToString()).body
    index = [(m.name, m.version, m.state, m.reason) for m in pb.RepositoryIndexResponse.FromString(body).models]
    assert index == [("digits", "1", "READY", ""), ("idle", "1", "UNAVAILABLE", "not deployed")]


def test_the_index_of_what_is_ready_leaves_out_the_rest(world: World) -> None:
    (worker,) = world.deployed(1)
    world.register("idle")
    body = worker.ask("RepositoryIndex", pb.RepositoryIndexRequest(ready=True).SerializeToString()).body
    assert [model.name for model in pb.RepositoryIndexResponse.FromString(body).models] == ["digits"]


@pytest.mark.parametrize("field", ["model_name", "repository_name"])
def test_load_deploys_the_latest_version_in_both_dialects(world: World, field: str) -> None:
    worker = world.worker()
    world.register(), world.register()
    answer = worker.ask("RepositoryModelLoad", pb.RepositoryModelLoadRequest(**{field: "digits"}).SerializeToString())
    loaded = pb.RepositoryModelLoadResponse.FromString(answer.body)
    assert (loaded.model_name, loaded.is_loaded) == ("digits", True)
    assert worker.route_default == {"digits": 2}


def test_load_of_what_is_deployed_changes_nothing(world: World) -> None:
    (worker,) = world.deployed(1)
    worker.ask("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString())
    assert world.registry.deployment("digits").revision == 1


def test_unload_undeploys_and_load_brings_back(world: World) -> None:
    (worker,) = world.deployed(1)
    answer = worker.ask("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(repository_name="digits").SerializeToString())
    assert pb.RepositoryModelUnloadResponse.FromString(answer.body).is_unloaded
    assert worker.route_default == {}
    body = worker.ask("RepositoryIndex", token=3).body
    assert [model.state for model in pb.RepositoryIndexResponse.FromString(body).models] == ["UNAVAILABLE"]
    worker.ask("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString(), token=2)
    assert worker.route_default == {"digits": 2}


@pytest.mark.parametrize(
    ("method", "body", "code", "reason"),
    [
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="nope"), "NOT_FOUND", "MODEL_NOT_FOUND"),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="nope"), "NOT_FOUND", "MODEL_NOT_FOUND"),
        ("Nonsense", pb.ModelStatisticsRequest(), "UNIMPLEMENTED", "UNSUPPORTED"),
    ],
)
def test_errors_come_back_with_code_and_reason(world: World, method: str, body: object, code: str, reason: str) -> None:
    answer = world.worker().ask(method, body.SerializeToString())
    assert (answer.code, answer.reason) == (code, reason)


def test_bytes_that_are_no_request_are_refused(world: World) -> None:
    assert world.worker().ask("RepositoryIndex", b"\xff").code == "INVALID_ARGUMENT"


def test_an_unexpected_error_tells_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.control, "status", lambda: 1 / 0)
    answer = world.worker().ask("RepositoryIndex")
    assert (answer.code, answer.message) == ("INTERNAL", "internal error")
