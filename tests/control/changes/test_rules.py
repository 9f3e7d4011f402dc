"""What is refused before anything is prepared, and what a repeat gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from control_fakes import FakeLog
from world import World

from gateway.control.changes.deployment_settings import BatchingChange, DeploymentSettings
from gateway.control.changes.traffic import Change
from gateway.errors import ForbiddenNow
from gateway.quality.vocabulary import Vocabulary
from registry.deployment import Batching
from registry.errors import InvalidValue, RequestReplayed, RevisionConflict


def test_a_version_that_would_break_callers_is_refused_and_names_the_way_out(world: World) -> None:
    (worker,) = world.deployed(1)
    number = world.register(columns=5).number
    with pytest.raises(ForbiddenNow, match=r"input 'x' takes shape \[-1, 5\].*--force") as caught:
        world.done(world.control.traffic.promote("digits", str(number)))
    assert caught.value.metadata["rule"] == "compatible_signature"
    assert ("digits", number) not in worker.loaded


def test_force_deploys_it_all_the_same(world: World) -> None:
    (worker,) = world.deployed(1)
    number = world.register(columns=5).number
    world.done(world.control.traffic.promote("digits", str(number), force=True))
    assert worker.route_default == {"digits": number}


def test_a_stale_etag_is_refused(world: World) -> None:
    world.deployed(1)
    stale = world.registry.deployment("digits").etag
    world.done(world.control.traffic.promote("digits", "2"))
    with pytest.raises(RevisionConflict, match="etag"):
        world.done(world.control.traffic.promote("digits", "1", change=Change(etag=stale)))


def test_a_repeated_request_gets_the_first_answer(world: World) -> None:
    world.deployed(1)
    change = Change(request_id="r1", author="ann", reason="better")
    first = world.done(world.control.traffic.promote("digits", "2", change=change))
    again = world.done(world.control.traffic.promote("digits", "2", change=change))
    assert again == first
    assert world.registry.deployment("digits").revision == 2


def test_a_repeated_request_gets_the_first_answer_after_a_restart_too(world: World, make_world: Callable[..., World]) -> None:
    world.deployed(1)
    change = Change(request_id="r1", etag=world.registry.deployment("digits").etag)
    first = world.done(world.control.traffic.promote("digits", "2", change=change))
    world.control.stop()
    other = make_world()
    other.worker()
    other.done(other.control.traffic.rollback("digits"))
    again = other.done(other.control.traffic.promote("digits", "2", change=change))
    assert again.result.deployment == first.result.deployment
    assert other.registry.deployment("digits").default == 1


def test_a_request_id_with_other_content_is_refused(world: World) -> None:
    world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2", change=Change(request_id="r1")))
    with pytest.raises(RequestReplayed):
        world.control.traffic.promote("digits", "1", change=Change(request_id="r1"))


def test_a_failed_request_may_be_repeated(world: World) -> None:
    (worker,) = world.deployed(1)
    worker.failing[2] = "no memory"
    change = Change(request_id="r1")
    with pytest.raises(ForbiddenNow):
        world.done(world.control.traffic.promote("digits", "2", change=change))
    worker.failing.clear()
    assert world.done(world.control.traffic.promote("digits", "2", change=change)).result.deployment.default == 2


def test_author_and_reason_go_into_the_audit(world: World) -> None:
    world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2", change=Change(author="ann", reason="better")))
    record = world.registry.audit("digits")[0][0]
    assert (record.verb, record.author, record.reason) == ("promote", "ann", "better")


@pytest.mark.parametrize("verb", ["promote", "deploy"])
def test_what_is_served_already_makes_no_revision_so_that_rollback_still_goes_back(world: World, verb: str) -> None:
    world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    again = world.done(getattr(world.control.traffic, verb)("digits", "2"))
    assert again.result.deployment.revision == 2
    assert world.done(world.control.traffic.rollback("digits")).result.deployment.default == 1


def test_the_same_split_again_makes_no_revision(world: World) -> None:
    world.deployed(1)
    for _ in range(2):
        done = world.done(world.control.traffic.split("digits", {"1": 70, "2": 30}))
    assert done.result.deployment.revision == 2


def test_weights_that_do_not_sum_to_a_hundred_are_refused(world: World) -> None:
    world.deployed(1)
    with pytest.raises(InvalidValue, match="sum to 100"):
        world.done(world.control.traffic.split("digits", {"1": 70, "2": 20}))


def test_a_version_named_twice_in_a_split_is_refused(world: World) -> None:
    world.deployed(1)
    with pytest.raises(InvalidValue, match="there already"):
        world.done(world.control.traffic.split("digits", {"2": 70, "latest": 30}))


def test_settings_that_are_not_named_stay(world: World) -> None:
    (worker,) = world.deployed(1)
    settings = DeploymentSettings(BatchingChange(max_rows=8, queue_delay_us=100))
    made = world.done(world.control.traffic.configure("digits", settings)).result.deployment
    assert (made.batching, made.rollback_window_s) == (Batching("auto", 8, 100), 3600.0)
    assert worker.states[-1].models[0].versions[0].batching == Batching("auto", 8, 100)


def test_what_is_not_deployed_cannot_be_promoted(world: World) -> None:
    world.register()
    with pytest.raises(ForbiddenNow, match="deploy a version before you promote"):
        world.done(world.control.traffic.promote("digits", "1"))


def test_the_classes_of_a_version_reach_the_prediction_log(make_world: Callable[..., World]) -> None:
    log = FakeLog()
    world = make_world(log=log)
    world.worker()
    world.register(classes=("a", "b", "c"))
    world.done(world.control.traffic.deploy("digits", "1"))
    world.control.fresh_predictions()
    assert log.vocabularies == {("digits", 1): Vocabulary("", ("a", "b", "c"), 3)}
