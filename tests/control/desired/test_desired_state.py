"""The desired state over time: on disk, over a restart of control, over the rollback window."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from control_fakes import SetClock
from world import World

from gateway.contract.desired import DesiredState
from registry.deployment import promoted

Make = Callable[..., World]


def numbers(state: DesiredState) -> list[int]:
    return [version.number for model in state.models for version in model.versions]


def on_disk(world: World) -> DesiredState:
    return msgspec.json.decode(world.control.home.desired_state.read_bytes(), type=DesiredState)


def test_the_last_state_is_on_disk(world: World) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    assert on_disk(world) == worker.states[-1] == world.control.desired.state()
    assert on_disk(world).models[0].route.default == 2


def test_a_restart_wants_the_same_with_a_higher_revision(world: World, make_world: Make) -> None:
    world.deployed(1)
    world.register()
    world.done(world.control.traffic.split("digits", {"1": 70, "2": 30}))
    world.done(world.control.traffic.shadow("digits", "3"))
    before = world.control.desired.state()
    world.control.stop()
    after = make_world().control.desired.state()
    assert after.models == before.models
    assert after.revision > before.revision


def test_the_revision_grows_even_when_the_clock_was_set_back(make_world: Make) -> None:
    clock = SetClock()
    first = make_world(clock=clock).control
    first.stop()
    clock.time -= 3600
    assert make_world(clock=clock).control.desired.state().revision > first.desired.state().revision


def test_a_worker_that_attaches_gets_the_whole_state(world: World) -> None:
    world.deployed(1)
    assert world.worker(1).states[0] == world.control.desired.state()


def test_the_predecessor_is_let_go_when_the_rollback_window_is_over(make_world: Make) -> None:
    clock = SetClock()
    world = make_world(clock=clock)
    world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    clock.advance(3599)
    world.control.tick()
    assert numbers(world.control.desired.state()) == [1, 2]
    clock.advance(2)
    world.control.tick()
    assert numbers(world.control.desired.state()) == [2]


def test_a_step_of_the_clock_neither_ends_the_rollback_window_nor_lengthens_it(make_world: Make) -> None:
    clock = SetClock()
    world = make_world(clock=clock)
    world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    clock.time += 7200
    world.control.tick()
    assert numbers(world.control.desired.state()) == [1, 2]
    clock.time -= 14_400
    clock.advance(3601)
    world.control.tick()
    assert numbers(world.control.desired.state()) == [2]


def test_rollback_after_the_window_loads_first(make_world: Make) -> None:
    clock = SetClock()
    world = make_world(clock=clock)
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    clock.advance(4000)
    world.control.tick()
    world.done(world.control.traffic.rollback("digits"))
    assert worker.loaded == [("digits", 1), ("digits", 2), ("digits", 1)]
    assert worker.route_default == {"digits": 1}


def test_what_another_process_deployed_is_taken_in(world: World, wait_for: Callable[..., object]) -> None:
    (worker,) = world.deployed(1)
    world.registry.commit(promoted(world.registry.deployment("digits"), 2), expected_revision=1)
    world.control.desired.refresh()
    world.control.desired.publish()
    wait_for(lambda: worker.route_default == {"digits": 2})


def test_a_damaged_artifact_stops_only_its_own_model(world: World, make_world: Make) -> None:
    world.deployed(1)
    world.register("other")
    world.done(world.control.traffic.deploy("other", "1"))
    world.registry.artifact_path(world.registry.version("digits", 1)).unlink()
    world.control.stop()
    state = make_world().control.desired.state()
    assert {model.name: [version.path == "" for version in model.versions] for model in state.models} == {
        "digits": [True],
        "other": [False],
    }


def test_a_state_that_could_not_be_written_is_written_once_it_can_be(world: World) -> None:
    world.deployed(1)
    in_the_way = world.control.home.desired_state.with_suffix(".tmp")
    in_the_way.mkdir()  # nothing can be written there
    world.done(world.control.traffic.promote("digits", "2"))
    assert on_disk(world) != world.control.desired.state()
    in_the_way.rmdir()
    world.control.tick()
    assert on_disk(world) == world.control.desired.state()
