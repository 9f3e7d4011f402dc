"""Control's part of a scrape: live quality, and the prediction log's counts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from control_fakes import FakeLog, SetClock
from world import World

from gateway.contract.counts import ArmCounts, Telemetry
from gateway.control.control import Control
from gateway.control.observe import metrics_facts
from gateway.control.observe.metrics_facts import QualityCache, quality_facts
from gateway.quality.log import PredictionLog
from gateway.quality.log.log_values import LogCounts
from gateway.quality.metrics import Confusion, Moments, VersionQuality
from gateway.quality.prediction_store import PredictionStore
from gateway.telemetry.series_life import LIFE_S

CLASSES = VersionQuality(1, "default", "class", 3, 2, confusion=Confusion({("cat", "cat"): 1, ("cat", "dog"): 1}))
VALUES = VersionQuality(2, "shadow", "value", 2, 2, moments=Moments.of([5.0, 6.0], [1.0, 2.0]))


def test_the_figures_of_a_classifier() -> None:
    facts = quality_facts("m", CLASSES)
    assert (facts.model, facts.version, facts.arm) == ("m", 1, "default")
    assert (facts.predictions, facts.labelled, facts.coverage) == (3, 2, 2 / 3)
    assert (facts.accuracy, facts.precision_macro, facts.recall_macro) == (0.5, 0.5, 0.25)
    assert (facts.mae, facts.rmse, facts.r2) == (None, None, None)


def test_the_figures_of_a_regressor() -> None:
    facts = quality_facts("m", VALUES)
    assert (facts.version, facts.arm, facts.mae, facts.rmse, facts.r2) == (2, "shadow", 4.0, 4.0, -63.0)
    assert (facts.accuracy, facts.f1_macro) == (None, None)


def test_without_labels_there_are_only_counts() -> None:
    facts = quality_facts("m", VersionQuality(1, "default", "class", 1, 0, confusion=Confusion({})))
    assert (facts.predictions, facts.labelled, facts.coverage, facts.accuracy) == (1, 0, 0.0, None)


class CountingLog(FakeLog):
    """Counts how often quality was read."""

    reads = 0

    def quality_of_all(self, window_s: float = 0.0) -> tuple[object, ...]:
        self.reads += 1
        assert window_s == metrics_facts.QUALITY_WINDOW_S
        return (("m", CLASSES),)


class StillClock(SetClock):
    """Monotonic time as it is set, too."""

    def monotonic(self) -> float:
        return self.time


def test_quality_is_read_once_for_scrapes_that_follow_closely() -> None:
    log, clock = CountingLog(), StillClock()
    cache = QualityCache(log, clock)
    first = cache.facts()
    clock.time += metrics_facts.QUALITY_AGE_S - 1
    assert (cache.facts(), log.reads) == (first, 1)
    clock.time += 1
    assert (cache.facts(), log.reads) == (first, 2)


def test_labels_that_waited_for_their_prediction_are_on_the_page(start_control: Callable[..., Control]) -> None:
    log = FakeLog()
    log.log_counts = LogCounts(joined_late=7, lapsed=2, refused_late=1)
    page = start_control(log=log).metrics().decode()
    assert "\ninterlock_feedback_joined_late_total 7.0\n" in page
    assert "\ninterlock_feedback_lapsed_total 2.0\n" in page
    assert "\ninterlock_feedback_refused_late_total 1.0\n" in page


def test_the_prediction_log_and_its_fake_have_every_method_of_the_protocol() -> None:
    methods = {name for name in vars(PredictionStore) if not name.startswith("_")}
    assert {kind: methods - set(dir(kind)) for kind in (PredictionLog, FakeLog)} == {PredictionLog: set(), FakeLog: set()}


def _versions_with_requests(control: Control) -> set[str]:
    page = control.metrics().decode()
    return set(re.findall(r'^interlock_requests_total\{.*version="(\d+)"', page, re.MULTILINE))


def test_series_of_a_retired_version_leave_the_page_and_those_of_a_served_one_stay(make_world: Callable[..., World]) -> None:
    clock = SetClock()
    clock.monotonic = lambda: time.monotonic() + clock.time  # type: ignore[method-assign]
    world = make_world(clock=clock)
    world.deployed(1)
    counts = tuple(ArmCounts("digits", number, "default", {"OK": 5}) for number in (1, 77))
    world.control.counted(9, Telemetry("another", counts, (), {}, 0, 0, {}))
    assert _versions_with_requests(world.control) == {"1", "77"}
    clock.time += LIFE_S + 1
    assert _versions_with_requests(world.control) == {"1"}
