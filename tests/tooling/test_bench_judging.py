from __future__ import annotations

import math

import numpy as np
import pytest

from loadtests.bench.compare import rows
from loadtests.bench.figures import Level, knee, recovered_after_s, slope
from loadtests.bench.report import Outcome, as_json, markdown
from loadtests.bench.scenario import KEPT, MISSED, NOT_MEASURED, Goal, Grid, Result, judge
from loadtests.bench.scenarios import scenarios
from loadtests.bench.soak import Soak

GOALS = (Goal("rate_ratio", "of the echo", at_least=0.7), Goal("p99_ratio", "× the p99 alone", at_most=2.0))


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"rate_ratio": 0.7, "p99_ratio": 2.0}, [KEPT, KEPT]),
        ({"rate_ratio": 0.699, "p99_ratio": 2.001}, [MISSED, MISSED]),
        ({"p99_ratio": math.nan}, [NOT_MEASURED, NOT_MEASURED]),
        ({"rate_ratio": math.inf, "p99_ratio": math.inf}, [KEPT, MISSED]),
    ],
)
def test_a_figure_is_judged_by_its_goal(figures: dict[str, float], words: list[str]) -> None:
    assert [verdict.word for verdict in judge(GOALS, figures)] == words


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1.0, "at_most": 2.0}])
def test_a_goal_has_one_bound(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not both"):
        Goal("x", "y", **bounds)


def test_every_scenario_goes_by_its_own_name() -> None:
    every = {**scenarios(), "soak": Soak()}
    assert all(scenario.name == name and scenario.about for name, scenario in every.items())


def test_the_knee_is_the_highest_rate_that_is_answered() -> None:
    levels = [Level(50, 50, 3.0), Level(100, 99, 5.0), Level(150, 120, 80.0), Level(200, 199, 90.0)]
    assert knee(levels[:3]) == levels[1]
    assert knee(levels) == levels[3]
    assert knee(levels[2:3]) is None


def test_recovery_ends_with_the_last_window_beyond_normal() -> None:
    due = 100 + np.arange(0, 4, 0.01)
    latency = np.where(due < 101.2, 50.0, 1.0)
    assert recovered_after_s(due, latency, since_s=100, normal_ms=5.0) == 1.5
    assert recovered_after_s(due, np.ones(len(due)), since_s=100, normal_ms=5.0) == 0.0
    assert recovered_after_s(due, np.full(len(due), 9.0), since_s=100, normal_ms=5.0) == math.inf


def test_a_leak_is_told_from_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 5, 600)
    times = np.arange(600.0)
    still, leaking = slope(times, 100 + noise), slope(times, 100 + noise + 0.1 * times)
    assert still.may_be_zero
    assert still.low < 0 < still.high
    assert not leaking.may_be_zero
    assert leaking.low < 0.1 < leaking.high


def test_a_slope_needs_samples() -> None:
    with pytest.raises(ValueError, match="three samples"):
        slope([1.0, 2.0], [1.0, 2.0])


def test_revisions_are_compared_by_medians_and_by_round() -> None:
    base = [{"a": 100.0, "zero": 0.0, "gone": 1.0}, {"a": 200.0, "zero": 0.0}, {"a": 110.0, "zero": 0.0}]
    current = [{"a": 110.0, "zero": 1.0, "gone": 1.0}, {"a": 180.0, "zero": 1.0}, {"a": 132.0, "zero": 1.0}]
    (only,) = rows(base, current)
    assert (only.figure, only.base, only.current) == ("a", 110.0, 132.0)
    assert (only.ratio, only.lowest, only.highest) == pytest.approx((1.1, 0.9, 1.2))


def test_the_report_shows_tables_goals_and_what_broke() -> None:
    figures = {"rate_ratio": 0.81, "p99_ratio": 3.0, "endless": math.inf}
    result = Result(figures, [Grid("speed", ["server", "1"], [["echo", "9"]])], ["on this machine"])
    whole = Outcome(Soak(), result, judge(GOALS, figures), 1.0)
    broken = Outcome(Soak(), Result({}), judge(GOALS, {}), 1.0, broke="LoadFailed: late")
    text = markdown([whole, broken])
    for part in (
        "| soak | of the echo | ≥ 0.7 | 0.81 | kept |",
        "| soak | × the p99 alone | ≤ 2 | 3 | missed |",
        "| echo | 9 |",
        "on this machine",
        "Broke off: LoadFailed: late",
    ):
        assert part in text
    assert as_json(whole)["figures"] == {"rate_ratio": 0.81, "p99_ratio": 3.0}
    assert [goal["verdict"] for goal in as_json(broken)["goals"]] == [NOT_MEASURED, NOT_MEASURED]
