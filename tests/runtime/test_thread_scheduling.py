"""The lane's thread is in front of every other thread of a worker."""

from __future__ import annotations

import os
import threading

import pytest

from gateway.runtime.scheduling import (
    behind_the_short,
    in_background,
    in_foreground,
    least_important,
    reading_the_network,
    starting_threads,
)


def policies(*steps) -> list[int]:
    """The scheduling policy of a new thread after each step."""
    found: list[int] = []

    def run() -> None:
        for step in steps:
            step()
            found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="SCHED_BATCH is Linux's")
def test_threads_go_behind_and_come_to_the_front():
    assert policies(in_background, in_foreground) == [os.SCHED_BATCH, os.SCHED_OTHER]


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="SCHED_BATCH is Linux's")
def test_threads_inherit_their_place():
    inherited: list[int] = []
    assert policies(in_background, lambda: inherited.extend(policies(lambda: None))) == [os.SCHED_BATCH] * 2
    assert inherited == [os.SCHED_BATCH]


@pytest.mark.parametrize(("place", "niceness"), [(behind_the_short, 6), (least_important, 15)])
def test_a_thread_goes_behind_the_others_alone(place, niceness):
    before, nice = os.getpriority(os.PRIO_PROCESS, 0), []
    policies(place, lambda: nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    assert nice == [min(before + niceness, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_a_thread_that_is_behind_already_stays_behind():
    nice: list[int] = []
    policies(least_important, behind_the_short, lambda: nice.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    assert nice == [19]


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="SCHED_BATCH is Linux's")
def test_what_a_start_starts_has_its_place_and_nothing_else_does():
    def place() -> tuple[int, int]:
        return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def start() -> None:
        thread = threading.Thread(target=lambda: found.append(place()))
        thread.start()
        thread.join()

    before, found = place(), []
    policies(in_background, lambda: starting_threads(reading_the_network, start))
    assert found == [(os.SCHED_OTHER, before[1] + 3)]
    assert place() == before


def test_a_start_that_fails_says_so():
    def start() -> None:
        raise OSError("in use")

    with pytest.raises(OSError, match="in use"):
        starting_threads(behind_the_short, start)


def test_a_sandbox_that_forbids_it_costs_only_speed(monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)
    in_background()
