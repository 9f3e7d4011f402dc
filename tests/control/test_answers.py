"""What a worker asks control, and what it is answered."""

from __future__ import annotations

import pytest
from control_fakes import FakeLog, told
from world import World

from gateway.contract.counts import ArmCounts, Telemetry
from gateway.contract.feedback import Feedback
from gateway.contract.questions import (
    AnyQuestion,
    Done,
    FeedbackQuestion,
    IndexQuestion,
    LoadModelQuestion,
    StatisticsQuestion,
    UnloadModelQuestion,
)
from gateway.control.answers import MAX_FEEDBACK_ITEMS
from gateway.control.changes.deployment_settings import DeploymentSettings


@pytest.mark.parametrize("config", [{"log": FakeLog()}])
def test_ground_truth_goes_to_the_prediction_log(world: World) -> None:
    answer = world.worker().ask(FeedbackQuestion((Feedback(prediction_id="p", label="7"),)))
    assert told(answer)[0] == "OK"
    assert [(item.prediction_id, item.label) for item in world.control.prediction_log.accepted] == [("p", "7")]


def test_too_many_items_of_ground_truth_are_refused(world: World) -> None:
    answer = world.worker().ask(FeedbackQuestion((Feedback(label="x"),) * (MAX_FEEDBACK_ITEMS + 1)))
    assert told(answer) == ("INVALID_ARGUMENT", "INVALID_REQUEST", "items: at most 10000 a request, got 10001")


def test_statistics_are_fresh(world: World) -> None:
    (worker,) = world.deployed(1)
    arm = ArmCounts("digits", 1, "default", {"OK": 5}, rows=6)
    worker.telemetry = Telemetry(worker.hello.incarnation, (arm,), (), {}, 0, 0, {})
    (statistics,) = worker.ask(StatisticsQuestion("digits")).value.versions
    assert (statistics.model, statistics.version, statistics.counts.rows) == ("digits", 1, 6)


@pytest.mark.parametrize("version", ["1", "01", "0000001", "v1"])
def test_statistics_take_a_number_in_any_spelling(world: World, version: str) -> None:
    (worker,) = world.deployed(1)
    (statistics,) = worker.ask(StatisticsQuestion("digits", version)).value.versions
    assert statistics.version == 1


def test_statistics_take_an_alias_for_a_version(world: World) -> None:
    (worker,) = world.deployed(1)
    world.register()
    answer = worker.ask(StatisticsQuestion("digits", "latest"), token=2)
    assert told(answer)[0] == "NOT_FOUND"  # v2 is not served


@pytest.mark.parametrize("version", ["²", "٣", "+1", "0", "9" * 40, "nobody"])
def test_statistics_of_what_is_no_version_are_not_found(world: World, version: str) -> None:
    (worker,) = world.deployed(1)
    assert told(worker.ask(StatisticsQuestion("digits", version)))[0] == "NOT_FOUND"


def test_the_index_names_loaded_versions_and_models_that_are_not_served(world: World) -> None:
    (worker,) = world.deployed(1)
    world.register("idle")
    entries = worker.ask(IndexQuestion()).value.entries
    index = [(one.model, one.version, one.state, one.reason) for one in entries]
    assert index == [("digits", 1, "READY", ""), ("idle", 1, "UNAVAILABLE", "not deployed")]


def test_the_index_of_ready_versions_leaves_out_the_rest(world: World) -> None:
    (worker,) = world.deployed(1)
    world.register("idle")
    assert [one.model for one in worker.ask(IndexQuestion(is_ready=True)).value.entries] == ["digits"]


def test_load_deploys_the_latest_version(world: World) -> None:
    worker = world.worker()
    world.register(), world.register()
    assert worker.ask(LoadModelQuestion("digits")).value == Done("digits")
    assert worker.route_default == {"digits": 2}


def test_load_of_what_is_deployed_changes_nothing(world: World) -> None:
    worker = world.worker()
    world.register()
    for token in (1, 2):
        assert worker.ask(LoadModelQuestion("digits"), token=token).value == Done("digits")
    assert world.registry.deployment("digits").revision == 1


def test_load_promotes_a_version_that_is_newer_than_the_default(world: World) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.configure("digits", DeploymentSettings(rollback_window_s=7.0)))
    assert worker.ask(LoadModelQuestion("digits")).value == Done("digits")
    assert worker.route_default == {"digits": 2}
    assert world.registry.deployment("digits").rollback_window_s == 7.0


def test_load_does_not_bring_back_what_was_taken_away(world: World) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    world.done(world.control.traffic.rollback("digits"))
    code, _, text = told(worker.ask(LoadModelQuestion("digits")))
    assert code == "FAILED_PRECONDITION"
    assert text == (
        "digits v2 is the newest version, but revision 2 had it, and revision 3 (rollback to 1) serves v1 instead: "
        "promote v2 to have it serve"
    )
    assert worker.route_default == {"digits": 1}
    world.register()
    worker.ask(LoadModelQuestion("digits"), token=2)
    assert worker.route_default == {"digits": 3}


@pytest.mark.parametrize("kind", ["split", "shadow"])
def test_load_does_not_end_an_experiment(world: World, kind: str) -> None:
    (worker,) = world.deployed(1)
    traffic = world.control.traffic
    world.done(traffic.split("digits", {"1": 90, "2": 10}) if kind == "split" else traffic.shadow("digits", "2"))
    code, _, text = told(worker.ask(LoadModelQuestion("digits")))
    assert (code, f"does not end a {kind}: promote v2" in text) == ("FAILED_PRECONDITION", True)
    assert worker.route_default == {"digits": 1}


def test_unload_undeploys_and_load_brings_back(world: World) -> None:
    (worker,) = world.deployed(1)
    assert worker.ask(UnloadModelQuestion("digits")).value == Done("digits")
    assert worker.route_default == {}
    assert [one.state for one in worker.ask(IndexQuestion(), token=3).value.entries] == ["UNAVAILABLE"]
    worker.ask(LoadModelQuestion("digits"), token=2)
    assert worker.route_default == {"digits": 2}


@pytest.mark.parametrize(
    ("question", "code", "reason"),
    [
        (LoadModelQuestion("nope"), "NOT_FOUND", "MODEL_NOT_FOUND"),
        (UnloadModelQuestion(""), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (StatisticsQuestion("nope"), "NOT_FOUND", "MODEL_NOT_FOUND"),
    ],
)
def test_errors_come_back_with_code_and_reason(world: World, question: AnyQuestion, code: str, reason: str) -> None:
    assert told(world.worker().ask(question))[:2] == (code, reason)


def test_an_unexpected_error_tells_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.control, "status", lambda: 1 / 0)
    assert told(world.worker().ask(IndexQuestion())) == ("INTERNAL", "INTERNAL", "internal error")
