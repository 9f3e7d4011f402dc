"""A change succeeds only if it is served. A version that has failed is loaded again, or its reason refuses the change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from control_fakes import FakeWorker, told
from world import World

from gateway.contract.questions import Done, LoadModelQuestion
from gateway.control.changes.deployment_settings import BatchingChange, DeploymentSettings
from gateway.control.changes.operations import Operation
from gateway.errors import ForbiddenNow

Begin = Callable[[World], Operation]
CHANGES: dict[str, Begin] = {
    "deploy": lambda world: world.control.traffic.deploy("digits", "1"),
    "promote": lambda world: world.control.traffic.promote("digits", "1"),
    "the same split": lambda world: world.control.traffic.split("digits", {"1": 100}),
    "another split": lambda world: world.control.traffic.split("digits", {"1": 50, "2": 50}),
    "shadow": lambda world: world.control.traffic.shadow("digits", "2"),
    "configure": lambda world: world.control.traffic.configure(
        "digits", DeploymentSettings(BatchingChange(queue_delay_us=7), rollback_window_s=9.0)
    ),
    "configure nothing": lambda world: world.control.traffic.configure("digits", DeploymentSettings()),
}


@pytest.fixture
def failed(world: World) -> FakeWorker:
    """The only worker, in which the deployed version 1 has failed."""
    (worker,) = world.deployed(1)
    worker.leave()
    world.workers.append(FakeWorker(world.control, 0, failing={1: "its file is cut off"}))
    return world.workers[-1]


@pytest.mark.parametrize("begin", CHANGES.values(), ids=CHANGES)
def test_a_change_is_refused_with_the_workers_reason_and_writes_nothing(world: World, failed: FakeWorker, begin: Begin) -> None:
    with pytest.raises(ForbiddenNow, match="worker 0 could not load digits v1: its file is cut off"):
        world.done(begin(world))
    assert world.registry.deployment("digits").revision == 1


@pytest.mark.parametrize("begin", CHANGES.values(), ids=CHANGES)
def test_a_change_loads_again_what_can_be_loaded_now(world: World, failed: FakeWorker, begin: Begin) -> None:
    failed.failing.clear()
    assert world.done(begin(world)).result.missing == ()
    assert failed.route_default == {"digits": 1}


def test_settings_with_which_a_version_cannot_be_loaded_are_not_written(world: World) -> None:
    good, bad = world.deployed(2)
    bad.failing[1] = "no memory"
    with pytest.raises(ForbiddenNow, match="worker 1 could not load digits v1: no memory"):
        world.done(CHANGES["configure"](world))
    assert world.registry.deployment("digits").revision == 1
    assert {version.batching.queue_delay_us for model in good.states[-1].models for version in model.versions} == {0}


def test_away_from_what_failed_a_change_needs_only_its_own_version(world: World, failed: FakeWorker) -> None:
    world.done(world.control.traffic.promote("digits", "2"))
    assert failed.route_default == {"digits": 2}


def test_a_load_over_the_data_port_is_refused_with_the_reason_or_loads_again(world: World, failed: FakeWorker) -> None:
    failed.failing[2] = "its file is cut off"  # the newest, which a load asks for
    answer = failed.ask(LoadModelQuestion("digits"))
    assert told(answer)[0] == "FAILED_PRECONDITION"
    assert "its file is cut off" in told(answer)[2]
    failed.failing.clear()
    assert failed.ask(LoadModelQuestion("digits"), token=2).value == Done("digits")
    assert failed.route_default == {"digits": 2}


def test_a_load_of_the_default_that_failed_loads_it_again(world: World) -> None:
    world.register()
    worker = world.worker()
    world.done(world.control.traffic.deploy("digits", "1"))
    worker.leave()
    world.workers.append(FakeWorker(world.control, 0, failing={1: "its file is cut off"}))
    failed = world.workers[-1]
    answer = failed.ask(LoadModelQuestion("digits"))
    assert told(answer)[0] == "FAILED_PRECONDITION"
    failed.failing.clear()
    assert failed.ask(LoadModelQuestion("digits"), token=2).value == Done("digits")
    assert failed.route_default == {"digits": 1}
