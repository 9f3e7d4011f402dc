from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_values import counted, sent

from gateway.contract.counts import LATENCY_BOUNDS_S, ArmCounts, ShadowCounts
from gateway.telemetry import aggregate as module
from gateway.telemetry.aggregate import Aggregate
from gateway.telemetry.merged_counts import quantile

KEY = ("digits", 2, "default")


def requests(aggregate: Aggregate) -> int:
    arms = aggregate.merged().arms
    return sum(sum(arm.requests.values()) for arm in arms.values())


def test_a_later_message_of_one_life_replaces_the_earlier_one() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("a", counted(ok=4)))
    aggregate.update(0, sent("a", counted(ok=9)))
    assert requests(aggregate) == 9


def test_every_count_of_all_workers_is_summed() -> None:
    aggregate = Aggregate()
    shadow = ShadowCounts("digits", 2, 3, 5, 1, 1, 1, 8, 0.5, 0.25)
    more = {"not_routed": {"NOT_FOUND": 1}, "loads": {"a|b|3|ok": 1}, "predictions_dropped": 2, "traces_dropped": 3}
    for worker, name in enumerate("ab"):
        aggregate.update(worker, sent(name, counted(ok=4, failed=1), shadows=(shadow,), **more))
    expected = counted(ok=8, failed=2)
    expected.executions, expected.run_ns_by_size = {1: 2, 3: 8}, {1: 1000, 3: 1400}
    merged = aggregate.merged()
    assert merged.arms[KEY] == expected
    assert merged.shadows[("digits", 2, 3)] == ShadowCounts("digits", 2, 3, 10, 2, 2, 2, 16, 1.0, 0.25)
    assert merged.not_routed == {"NOT_FOUND": 2}
    assert merged.loads == {("a|b", 3, "ok"): 2}
    assert (merged.predictions_dropped, merged.traces_dropped) == (4, 6)


def test_a_restarted_worker_adds_to_what_its_predecessor_counted() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("a", counted(ok=4)))
    aggregate.update(0, sent("b", counted(ok=1)))
    assert requests(aggregate) == 5
    assert [worker.incarnation for worker in aggregate.merged().workers] == ["b"]


def test_a_worker_that_reconnects_is_not_counted_twice() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("a", counted(ok=4)))
    aggregate.forget(0)
    assert aggregate.merged().workers == ()
    aggregate.update(0, sent("a", counted(ok=5)))
    assert requests(aggregate) == 5
    assert aggregate.merged().in_flight == 1


def test_a_late_message_of_a_dead_life_does_not_take_the_workers_place() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("a", counted(ok=4)))
    aggregate.update(0, sent("b", counted(ok=1)))
    aggregate.update(0, sent("a", counted(ok=6)))
    assert requests(aggregate) == 7
    assert [worker.incarnation for worker in aggregate.merged().workers] == ["b"]


def test_a_connection_that_closes_after_its_successors_opened_changes_nothing() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("a"))
    aggregate.update(0, sent("b"))
    aggregate.forget(0, "a")
    assert len(aggregate.merged().workers) == 1


def test_memory_stays_bounded_over_many_deaths_and_nothing_is_lost() -> None:
    aggregate = Aggregate()
    for life in range(module.MAX_DEAD * 3):
        aggregate.update(0, sent(f"life {life}", counted(ok=1)))
    assert requests(aggregate) == module.MAX_DEAD * 3
    assert len(aggregate._latest) <= module.MAX_DEAD + module.MAX_ALIVE


def test_a_summed_life_can_not_be_counted_again() -> None:
    aggregate = Aggregate()
    for life in range(module.MAX_DEAD + 10):
        aggregate.update(0, sent(f"life {life}", counted(ok=1)))
    aggregate.update(0, sent("life 0", counted(ok=1)))
    assert requests(aggregate) == module.MAX_DEAD + 10


STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(("count", "die", "disconnect")), st.integers(1, 5)), max_size=60)


@given(STEPS)
def test_the_sum_has_every_count_even_if_workers_die_or_disconnect(steps: list[tuple[int, str, int]]) -> None:
    aggregate, lives, counts, total = Aggregate(), [0, 0, 0], [0, 0, 0], 0
    for worker, step, number in steps:
        if step == "count":
            total, counts[worker] = total + number, counts[worker] + number
            aggregate.update(worker, sent(f"{worker}/{lives[worker]}", counted(ok=counts[worker])))
        else:
            aggregate.forget(worker)
        if step == "die":
            lives[worker], counts[worker] = lives[worker] + 1, 0
        assert requests(aggregate) == total


def test_counts_handed_out_are_copies() -> None:
    aggregate = Aggregate()
    aggregate.update(0, sent("a", counted(ok=4)))
    aggregate.merged().arms[KEY].requests["OK"] = 1000
    aggregate.merged().arms[KEY].latency_buckets[3] = 1000
    assert requests(aggregate) == 4
    assert aggregate.merged().arms[KEY].latency_buckets[3] == 4


def test_threads_may_update_and_read_at_once() -> None:
    aggregate, seen = Aggregate(), []

    def count(worker: int) -> None:
        for number in range(1, 51):
            aggregate.update(worker, sent(f"{worker}/{number // 10}", counted(ok=number % 10)))
            seen.append(requests(aggregate))

    threads = [threading.Thread(target=count, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert requests(aggregate) == 4 * (5 * 9 + 0)


def test_a_quantile_is_interpolated_inside_its_bucket() -> None:
    buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
    buckets[3], buckets[4] = 50, 50  # 0.5 to 1 ms, 1 to 2.5 ms
    assert quantile(buckets, 0.25) == pytest.approx(0.00075)
    assert quantile(buckets, 0.5) == pytest.approx(0.001)
    assert quantile(buckets, 0.99) == pytest.approx(0.001 + 0.0015 * 0.98)
    assert quantile(buckets, 0.0) == pytest.approx(0.0005)
    assert quantile(buckets, 1.0) == pytest.approx(0.0025)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    counts = ArmCounts("digits", 1, "default")
    counts.latency_buckets[-1] = 3
    assert quantile(counts, 0.5) == LATENCY_BOUNDS_S[-1]


def test_a_quantile_of_nothing_is_zero() -> None:
    assert quantile(ArmCounts("digits", 1, "default"), 0.99) == 0.0


def test_a_quantile_is_a_share() -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        quantile([1], 99)


@given(st.lists(st.integers(0, 40), min_size=17, max_size=17).filter(any), st.floats(0, 1))
def test_a_quantile_lies_in_the_bucket_that_holds_its_rank(buckets: list[int], q: float) -> None:
    latencies = [bound for bound, count in zip((*LATENCY_BOUNDS_S, 10.0), buckets, strict=True) for _ in range(count)]
    rank = min(len(latencies) - 1, max(0, -int(-q * len(latencies) // 1) - 1))
    upper = latencies[rank]
    lower = max((bound for bound in (0.0, *LATENCY_BOUNDS_S) if bound < upper), default=0.0)
    assert lower - 1e-12 <= quantile(buckets, q) <= upper + 1e-12
