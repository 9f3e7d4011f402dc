"""Counts per worker, over its incarnations."""

from __future__ import annotations

from telemetry_values import counted, sent

from gateway.telemetry import aggregate as module
from gateway.telemetry.aggregate import Aggregate


def test_a_workers_requests_are_those_of_all_its_lives_without_shadow_copies() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("a", counted(ok=4, failed=1), not_routed={"NOT_FOUND": 2}))
    aggregate.forget(0, "a")
    aggregate.update(0, sent("b", counted(ok=1), counted(arm="shadow", version=3, ok=50)))
    aggregate.update(1, sent("c", counted(ok=9)))
    assert aggregate.merged().worker_requests == {0: 8, 1: 9}


def test_a_worker_that_is_being_replaced_keeps_both_lives_counts() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("old", counted(ok=4), in_flight=3, connections=2))
    aggregate.update(0, sent("new", counted(ok=1), in_flight=2))
    aggregate.update(0, sent("old", counted(ok=6), in_flight=1, connections=1))
    (worker,) = aggregate.merged().workers
    assert (worker.in_flight, worker.connections, aggregate.merged().worker_requests) == (3, 1, {0: 7})
    aggregate.forget(0, "old")
    assert [each.incarnation for each in aggregate.merged().workers] == ["new"]


def test_the_old_life_is_never_summed_away_while_it_still_counts() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("old", counted(ok=1)))
    aggregate.update(0, sent("new", counted(ok=1)))
    for life in range(module.MAX_DEAD + 5):
        aggregate.update(1, sent(f"life {life}"))
    aggregate.update(0, sent("old", counted(ok=9)))
    assert aggregate.merged().worker_requests[0] == 10


def test_requests_of_lives_long_summed_stay_with_their_worker() -> None:
    aggregate = Aggregate()
    for life in range(module.MAX_DEAD * 2):
        aggregate.update(3, sent(f"life {life}", counted(ok=1)))
    assert aggregate.merged().worker_requests == {3: module.MAX_DEAD * 2}
