from __future__ import annotations

import pytest

from loadtests.limits import Limits, Outcome, problems, scenarios


def test_every_scenario_has_limits_that_can_be_broken() -> None:
    broken = Outcome(answers={"1": 10}, failures={"INTERNAL": 1000}, wrong_answers=1, stale_answers=1)
    for scenario in scenarios().values():
        assert problems(scenario.limits, broken), scenario.name


def test_a_clean_run_keeps_its_limits() -> None:
    assert problems(Limits(), Outcome(answers={"1": 10})) == []


@pytest.mark.parametrize(
    ("limits", "outcome", "word"),
    [
        (Limits(), Outcome({"1": 9}, {"UNAVAILABLE": 1}), "1 calls failed"),
        (Limits(failures=5, failure_codes=("UNAVAILABLE",)), Outcome({"1": 9}, {"INTERNAL": 1}), "INTERNAL"),
        (Limits(), Outcome({"1": 9}, wrong_answers=1), "not what the version they name gives"),
        (Limits(), Outcome({"1": 9}, stale_answers=1), "replaced version"),
        (Limits(fewest_changes=2), Outcome({"1": 9}, changes=1), "1 changes"),
        (Limits(shares={"1": 0.7}), Outcome({"1": 900, "2": 100}), "90.00%"),
        (Limits(back_within_s=2), Outcome({"1": 9}, back_s=2.1), "2.10 s"),
        (Limits(back_within_s=2), Outcome({"1": 9}, last_failure_s=2.2), "2.20 s"),
        (Limits(), Outcome(), "no call was answered"),
    ],
)
def test_a_limit_that_is_not_kept_is_told(limits: Limits, outcome: Outcome, word: str) -> None:
    (problem,) = problems(limits, outcome)
    assert word in problem


def test_shares_within_chance_are_kept() -> None:
    assert problems(Limits(shares={"1": 0.7, "2": 0.3}), Outcome({"1": 715, "2": 285})) == []
