"""When a dead child is started again."""

from __future__ import annotations

import pytest

from gateway.process.backoff import (
    EXIT_MISCONFIGURED,
    HOPELESS_STARTS,
    LONGEST_DELAY_S,
    Deaths,
    after_death,
    after_failed_start,
    delay_s,
    is_hopeless,
)


def _deaths(count: int, *, served: bool, lived_s: float = 0.1) -> Deaths:
    deaths = Deaths()
    for _ in range(count):
        deaths = after_death(deaths, lived_s=lived_s, served=served)
    return deaths


def test_the_first_restart_is_immediate_and_the_next_wait_twice_as_long_each() -> None:
    delays = [delay_s(_deaths(count, served=True)) for count in (1, 2, 3, 4, 8)]
    assert delays == pytest.approx([0.0, 0.1, 0.2, 0.4, 6.4])


def test_the_wait_is_bounded() -> None:
    assert delay_s(_deaths(10_000, served=True)) == LONGEST_DELAY_S


def test_a_long_life_forgives_earlier_deaths() -> None:
    deaths = after_death(_deaths(6, served=True), lived_s=31, served=True)
    assert (delay_s(deaths), deaths.total) == (0.0, 7)


def test_a_death_whose_cause_is_known_makes_no_later_start_wait() -> None:
    deaths = _deaths(2, served=True)
    after = after_death(deaths, lived_s=0.1, served=True, is_explained=True)
    assert (delay_s(after), after.total) == (delay_s(deaths), 3)
    assert delay_s(after_death(Deaths(), lived_s=0.1, served=True, is_explained=True)) == 0.0


def test_a_child_that_never_served_is_given_up_after_five_deaths() -> None:
    assert not is_hopeless(_deaths(HOPELESS_STARTS - 1, served=False), exit_code=1)
    assert is_hopeless(_deaths(HOPELESS_STARTS, served=False), exit_code=1)


def test_a_misconfigured_child_is_given_up_at_once() -> None:
    assert is_hopeless(_deaths(1, served=False), exit_code=EXIT_MISCONFIGURED)


def test_a_child_that_has_served_is_never_given_up() -> None:
    deaths = _deaths(1, served=True)
    for _ in range(100):
        deaths = after_death(deaths, lived_s=0.1, served=False)
    assert not is_hopeless(deaths, exit_code=EXIT_MISCONFIGURED)


def test_a_start_that_the_system_refuses_waits_as_after_a_death_and_is_none() -> None:
    refused = after_failed_start(after_failed_start(_deaths(1, served=True)))
    assert (refused.total, delay_s(refused), is_hopeless(refused, exit_code=None)) == (1, 0.2, False)
