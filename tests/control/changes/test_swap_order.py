"""With the swap order `memory` the old version is freed before the new one is loaded, and comes back when that fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from control_fakes import FakeWorker
from world import World

from gateway.contract.desired import DesiredState
from gateway.control.changes.deployment_settings import DeploymentSettings
from gateway.control.desired.reconcile import ModelPlan, freed_first, held, route
from gateway.errors import ForbiddenNow
from registry.deployment import Deployment, Shadow
from registry.errors import RevisionConflict

Wait = Callable[..., object]
MEMORY = Deployment("m", 2, default=1, swap_order="memory")


def numbers(state: DesiredState) -> list[int]:
    return [version.number for model in state.models for version in model.versions]


def saving(world: World, workers: int = 1) -> list[FakeWorker]:
    """Version 1 is deployed with the swap order memory."""
    attached = world.deployed(workers)
    world.done(world.control.traffic.configure("digits", DeploymentSettings(swap_order="memory")))
    return attached


@pytest.mark.parametrize(
    ("plan", "deployment", "expected"),
    [
        (ModelPlan(MEMORY), replace(MEMORY, default=2), {1}),
        (ModelPlan(replace(MEMORY, swap_order="availability")), replace(MEMORY, default=2), set()),
        (ModelPlan(MEMORY), replace(MEMORY, shadow=Shadow(2)), set()),
        (ModelPlan(MEMORY), replace(MEMORY, default=None), set()),
        (ModelPlan(), MEMORY, set()),
        (ModelPlan(replace(MEMORY, shadow=Shadow(3))), replace(MEMORY, default=3), {1}),
        (ModelPlan(MEMORY, aliases={"old": 1}), replace(MEMORY, default=2), set()),
        (ModelPlan(MEMORY, on_demand=frozenset({1})), replace(MEMORY, default=2), set()),
    ],
)
def test_what_is_freed_first(plan: ModelPlan, deployment: Deployment, expected: set[int]) -> None:
    assert freed_first(plan, deployment) == expected


def test_what_is_freed_is_neither_held_nor_routed_to() -> None:
    plan = ModelPlan(MEMORY, freed=frozenset({1}))
    assert (held(plan), route(plan)) == ({}, None)


def test_no_worker_is_ever_told_to_hold_both(world: World) -> None:
    workers = saving(world, 2)
    seen = len(workers[0].states)
    done = world.done(world.control.traffic.promote("digits", "2"))
    for worker in workers:
        assert [numbers(state) for state in worker.states[seen:]] == [[], [2], [2]]
        assert worker.route_default == {"digits": 2}
    assert [step.name for step in done.steps] == ["freeing", "preparing", "committed", "acknowledged"]
    assert "v1 is freed" in workers[0].states[seen].models[0].unavailable


def test_no_predecessor_is_kept_warm_and_rollback_loads_it_again(world: World) -> None:
    (worker,) = saving(world)
    world.done(world.control.traffic.promote("digits", "2"))
    assert numbers(worker.states[-1]) == [2]
    done = world.done(world.control.traffic.rollback("digits"))
    assert done.steps[0].detail.startswith("v2 before v1 is loaded")
    assert worker.loaded == [("digits", 1), ("digits", 2), ("digits", 1)]


def test_a_load_that_fails_brings_the_old_version_back_and_says_so(world: World) -> None:
    (worker,) = saving(world)
    worker.failing[2] = "no memory"
    with pytest.raises(ForbiddenNow, match=r"no memory; v1 was freed before .*, and is loaded and serves again"):
        world.done(world.control.traffic.promote("digits", "2"))
    assert world.registry.deployment("digits").default == 1
    assert worker.route_default == {"digits": 1}


def test_a_write_that_is_refused_brings_the_old_version_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (worker,) = saving(world)

    def refuse(*_: object, **__: object) -> None:
        raise RevisionConflict("somebody was first")

    monkeypatch.setattr(world.registry, "commit", refuse)
    with pytest.raises(RevisionConflict, match="somebody was first; v1 was freed"):
        world.done(world.control.traffic.promote("digits", "2"))
    assert worker.route_default == {"digits": 1}


def test_a_damaged_version_does_not_cost_the_old_one(world: World) -> None:
    (worker,) = saving(world)
    seen = len(worker.states)
    path = world.registry.artifact_path(world.registry.version("digits", 2))
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Exception, match="SHA-256"):
        world.done(world.control.traffic.promote("digits", "2"))
    assert all(numbers(state) == [1] for state in worker.states[seen:])


def test_what_is_loaded_everywhere_already_replaces_the_old_version_without_a_gap(world: World) -> None:
    (worker,) = saving(world)
    world.done(world.control.traffic.split("digits", {"1": 50, "2": 50}))
    seen = len(worker.states)
    world.done(world.control.traffic.promote("digits", "2"))
    assert all(state.models[0].route for state in worker.states[seen:])


def test_control_that_dies_between_freeing_and_loading_leaves_the_old_deployment(
    world: World, make_world: Callable[..., World], wait_for: Wait
) -> None:
    (worker,) = saving(world)
    worker.gate.clear()
    world.control.traffic.promote("digits", "2")
    wait_for(lambda: numbers(worker.states[-1]) == [2])
    again = make_world()  # reads what the dead one left
    assert numbers(again.control.desired.state()) == [1]
    assert again.control.desired.state().models[0].route.default == 1
