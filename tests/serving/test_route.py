"""Who a unit meets, for any segments."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.desired import DesiredRoute
from gateway.serving.route import SPACE, compile_route, position
from registry.deployment import PARTS, Segment, Shadow, deployed, resplit, split

weights = st.dictionaries(st.integers(2, 6), st.integers(1, 2000), max_size=5)


def compiled(segments: tuple[Segment, ...], **more: object):
    route = DesiredRoute(1, 1, segments, "salt", None, **more)
    return compile_route(route, range(1, 7), lambda number, arm: (number, arm))


def chosen(route, unit: int):
    return route.choose(unit) if route.bounds else route.default


@given(weights, st.integers(0, SPACE - 1))
def test_a_position_meets_the_segment_that_holds_it(parts, unit):
    segments = resplit((), parts)
    owner = [(s.version, "candidate") for s in segments if s.start * SPACE <= unit * PARTS < s.end * SPACE]
    assert chosen(compiled(segments), unit) == (owner[0] if owner else (1, "default"))


@given(weights, st.data())
def test_growing_a_weight_moves_no_unit_away_from_the_candidate(parts, data):
    if not parts:
        return
    grown = data.draw(st.sampled_from(sorted(parts)))
    before = resplit((), parts)
    after = resplit(before, {**parts, grown: parts[grown] + data.draw(st.integers(1, PARTS - sum(parts.values()) or 1))})
    old, new = compiled(before), compiled(after)
    for index in range(1000):
        unit = position(f"unit-{index}", b"salt")
        if chosen(old, unit)[0] != chosen(new, unit)[0]:
            assert chosen(old, unit)[0] == 1
            assert chosen(new, unit)[0] == grown


def test_shares_are_within_the_binomial_interval():
    """100,000 units at 30 %: the 99.9 % interval of the binomial (normal approximation, z = 3.29)."""
    route = compiled(split(deployed("m", 1, current=None, salt="a"), {1: 7000, 2: 3000}, salt="b").segments)
    units, share = 100_000, 0.3
    met = sum(chosen(route, position(f"user-{i}", b"experiment"))[0] == 2 for i in range(units))
    assert abs(met - units * share) <= 3.29 * (units * share * (1 - share)) ** 0.5


def test_another_salt_assigns_anew():
    """Two experiments are independent: of the units in one's 50 %, half are in the other's."""
    both = sum(position(f"u{i}", b"one") < SPACE // 2 and position(f"u{i}", b"two") < SPACE // 2 for i in range(20_000))
    assert abs(both - 5000) <= 3.29 * (20_000 * 0.25 * 0.75) ** 0.5


def test_a_shadow_that_is_not_ready_is_left_out():
    route = DesiredRoute(1, 1, (), "s", Shadow(9, 50.0))
    assert compile_route(route, (1, 2), lambda number, arm: (number, arm)).shadow is None


def test_bounds_are_sorted():
    segments = resplit((Segment(0, 100, 2), Segment(500, 700, 3)), {2: 300, 3: 200, 4: 50})
    bounds = compiled(segments).bounds
    assert list(bounds) == sorted(bounds)
    assert bisect_right(bounds, SPACE - 1) == len(bounds)
