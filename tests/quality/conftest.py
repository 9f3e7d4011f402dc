"""What the quality tests share: a clock to move, a log on disk, and predictions with real ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from quality_makers import EPOCH, MovableClock

from gateway.quality.log import PendingLimits, PredictionLog
from gateway.settings.sections import PredictionSettings


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def open_log(tmp_path: Path, clock: MovableClock) -> Iterator[Callable[..., PredictionLog]]:
    """Opens the test's log (again); the epoch of the tests' ids is known."""
    opened: list[PredictionLog] = []

    def make(**config: float) -> PredictionLog:
        for log in opened:
            log.close()
        limits = PendingLimits(**{name: config.pop(name) for name in ("pending_s", "max_pending") if name in config})
        opened[:] = [PredictionLog(tmp_path / "predictions.db", PredictionSettings(**config), clock, limits)]
        opened[0].know_epoch(EPOCH, "life-1")
        return opened[0]

    yield make
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: Callable[..., PredictionLog]) -> PredictionLog:
    return open_log()
