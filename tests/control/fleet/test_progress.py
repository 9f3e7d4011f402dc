"""What counts as prepared, as acknowledged and as missing, from what workers said."""

from __future__ import annotations

from gateway.contract.handshake import Hello
from gateway.contract.observed import Observed, ObservedVersion
from gateway.control.fleet.progress import (
    Commitment,
    FleetView,
    Preparation,
    WorkerView,
    missing,
    prepared,
    unacknowledged,
)


def worker(
    number: int, *, revision: int = 5, life: str = "a", routes: dict[str, int] | None = None, **states: str
) -> dict[int, WorkerView]:
    versions = tuple(ObservedVersion("m", int(name[1:]), state, "why") for name, state in states.items())
    observed = Observed(revision, versions, routes or {}, is_serving=True)
    return {number: WorkerView(Hello(number, 1, life, 1, "fast"), observed)}


def goal(start: FleetView, *versions: int) -> Preparation:
    return Preparation("m", frozenset(versions), 5, start)


def test_ready_everywhere_is_prepared() -> None:
    view = FleetView({**worker(0, v2="READY"), **worker(1, v2="READY")})
    assert prepared(view, goal(view, 2)).is_done


def test_a_version_that_was_ready_before_it_was_asked_for_may_be_on_its_way_out() -> None:
    view = FleetView({**worker(0, v2="READY"), **worker(1, revision=4, v2="READY")})
    assert prepared(view, goal(view, 2)).waiting == ("worker 1 has not taken the request",)


def test_a_failure_from_before_it_was_asked_for_does_not_count() -> None:
    view = FleetView(worker(0, revision=4, v2="FAILED"))
    assert prepared(view, goal(view, 2)).failure == ""


def test_every_version_has_to_be_ready() -> None:
    view = FleetView(worker(0, v2="READY", v3="WARMING"))
    assert prepared(view, goal(view, 2, 3, 4)).waiting == ("worker 0: m v3 is WARMING", "worker 0: m v4 is not there")


def test_every_failure_is_told() -> None:
    view = FleetView({**worker(0, v2="FAILED"), **worker(1, v2="FAILED")})
    assert prepared(view, goal(view, 2)).failure == "worker 0 could not load m v2: why; worker 1 could not load m v2: why"


def test_a_worker_that_comes_while_others_prepare_has_to_be_ready_too() -> None:
    start = FleetView(worker(0, v2="READY"))
    assert not prepared(FleetView({**worker(0, v2="READY"), **worker(1)}), goal(start, 2)).is_done


def test_with_no_worker_nothing_is_prepared() -> None:
    assert not prepared(FleetView(), goal(FleetView(), 2)).is_done


def test_a_route_is_acknowledged_when_it_is_in_force() -> None:
    asked = Commitment("m", 7, 5, frozenset({(0, "a"), (1, "a"), (2, "a")}))
    view = FleetView({**worker(0, routes={"m": 7}), **worker(1, routes={"m": 6}), **worker(2, revision=4, routes={"m": 7})})
    assert unacknowledged(view, asked) == (1, 2)


def test_the_end_of_a_route_is_acknowledged_when_it_is_gone() -> None:
    view = FleetView({**worker(0), **worker(1, routes={"m": 6})})
    assert unacknowledged(view, Commitment("m", None, 5, frozenset({(0, "a"), (1, "a")}))) == (1,)


def test_nobody_waits_for_a_worker_that_has_died_since() -> None:
    view = FleetView({**worker(0, routes={"m": 7}), **worker(1, life="b")})
    assert unacknowledged(view, Commitment("m", 7, 5, frozenset({(0, "a"), (1, "a"), (2, "a")}))) == ()


def test_what_is_missing_is_told_per_worker() -> None:
    asked = Commitment("m", 7, 5, frozenset({(0, "a"), (1, "a"), (2, "a"), (3, "a")}))
    view = FleetView(
        {**worker(0, routes={"m": 7}), **worker(1), **worker(2, life="b"), **worker(4, life="c", routes={"m": 7})}, expected=6
    )
    assert missing(view, asked) == (
        "worker 1 has not put it in force yet",
        "worker 2 is restarting and will catch up",
        "worker 3 is restarting and will catch up",
        "worker 5 is restarting and will catch up",
    )
