"""What the balance benchmark makes of the workers' counters."""

from __future__ import annotations

import pytest

from loadtests.bench.balance import Balance, is_even, lines


def test_the_busiest_and_the_idlest_worker_are_told_of_every_client() -> None:
    found = Balance.of(2, 1, [[1.0, 0.0], [0.5, 0.5]])
    assert (found.busiest_mean, found.busiest_worst) == (0.75, 1.0)
    assert (found.idlest_mean, found.idlest_worst) == (0.25, 0.0)


@pytest.mark.parametrize(("shares", "even"), [([0.25, 0.25, 0.25, 0.25], True), ([0.5, 0.25, 0.25, 0.0], False)])
def test_even_is_near_one_nth(shares: list[float], even: bool) -> None:
    assert is_even(Balance.of(4, "auto", [shares])) is even


def test_the_table_has_a_line_for_every_way() -> None:
    assert len(lines([Balance.of(2, way, [[0.5, 0.5]]) for way in (1, "auto")])) == 3
