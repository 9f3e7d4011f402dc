"""Deploy, promote and rollback over several workers: nothing changes before all are ready, and nothing half-way remains."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from control_fakes import FakeWorker
from world import World

from gateway.contract.desired import DesiredState
from gateway.errors import DeadlinePassed, ForbiddenNow, NotReady
from registry.errors import VersionUnknown

Wait = Callable[..., object]


def held(state: DesiredState, model: str = "digits") -> list[int]:
    return [version.number for one in state.models if one.name == model for version in one.versions]


def test_a_first_deployment_reaches_every_worker(world: World) -> None:
    first, second = world.worker(0), world.worker(1)
    world.register()
    done = world.done(world.control.traffic.deploy("digits", "1"))
    assert (done.result.deployment.default, done.result.missing) == (1, ())
    assert first.route_default == second.route_default == {"digits": 1}
    assert [step.name for step in done.steps] == ["preparing", "committed", "acknowledged"]


def test_no_route_changes_and_nothing_is_committed_before_every_worker_is_ready(world: World, wait_for: Wait) -> None:
    quick, slow = world.deployed(2)
    slow.gate.clear()
    operation = world.control.traffic.promote("digits", "2")
    wait_for(lambda: ("digits", 2) in quick.loaded)
    assert world.registry.deployment("digits").default == 1
    assert held(quick.states[-1]) == [1, 2]
    assert quick.states[-1].models[0].route.default == 1
    slow.gate.set()
    world.done(operation)
    assert world.registry.deployment("digits").default == 2
    assert quick.route_default == slow.route_default == {"digits": 2}


def test_a_load_that_fails_in_one_worker_changes_nothing_and_says_why(world: World) -> None:
    good, bad = world.deployed(2)
    bad.failing[2] = "not enough memory for its weights"
    with pytest.raises(ForbiddenNow, match=r"nothing was changed: worker 1 could not load digits v2: not enough memory"):
        world.done(world.control.traffic.promote("digits", "2"))
    assert world.registry.deployment("digits").revision == 1
    assert good.route_default == bad.route_default == {"digits": 1}


def test_what_failed_is_let_go_and_tried_again_when_asked_again(world: World) -> None:
    good, bad = world.deployed(2)
    bad.failing[2] = "no memory"
    with pytest.raises(ForbiddenNow):
        world.done(world.control.traffic.promote("digits", "2"))
    assert [held(worker.states[-1]) for worker in (good, bad)] == [[1], [1]]
    del bad.failing[2]
    world.done(world.control.traffic.promote("digits", "2"))
    assert bad.loaded.count(("digits", 2)) == 2
    assert bad.route_default == {"digits": 2}


def test_a_failed_change_ends_when_every_worker_has_let_go(world: World, wait_for: Wait) -> None:
    _, bad = world.deployed(2)
    bad.failing[2] = "no memory"
    may_let_go = threading.Event()
    bad.dies_at = lambda state: ("digits", 2) in bad.loaded and not may_let_go.wait(20)
    operation = world.control.traffic.promote("digits", "2")
    wait_for(lambda: ("digits", 2) in bad.loaded)
    wait_for(lambda: held(world.control.desired.state()) == [1])
    world.control.fleet.wait(lambda _: world.control.operations.get(operation.name).is_done, 0.2)
    assert not world.control.operations.get(operation.name).is_done
    may_let_go.set()
    with pytest.raises(ForbiddenNow):
        world.done(operation)


def test_without_a_worker_nothing_is_deployed(world: World) -> None:
    world.register()
    with pytest.raises(NotReady, match="no worker is attached"):
        world.done(world.control.traffic.deploy("digits", "1"))
    assert world.registry.deployment("digits") is None


@pytest.mark.parametrize("config", [{"load_timeout_s": 0.2, "workers": 2}])
def test_a_version_that_is_not_ready_in_time_changes_nothing(world: World, wait_for: Wait) -> None:
    _, slow = world.deployed(2)
    slow.gate.clear()
    operation = world.control.traffic.promote("digits", "2")
    wait_for(lambda: world.control.operations.get(operation.name).steps)
    wait_for(lambda: held(world.control.desired.state()) == [1])
    slow.gate.set()
    with pytest.raises(DeadlinePassed, match=r"within 0.2 s: worker 1: digits v2 is LOADING"):
        world.done(operation)
    assert world.registry.deployment("digits").revision == 1


def test_a_worker_that_dies_after_the_commit_is_named_and_the_change_stands(world: World) -> None:
    good, dying = world.deployed(2)
    dying.dies_at = lambda state: state.models[0].route.default == 2
    done = world.done(world.control.traffic.promote("digits", "2"))
    assert done.result.missing == ("worker 1 is restarting and will catch up",)
    assert good.route_default == {"digits": 2}
    back = world.worker(1)
    world.control.fleet.wait(lambda _: back.route_default == {"digits": 2}, 10)
    assert back.route_default == {"digits": 2}


def test_a_worker_that_dies_while_it_prepares_is_waited_for(world: World, wait_for: Wait) -> None:
    good, dying = world.deployed(2)
    dying.dies_at = lambda state: 2 in held(state)
    operation = world.control.traffic.promote("digits", "2")
    wait_for(lambda: 1 not in world.control.fleet.view().attached and ("digits", 2) in good.loaded)
    assert not world.control.operations.get(operation.name).is_done
    back = world.worker(1)
    assert world.done(operation).result.missing == ()
    assert back.route_default == {"digits": 2}


def test_a_version_that_kills_a_worker_twice_is_refused(world: World, wait_for: Wait) -> None:
    _, dying = world.deployed(2)
    dying.dies_at = lambda state: 2 in held(state)
    operation = world.control.traffic.promote("digits", "2")
    wait_for(lambda: 1 not in world.control.fleet.view().attached)
    FakeWorker(world.control, 1, dies_at=lambda state: 2 in held(state), is_awaited=False)
    with pytest.raises(ForbiddenNow, match="worker 1 stopped 2 times while it prepared digits v2"):
        world.done(operation)
    assert world.registry.deployment("digits").default == 1


@pytest.mark.parametrize("config", [{"acknowledge_timeout_s": 0.2}])
def test_a_worker_that_says_nothing_is_reported_as_late(world: World) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    worker.is_silent = True
    done = world.done(world.control.traffic.rollback("digits"))
    assert done.result.missing == ("worker 0 has not put it in force yet",)


def test_rollback_restores_the_default_without_loading(world: World) -> None:
    workers = world.deployed(2)
    world.done(world.control.traffic.promote("digits", "2"))
    loads = [list(worker.loaded) for worker in workers]
    done = world.done(world.control.traffic.rollback("digits"))
    assert done.result.deployment.default == 1
    assert [worker.route_default for worker in workers] == [{"digits": 1}] * 2
    assert [worker.loaded for worker in workers] == loads


def test_rollback_restores_split_and_shadow_whole(world: World) -> None:
    world.deployed(1)
    world.register()
    world.done(world.control.traffic.split("digits", {"1": 70, "2": 30}))
    world.done(world.control.traffic.shadow("digits", "3", percent=50))
    before = world.registry.deployment("digits")
    world.done(world.control.traffic.promote("digits", "2"))
    after = world.done(world.control.traffic.rollback("digits")).result.deployment
    assert (after.weights(), after.shadow, after.salt) == (before.weights(), before.shadow, before.salt)


def test_without_an_earlier_deployment_there_is_no_rollback(world: World) -> None:
    world.deployed(1)
    with pytest.raises(ForbiddenNow, match="no earlier deployment"):
        world.done(world.control.traffic.rollback("digits"))


def test_rollback_after_undeploy_restores_what_was_served(world: World) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.undeploy("digits"))
    assert worker.route_default == {}
    world.done(world.control.traffic.rollback("digits"))
    assert worker.route_default == {"digits": 1}


def test_a_change_that_control_stops_under_says_so(world: World, wait_for: Wait) -> None:
    (worker,) = world.deployed(1)
    worker.gate.clear()
    operation = world.control.traffic.promote("digits", "2")
    wait_for(lambda: world.control.operations.get(operation.name).steps)
    world.control.stop()
    with pytest.raises(NotReady, match="nothing was changed: control is stopping"):
        world.done(operation)
    with pytest.raises(NotReady, match="control is stopping"):
        world.control.traffic.rollback("digits")


def test_a_split_needs_every_candidate_ready(world: World) -> None:
    (worker,) = world.deployed(1)
    worker.failing[2] = "broken"
    with pytest.raises(ForbiddenNow, match="v2: broken"):
        world.done(world.control.traffic.split("digits", {"1": 70, "2": 30}))
    assert world.registry.deployment("digits").segments == ()


def test_operations_on_one_model_come_one_after_the_other(world: World, wait_for: Wait) -> None:
    (worker,) = world.deployed(1)
    worker.gate.clear()
    first = world.control.traffic.promote("digits", "2")
    second = world.control.traffic.rollback("digits")
    wait_for(lambda: world.control.operations.get(second.name).steps)
    assert [step.name for step in world.control.operations.get(second.name).steps] == ["waiting"]
    worker.gate.set()
    world.done(first)
    assert world.done(second).result.deployment.default == 1


def test_an_unknown_version_is_refused(world: World) -> None:
    world.deployed(1)
    with pytest.raises(VersionUnknown, match="9"):
        world.done(world.control.traffic.promote("digits", "9"))
