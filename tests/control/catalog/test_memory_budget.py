"""A change that does not fit into the workers' memory is refused before anything loads, with figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from control_fakes import FakeWorker
from world import World

from gateway.control.catalog.memory_budget import LEAST_RESERVE_BYTES, MIB, Need, limit_of, weights_of
from gateway.control.changes.deployment_settings import DeploymentSettings
from gateway.errors import ForbiddenNow

Wait = Callable[..., object]


@pytest.mark.parametrize(
    ("budget", "machine", "limit"),
    [(5 * MIB, 100 * MIB, 5 * MIB), (0, 10_000 * MIB, 9_000 * MIB), (0, 1000 * MIB, 1000 * MIB - LEAST_RESERVE_BYTES)],
)
def test_the_budget_is_what_was_set_or_what_the_machine_has_without_a_reserve(budget: int, machine: int, limit: int) -> None:
    assert limit_of(budget, machine) == limit


def test_weights_that_versions_share_count_once() -> None:
    assert weights_of([Need(1, {"a": 10, "b": 5}), Need(1, {"a": 10})]) == {"a": 10, "b": 5}


def takes(worker: FakeWorker, private_bytes: int, wait_for: Wait) -> None:
    """The worker says that it takes so much."""
    telemetry = replace(worker.telemetry, private_bytes=private_bytes)
    worker.send(telemetry)
    fleet = worker.control.fleet
    wait_for(lambda: fleet.view().attached[worker.number].telemetry == telemetry)


@pytest.mark.parametrize("config", [{"memory_budget_bytes": 100 * MIB}])
def test_a_change_that_does_not_fit_is_refused_before_anything_loads(world: World, wait_for: Wait) -> None:
    first, second = world.deployed(2)
    takes(first, 50 * MIB, wait_for), takes(second, 50 * MIB, wait_for)
    with pytest.raises(ForbiddenNow, match=r"about 0 MiB are free.*--memory-budget.*--swap-order memory") as refusal:
        world.done(world.control.traffic.promote("digits", "2"))
    told = refusal.value.metadata
    assert (told["rule"], told["available_bytes"], told["budget_bytes"]) == ("memory", "0", str(100 * MIB))
    assert int(told["needed_bytes"]) > 0
    assert ("digits", 2) not in first.loaded
    assert world.registry.deployment("digits").default == 1


@pytest.mark.parametrize("config", [{"memory_budget_bytes": 100 * MIB}])
def test_what_is_loaded_already_needs_nothing_more(world: World, wait_for: Wait) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.promote("digits", "2"))
    takes(worker, 200 * MIB, wait_for)
    assert world.done(world.control.traffic.rollback("digits")).result.deployment.default == 1


@pytest.mark.parametrize("config", [{"memory_budget_bytes": 100 * MIB}])
def test_what_is_freed_first_makes_room(world: World, wait_for: Wait) -> None:
    (worker,) = world.deployed(1)
    worker.private_bytes = 40 * MIB
    world.done(world.control.traffic.configure("digits", DeploymentSettings(swap_order="memory")))
    worker.say_again()
    wait_for(lambda: world.control.fleet.view().attached[0].version("digits", 1).private_bytes)
    takes(worker, 100 * MIB, wait_for)
    assert world.done(world.control.traffic.promote("digits", "2")).result.deployment.default == 2


@pytest.mark.parametrize("config", [{"memory_budget_bytes": 100 * MIB}])
def test_what_does_not_even_fit_alone_does_not_cost_the_old_version(world: World, wait_for: Wait) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.traffic.configure("digits", DeploymentSettings(swap_order="memory")))
    takes(worker, 100 * MIB, wait_for)
    seen = len(worker.states)
    with pytest.raises(ForbiddenNow, match="nothing was changed") as refusal:
        world.done(world.control.traffic.promote("digits", "2"))
    assert "--swap-order" not in str(refusal.value)
    assert len(worker.states) == seen
