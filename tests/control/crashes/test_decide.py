"""When a version is fenced, for how long, and what its deployment then serves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.control.crashes.decide import CrashRecord, RouteChange, after_deaths, fence_s, fences, route_change
from gateway.control.desired.reconcile import ModelPlan
from registry.deployment import Deployment, Segment, Shadow

RECORD = CrashRecord("ratio", 2)
BEFORE = Deployment("ratio", 1, default=1)
NOW = 1000.0


def test_three_deaths_within_a_minute_fence_a_version_for_five_seconds() -> None:
    assert after_deaths(RECORD, [990.0, 999.0], NOW) == RECORD
    assert after_deaths(RECORD, [930.0, 990.0, 999.0], NOW) == RECORD
    assert after_deaths(RECORD, [950.0, 990.0, 999.0], NOW) == replace(RECORD, fences=1, fenced_until=1005.0)


def test_fences_double_up_to_five_minutes() -> None:
    assert [fence_s(count) for count in (1, 2, 3, 6, 7, 100)] == [5.0, 10.0, 20.0, 160.0, 300.0, 300.0]


def test_deaths_before_a_fence_s_end_count_no_more() -> None:
    record = replace(RECORD, fences=1, fenced_until=995.0)
    assert after_deaths(record, [990.0, 994.0, 999.0], NOW) == record
    assert after_deaths(record, [996.0, 997.0, 999.0], NOW) == replace(record, fences=2, fenced_until=1010.0)


def test_ten_quiet_minutes_make_the_next_fence_a_first_one() -> None:
    record = replace(RECORD, fences=5, fenced_until=NOW - 601)
    assert after_deaths(record, [998.0, 999.0, 1000.0], NOW).fences == 1


def test_only_fences_that_stand_are_told() -> None:
    records = [replace(RECORD, fenced_until=NOW), replace(RECORD, version=3, fenced_until=NOW + 1)]
    assert fences(records, NOW) == {("ratio", 3): NOW + 1}


@pytest.mark.parametrize(
    ("deployment", "warm", "change"),
    [
        (replace(BEFORE, default=2), BEFORE, None),
        (replace(BEFORE, default=2, on_crash="rollback"), BEFORE, RouteChange("rollback")),
        (replace(BEFORE, default=2, on_crash="rollback"), None, None),
        (replace(BEFORE, default=2, on_crash="rollback"), replace(BEFORE, default=2), None),
        (replace(BEFORE, segments=(Segment(0, 2500, 2),)), None, RouteChange("split", {"1": 100.0})),
        (
            replace(BEFORE, segments=(Segment(0, 2500, 2), Segment(2500, 3500, 3))),
            None,
            RouteChange("split", {"1": 90.0, "3": 10.0}),
        ),
        (replace(BEFORE, shadow=Shadow(2)), None, RouteChange("shadow")),
        (BEFORE, None, None),
        (replace(BEFORE, default=None), None, None),
    ],
    ids="stays rolled_back not_warm same_version candidate second_candidate shadow not_routed undeployed".split(),
)
def test_a_fenced_version_leaves_the_route_if_something_better_is_there(
    deployment: Deployment, warm: Deployment | None, change: RouteChange | None
) -> None:
    assert route_change(ModelPlan(deployment, warm), 2) == change
