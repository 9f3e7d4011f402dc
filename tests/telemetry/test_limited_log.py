"""A fault that repeats is logged at once and then with a rate."""

from __future__ import annotations

import structlog
from structlog.testing import CapturingLogger

from gateway.telemetry.limited_log import LimitedLog


class Bench:
    def __init__(self) -> None:
        self.now_s = 0.0
        self._lines = CapturingLogger()
        wrapped = structlog.wrap_logger(self._lines, processors=[lambda _logger, _name, event: ((), event)])
        self.log = LimitedLog(wrapped, period_s=30.0, monotonic=lambda: self.now_s)

    def lines(self) -> list[dict[str, object]]:
        return [dict(call.kwargs) for call in self._lines.calls]


def test_the_first_is_logged_at_once_and_repetitions_are_left_out() -> None:
    bench = Bench()
    for _ in range(100):
        bench.log.error("disk_full", path="x")
    assert bench.lines() == [{"event": "disk_full", "path": "x"}]


def test_the_next_line_after_the_period_says_how_many_were_left_out() -> None:
    bench = Bench()
    for bench.now_s in (0.0, 1.0, 29.9, 30.0, 59.9, 60.0, 200.0):
        bench.log.error("disk_full")
    assert [line.get("left_out", 0) for line in bench.lines()] == [0, 2, 1, 0]


def test_another_event_has_a_limit_of_its_own() -> None:
    bench = Bench()
    for event in ("a", "b", "a"):
        bench.log.error(event)
    assert [line["event"] for line in bench.lines()] == ["a", "b"]
