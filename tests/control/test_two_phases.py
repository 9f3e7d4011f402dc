"""Deploy, promote and rollback over several workers: nothing changes before all are ready, and nothing half-way remains."""

from __future__ import annotations

import time

from conftest import World


def test_a_first_deployment_reaches_every_worker(world: World) -> None:
    first, second = world.worker(0), world.worker(1)
    world.register()
    done = world.done(world.control.traffic.deploy("digits", "1"))
    assert (done.result.deployment.default, done.result.missing) == (1, ())
    assert first.route_default == second.route_default == {"digits": 1}
    assert [step.name for step in done.steps] == ["preparing", "committed", "acknowledged"]


def test_rollback_restores_the_default_without_loading(world: World) -> None:
    worker = world.worker(0)
    world.register(), world.register()
    world.done(world.control.traffic.deploy("digits", "1"))
    world.done(world.control.traffic.promote("digits", "2"))
    loads = list(worker.loaded)
    durations = []
    for _ in range(1):
        start = time.perf_counter()
        world.done(world.control.traffic.rollback("digits"))
        durations.append(time.perf_counter() - start)
    print("rollback", durations)
    assert worker.route_default == {"digits": 1}
    assert worker.loaded == loads
