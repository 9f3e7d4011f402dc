"""A rolling restart as an operation: what the supervisor tells becomes its steps, its result, its error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from control_fakes import SetClock
from world import World

from gateway.control.changes.operations import Operation, Operations, Request, Result
from gateway.control.changes.rolling_restart import Restarts
from gateway.control.changes.traffic import Change
from gateway.errors import DeadlinePassed, ForbiddenNow, GatewayError, NotReady
from gateway.process.rolling_messages import RestartNews

Wait = Callable[..., object]
BY_ANN = Change("", "", "ann", "")


class Bench:
    def __init__(self, world: World, *, is_supervised: bool = True) -> None:
        self.asked = 0
        self.operations = Operations(SetClock(), history=10)
        self.restarts = Restarts(
            world.control.settings,
            world.control.limits,
            self.operations,
            world.control.fleet,
            self._ask if is_supervised else None,
        )

    def _ask(self) -> None:
        self.asked += 1

    def hear(self, *news: RestartNews) -> None:
        for each in news:
            self.restarts.heard(each)

    def error(self, operation: Operation) -> Exception | None:
        return self.operations.wait(operation.name).error


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


def test_the_steps_name_worker_and_processes(bench: Bench, world: World) -> None:
    world.worker(0)  # its pid is 1000
    operation = bench.restarts.restart(Change("", "", "ann", "new library"))
    for state in ("starting", "leaving", "replaced"):
        bench.hear(RestartNews(state, 0, 1000, 7, 1, 1))
    bench.hear(RestartNews("done", count=1, replaced=(0,)))
    done = bench.operations.wait(operation.name)
    assert bench.asked == 1
    assert [(step.name, step.detail) for step in done.steps] == [
        ("asked", "by ann: new library"),
        ("starting", "worker 0 (1 of 1): its replacement, pid 1000, starts"),
        ("leaving", "worker 0: pid 1000 serves, pid 7 ends its calls"),
        ("replaced", "worker 0 (1 of 1): pid 1000 in place of 7"),
    ]
    assert (done.result.workers, done.result.missing, done.error) == ((0,), (), None)


@pytest.mark.parametrize("config", [{"acknowledge_timeout_s": 0.1}])
def test_a_replacement_that_control_has_not_seen_is_missing(bench: Bench, world: World) -> None:
    world.worker(0)
    operation = bench.restarts.restart(BY_ANN)
    bench.hear(RestartNews("replaced", 0, 4711, 1000, 1, 1), RestartNews("done", count=1, replaced=(0,)))
    assert bench.operations.wait(operation.name).result.missing == ("worker 0 has not attached yet",)


def test_a_failure_says_why_and_how_far_it_came(bench: Bench) -> None:
    operation = bench.restarts.restart(BY_ANN)
    bench.hear(RestartNews("failed", count=3, replaced=(0, 1), reason="worker 2 serves on"))
    error = bench.error(operation)
    assert isinstance(error, ForbiddenNow)
    assert str(error) == "worker 2 serves on (replaced before: 0, 1 of 3)"


def test_a_second_restart_is_refused_naming_the_first_until_that_is_over(bench: Bench) -> None:
    first = bench.restarts.restart(BY_ANN)
    with pytest.raises(ForbiddenNow, match=first.name):
        bench.restarts.restart(BY_ANN)
    bench.hear(RestartNews("done", count=1))
    assert bench.error(first) is None
    second = bench.restarts.restart(BY_ANN)
    bench.hear(RestartNews("done", count=1))
    assert (bench.error(second), bench.asked) == (None, 2)


def test_a_repeated_request_is_the_same_restart(bench: Bench) -> None:
    change = Change("", "nightly-7", "ann", "")
    first = bench.restarts.restart(change)
    assert bench.restarts.restart(change).name == first.name
    bench.hear(RestartNews("done", count=1))
    assert bench.error(first) is None
    assert (bench.restarts.restart(change).name, bench.asked) == (first.name, 1)


def test_a_restart_that_others_asked_for_is_an_operation_too(bench: Bench) -> None:
    bench.hear(RestartNews("starting", 0, 1000, 7, 1, 1), RestartNews("done", count=1, replaced=(0,)))
    (operation,) = bench.operations.newest_first()
    assert bench.error(operation) is None
    assert (operation.verb, bench.asked) == ("restart", 0)


def test_one_that_was_forgotten_is_over(bench: Bench) -> None:
    first = bench.restarts.restart(BY_ANN)
    bench.hear(RestartNews("done", count=1))
    assert bench.error(first) is None
    for _ in range(11):
        bench.operations.wait(bench.operations.start(Request("promote", "m"), lambda note: Result()).name)
    assert bench.restarts.restart(BY_ANN).name != first.name
    bench.restarts.stop()


@pytest.mark.parametrize("config", [{"replace_timeout_s": 0.05}])
def test_a_supervisor_that_says_nothing_is_not_waited_for_without_end(bench: Bench) -> None:
    assert isinstance(bench.error(bench.restarts.restart(BY_ANN)), DeadlinePassed)


def test_a_control_that_stops_leaves_the_restart_to_the_supervisor(bench: Bench) -> None:
    operation = bench.restarts.restart(BY_ANN)
    bench.restarts.stop()
    assert isinstance(bench.error(operation), NotReady)


def test_without_a_supervisor_it_is_refused(world: World) -> None:
    with pytest.raises(GatewayError, match="--workers 0"):
        Bench(world, is_supervised=False).restarts.restart(BY_ANN)
