"""The pure rules that change a deployment, against a dumb version that looks at every part of the traffic."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.deployment import (
    PARTS,
    Batching,
    Deployment,
    Segment,
    Shadow,
    check_deployment,
    configured,
    deployed,
    promoted,
    resplit,
    rolled_back,
    shadowed,
    split,
    undeployed,
)
from registry.errors import InvalidValue, RuleForbids

BASE = deployed("digits", 1, current=None, salt="first")


@st.composite
def weights(draw: st.DrawFn) -> dict[int, int]:
    """Parts for the default (version 1) and up to five candidates, summing to PARTS."""
    cuts = sorted(draw(st.lists(st.integers(0, PARTS), max_size=5)))
    widths = [end - start for start, end in zip([0, *cuts], [*cuts, PARTS], strict=True)]
    versions = [1, *draw(st.permutations([2, 3, 4, 5, 6]))]
    return dict(zip(versions, widths, strict=False))


def owners(deployment: Deployment) -> list[int | None]:
    line = [deployment.default] * PARTS
    for segment in deployment.segments:
        line[segment.start : segment.end] = [segment.version] * (segment.end - segment.start)
    return line


@given(st.lists(weights(), min_size=1, max_size=4))
def test_weights_are_exact_and_the_deployment_well_formed(steps: list[dict[int, int]]) -> None:
    current = BASE
    for parts in steps:
        current = split(current, parts, salt="s")
        check_deployment(current)
        line = owners(current)
        assert {version: line.count(version) for version in set(line)} == {v: w for v, w in parts.items() if w}
        assert current.weights() == {1: 0} | {v: w for v, w in parts.items() if w}


@given(st.lists(weights(), min_size=2, max_size=4))
def test_units_move_only_from_versions_that_shrink_to_versions_that_grow(steps: list[dict[int, int]]) -> None:
    current = split(BASE, steps[0], salt="s")
    for parts in steps[1:]:
        following = split(current, parts, salt="t")
        before, after = owners(current), owners(following)
        had, has = current.weights(), following.weights()
        moves = {(a, b) for a, b in zip(before, after, strict=True) if a != b}
        assert all(has.get(a, 0) < had.get(a, 0) and has.get(b, 0) > had.get(b, 0) for a, b in moves)
        moved = sum(a != b for a, b in zip(before, after, strict=True))
        assert moved == sum(max(0, has.get(v, 0) - had.get(v, 0)) for v in has | had)
        current = following


@given(st.integers(0, PARTS), st.integers(0, PARTS))
def test_growing_a_candidate_takes_no_unit_away_from_it(first: int, second: int) -> None:
    small, large = sorted((first, second))
    before = owners(split(BASE, {1: PARTS - small, 2: small}, salt="s"))
    after = owners(split(split(BASE, {1: PARTS - small, 2: small}, salt="s"), {1: PARTS - large, 2: large}, salt="s"))
    assert all(b == 2 for a, b in zip(before, after, strict=True) if a == 2)


def test_a_default_that_keeps_its_weight_keeps_its_units() -> None:
    current = split(BASE, {1: 0, 2: 1, 3: PARTS - 1}, salt="s")
    current = split(current, {1: 1, 3: PARTS - 1}, salt="s")
    assert split(current, {1: 1, 2: PARTS - 1}, salt="s").segments == (Segment(1, PARTS, 2),)


def test_resplit_of_the_same_weights_changes_nothing() -> None:
    segments = (Segment(0, 10, 3), Segment(10, 25, 2), Segment(40, 41, 3))
    assert resplit(segments, {2: 15, 3: 11}) == segments


def test_a_new_experiment_takes_a_new_salt_and_a_change_of_weights_keeps_it() -> None:
    begun = split(BASE, {1: 9000, 2: 1000}, salt="second")
    assert (begun.salt, split(begun, {1: 8000, 2: 2000}, salt="third").salt) == ("second", "second")
    assert split(promoted(begun, 1), {1: 5000, 2: 5000}, salt="third").salt == "third"


@pytest.mark.parametrize("parts", [{1: 9999}, {1: PARTS, 2: 1}, {1: PARTS + 1, 2: -1}, {}])
def test_weights_that_do_not_sum_to_all_are_refused(parts: dict[int, int]) -> None:
    with pytest.raises(InvalidValue, match="sum to 100 %"):
        split(BASE, parts, salt="")


@given(st.lists(weights(), max_size=3), st.sampled_from([None, Shadow(7, 12.5)]), st.integers(1, 6))
def test_a_rollback_restores_the_whole_deployment(
    steps: list[dict[int, int]], shadow: Shadow | None, promoted_version: int
) -> None:
    earlier = shadowed(BASE, shadow)
    for parts in steps:
        earlier = split(earlier, parts, salt="s")
    earlier = configured(earlier, batching=Batching("off", 3, 4), rollback_window_s=5)
    current = promoted(earlier, promoted_version)
    back = rolled_back(current, earlier)
    assert current.predecessor == earlier.revision
    assert back.revision == current.revision + 1
    assert dataclasses.replace(back, revision=earlier.revision, action=earlier.action) == earlier


def test_going_back_twice_goes_further_back() -> None:
    history = {1: BASE}
    for version in (2, 3):
        history[version] = promoted(history[version - 1], version)
    once = rolled_back(history[3], history[2])
    assert (once.default, once.predecessor) == (2, 1)
    twice = rolled_back(once, history[once.predecessor])
    assert (twice.default, twice.revision, twice.predecessor) == (1, 5, None)


def test_a_promote_ends_candidates_and_a_shadow_of_that_version_only() -> None:
    current = shadowed(split(BASE, {1: 5000, 2: 5000}, salt="s"), Shadow(3))
    assert promoted(current, 3).shadow is None
    kept = promoted(current, 2)
    assert (kept.default, kept.segments, kept.shadow, kept.predecessor) == (2, (), Shadow(3), current.revision)


def test_a_change_that_answers_nobody_else_keeps_the_predecessor() -> None:
    current = promoted(BASE, 2)
    assert shadowed(current, Shadow(1)).predecessor == 1
    assert configured(current, batching=Batching(), rollback_window_s=1).predecessor == 1


def test_nothing_served_can_be_neither_split_nor_shadowed_but_deployed_again() -> None:
    gone = undeployed(BASE)
    assert (gone.default, gone.weights(), gone.predecessor) == (None, {}, 1)
    with pytest.raises(RuleForbids, match="before split"):
        split(gone, {1: PARTS}, salt="")
    with pytest.raises(RuleForbids, match="before shadow"):
        shadowed(gone, Shadow(1))
    again = deployed("digits", 2, current=gone, salt="n")
    assert (again.revision, again.predecessor) == (3, None)


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_shadow_percentage_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(InvalidValue, match="percent"):
        shadowed(BASE, Shadow(2, percent))


def test_the_default_cannot_shadow_itself() -> None:
    with pytest.raises(InvalidValue, match="cannot shadow itself"):
        shadowed(BASE, Shadow(1))


@pytest.mark.parametrize(
    ("batching", "window", "field"),
    [
        (Batching("sometimes"), 0, "batching.mode"),
        (Batching(max_rows=0), 0, "batching.max_rows"),
        (Batching(queue_delay_us=-1), 0, "batching.queue_delay_us"),
        (Batching(max_waiting=0), 0, "batching.max_waiting"),
        (Batching(queue_target_us=-1), 0, "batching.queue_target_us"),
        (Batching(preferred_rows=(0, 1)), 0, "batching.preferred_rows"),
        (Batching(preferred_rows=(8, 4)), 0, "batching.preferred_rows"),
        (Batching(preferred_rows=(4, 4)), 0, "batching.preferred_rows"),
        (Batching(max_rows=8, preferred_rows=(4, 9)), 0, "batching.preferred_rows"),
        (Batching(preferred_rows=tuple(range(1, 34))), 0, "batching.preferred_rows"),
        (Batching(), -1, "rollback_window_s"),
        (Batching(), float("nan"), "rollback_window_s"),
    ],
)
def test_a_setting_out_of_range_is_named(batching: Batching, window: float, field: str) -> None:
    with pytest.raises(InvalidValue) as error:
        configured(BASE, batching=batching, rollback_window_s=window)
    assert error.value.metadata["field"] == field


def test_the_bounds_themselves_are_allowed() -> None:
    batching = Batching(max_rows=8, preferred_rows=(1, 8), max_waiting=1, queue_target_us=0)
    assert configured(BASE, batching=batching, rollback_window_s=0).batching == batching


def test_a_swap_order_stays_until_another_known_one_is_named() -> None:
    changed = configured(BASE, batching=Batching(), rollback_window_s=1, swap_order="memory")
    assert configured(changed, batching=Batching(), rollback_window_s=2).swap_order == "memory"
    assert promoted(changed, 2).swap_order == "memory"
    with pytest.raises(InvalidValue, match="swap_order: expected availability or memory, got 'both'"):
        configured(changed, batching=Batching(), rollback_window_s=1, swap_order="both")


@pytest.mark.parametrize(
    "changes",
    [
        {"segments": (Segment(5, 5, 2),)},
        {"segments": (Segment(-1, 5, 2),)},
        {"segments": (Segment(0, PARTS + 1, 2),)},
        {"segments": (Segment(0, 5, 2), Segment(4, 6, 3))},
        {"segments": (Segment(5, 6, 2), Segment(0, 5, 3))},
        {"segments": (Segment(0, 5, 1),)},
        {"default": None, "segments": (Segment(0, 5, 2),)},
        {"default": None, "shadow": Shadow(2)},
        {"predecessor": 1},
        {"predecessor": 0},
    ],
)
def test_a_malformed_deployment_is_refused(changes: dict) -> None:
    check_deployment(BASE)
    with pytest.raises(InvalidValue):
        check_deployment(dataclasses.replace(BASE, **changes))
