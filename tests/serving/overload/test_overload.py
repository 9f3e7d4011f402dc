"""What decides about overload: run times, the delay of a queue, the adaptive limit. Simulated, so time is a number."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.serving.batch import batch_rows, enough_rows
from gateway.serving.overload.adaptive_limit import LOWEST, AdaptiveLimit
from gateway.serving.overload.delay_control import DelayControl
from gateway.versions.run_times import RunTimes

RUN_S, TARGET_S = 0.002, 0.005


def simulate(control: DelayControl, arrivals_per_run: float, seconds: float, began_s: float = 0.0) -> tuple[list[float], int]:
    """(delays of those that ran, refused) of a server that takes RUN_S a request and is asked evenly."""
    gap_s = RUN_S / arrivals_per_run
    waiting: deque[float] = deque()
    delays, refused = [], 0
    free_at_s = arrival_s = began_s
    while arrival_s < began_s + seconds:
        while waiting and free_at_s <= arrival_s:
            came_s = waiting.popleft()
            start_s = max(free_at_s, came_s)
            control.taken(1, start_s - came_s, RUN_S, start_s)
            delays.append(start_s - came_s)
            free_at_s = start_s + RUN_S
        control.arrived(1)
        wait_s = max(free_at_s - arrival_s, 0.0) + len(waiting) * RUN_S
        if control.is_overloaded and wait_s > control.target_s(RUN_S):
            refused += 1
        else:
            waiting.append(arrival_s)
        arrival_s += gap_s
    return delays, refused


def test_a_load_that_can_be_carried_is_never_refused():
    _, refused = simulate(DelayControl(TARGET_S), 0.95, 5.0)
    assert refused == 0


@pytest.mark.parametrize("factor", [1.5, 3.0, 10.0])
def test_in_an_overload_the_server_stays_busy_and_nobody_waits_much_longer_than_the_target(factor):
    control = DelayControl(TARGET_S)
    delays, refused = simulate(control, factor, 5.0)
    settled = delays[len(delays) // 2 :]
    assert len(delays) > 0.98 * 5.0 / RUN_S
    assert max(settled) <= TARGET_S + 2 * RUN_S
    assert refused > 0
    assert control.is_overloaded


def test_who_was_let_in_during_an_overload_is_answered_though_a_run_takes_longer_than_expected():
    control = DelayControl(TARGET_S)
    simulate(control, 3.0, 0.04)
    assert control.is_overloaded
    now_s = 2.0
    assert not control.is_late(now_s - 3 * TARGET_S, RUN_S, now_s)
    assert control.is_late(now_s - 5 * TARGET_S, RUN_S, now_s), "a promise that cannot be kept at all"
    assert control.is_late(0.03, RUN_S, 0.03 + 1.6 * TARGET_S), "it came before the overload was noticed"
    simulate(control, 0.5, 0.5, began_s=2.0)
    assert not control.is_late(0.0, RUN_S, 3.0), "nobody is late when nothing is overloaded"


def test_an_overload_ends_soon_after_the_load_has_fallen():
    control = DelayControl(TARGET_S)
    simulate(control, 3.0, 2.0)
    assert control.is_overloaded
    _, refused = simulate(control, 0.5, 0.3, began_s=2.0)
    assert not control.is_overloaded
    _, refused = simulate(control, 0.9, 2.0, began_s=2.3)
    assert refused == 0


def test_a_burst_that_drains_within_an_interval_is_no_overload():
    control = DelayControl(TARGET_S)
    for interval in range(20):
        now_s = interval * 0.1
        control.arrived(40)  # 80 ms of work at once, every 100 ms
        for waited in range(40):
            control.taken(1, waited * RUN_S, RUN_S, now_s + waited * RUN_S)
        assert not control.is_overloaded


@pytest.mark.parametrize("callers", [2, 8, 30])
def test_callers_that_wait_for_their_answers_are_never_refused(callers):
    """Closed loop: the queue stands far above the target, but nobody can ask more than is answered."""
    control, now_s = DelayControl(TARGET_S), 0.0
    came = deque([0.0] * callers)
    for _ in range(3000):
        delay_s = now_s - came.popleft()
        control.taken(1, delay_s, RUN_S, now_s)
        now_s += RUN_S
        came.append(now_s)
        control.arrived(1)
        assert not control.is_overloaded


def test_hundreds_of_requests_at_once_are_no_overload():
    control = DelayControl(TARGET_S)
    control.arrived(500)
    for run in range(500):
        control.taken(1, run * RUN_S, RUN_S, run * RUN_S)
        assert not control.is_overloaded


def test_an_overload_is_noticed_before_one_percent_of_four_seconds_has_come():
    control = DelayControl(TARGET_S)
    delays, _ = simulate(control, 3.0, 0.04)
    assert control.is_overloaded
    assert max(delays) < 0.04


def test_slow_growth_adds_up():
    delays, refused = simulate(DelayControl(TARGET_S), 1.05, 30.0)
    assert refused
    assert max(delays) < 20 * TARGET_S


def test_callers_who_were_refused_and_ask_again_do_not_keep_up_an_overload():
    control = DelayControl(TARGET_S)
    simulate(control, 3.0, 2.0)
    assert control.is_overloaded
    for run in range(200):
        control.arrived(1)
        if run % 5 == 0:
            control.arrived(1)  # and is refused
        control.taken(1, TARGET_S, RUN_S, 2.0 + run * RUN_S)
    assert not control.is_overloaded


def test_a_stall_of_the_machine_is_no_overload():
    """Half of what could be carried comes; for 200 ms nothing runs; then the queue drains."""
    control = DelayControl(TARGET_S)
    waiting: deque[float] = deque()
    now_s = came_s = 0.0
    while now_s < 3.0:
        now_s += RUN_S + (0.2 if 1.0 < now_s < 1.001 + RUN_S else 0.0)
        while came_s <= now_s:
            waiting.append(came_s)
            control.arrived(1)
            came_s += 2 * RUN_S
        if waiting:
            control.taken(1, now_s - waiting.popleft(), RUN_S, now_s)
        assert not control.is_overloaded


def test_target_zero_switches_it_off():
    control = DelayControl(0.0)
    _, refused = simulate(control, 3.0, 1.0)
    assert refused == 0


def test_one_long_delay_after_a_pause_is_no_overload():
    control = DelayControl(TARGET_S)
    control.taken(1, 0.0, RUN_S, 1.0)
    control.arrived(50)
    control.taken(1, 60.0, RUN_S, 100.0)
    assert not control.is_overloaded


# ---- run times ------------------------------------------------------------------------------------------------------


def test_run_times_follow_what_runs_take():
    times = RunTimes(max_rows=64)
    times.learn(1, 1.0)
    for _ in range(200):
        times.learn(1, 0.1)
    assert times.expected_s(1) == pytest.approx(0.1, rel=0.01)


def test_an_unknown_size_is_guessed_from_its_neighbours():
    times = RunTimes(max_rows=64)
    assert times.expected_s(5) == 0.0
    times.learn(8, 0.2)
    assert times.expected_s(1) == 0.2  # no more than a larger batch
    assert times.expected_s(64) == pytest.approx(1.6)  # no less than in proportion
    assert times.cost_s(128) == pytest.approx(3.2)


# ---- the limit ------------------------------------------------------------------------------------------------------


def test_the_limit_falls_when_latency_rises_and_recovers_when_it_falls():
    limit = AdaptiveLimit(1000)
    for _ in range(300):
        limit.observe(0.01, limit.limit)
    calm = limit.limit
    for _ in range(50):
        limit.observe(0.2, limit.limit)
    assert limit.limit < calm / 4
    for _ in range(300):
        limit.observe(0.01, limit.limit)
    assert limit.limit > calm / 2


def test_a_limit_that_nobody_reaches_stays():
    limit = AdaptiveLimit(1000)
    before = limit.limit
    for latency_s in (0.01, 5.0, 0.01):
        limit.observe(latency_s, 1)
    assert limit.limit == before


@given(st.integers(1, 5000), st.lists(st.tuples(st.floats(1e-6, 100), st.integers(0, 5000)), max_size=200))
def test_the_limit_keeps_its_bounds(highest, answers):
    limit = AdaptiveLimit(highest)
    for latency_s, in_system in answers:
        limit.observe(latency_s, in_system)
        assert min(int(LOWEST), highest) <= limit.limit <= highest


# ---- sizes ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.integers(1, 100), st.lists(st.integers(1, 100), max_size=5).map(lambda s: sorted(set(s))))
def test_a_batch_is_the_largest_preferred_size_that_is_filled(waiting, max_rows, preferred):
    rows = batch_rows(waiting, max_rows, preferred)
    filled = [size for size in preferred if size <= min(waiting, max_rows)]
    assert rows == (max(filled) if filled else max_rows)
    assert 1 <= enough_rows(max_rows, preferred) <= max_rows
