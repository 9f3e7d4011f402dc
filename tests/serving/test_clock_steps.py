"""A step of the wall clock, as an administrator or a time server makes it, ends no request and delays none. On both lanes."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from plane_models import ask, counted, rounds, scale

from gateway.clock import SystemClock
from gateway.runtime.watchdog import Watchdog
from gateway.serving.lane.open_streams import Streams
from gateway.serving.lane.stream import Stream

ONE = np.ones((1, 4), np.float32)
HOUR_S = 3600.0
ENDLESS = 1 << 60
Step = Callable[[float], None]


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    """``step(seconds)`` sets the wall clock of this process forwards, or backwards."""
    real = time.time
    return lambda seconds: monkeypatch.setattr(time, "time", lambda: real() + seconds)


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_queued_requests_with_a_deadline_are_answered(gate, wait_for, step, seconds):
    served = gate.load("loop", 1, counted())
    gate.route("loop", 1)
    served.pace.is_inline = False
    blocker = gate.start(rounds(ENDLESS), timeout=60)
    wait_for(lambda: served.in_flight == 1)
    waiting = [gate.start(rounds(3), timeout=30) for _ in range(8)]
    wait_for(lambda: gate.plane._dispatcher.queued(served) == 8)
    step(seconds)
    blocker.cancel()
    assert [call.code() for call in waiting] == [grpc.StatusCode.OK] * 8


def test_a_timeout_of_the_request_survives_a_step_too(gate, wait_for, step):
    served = gate.load("loop", 1, counted())
    gate.route("loop", 1)
    served.pace.is_inline = False
    blocker = gate.start(rounds(ENDLESS), timeout=60)
    wait_for(lambda: served.in_flight == 1)
    request = rounds(3)
    request.parameters["timeout"].int64_param = 30_000_000
    waiting = gate.start(request)
    wait_for(lambda: gate.plane._dispatcher.queued(served) == 1)
    step(HOUR_S)
    blocker.cancel()
    assert waiting.code() is grpc.StatusCode.OK


def test_a_parked_request_waits_on(open_gate, lane_kind, wait_for, monkeypatch):
    gate = open_gate(lane_kind, ask=lambda model, version, timeout_s: None)
    gate.load("m", 1, scale(1))
    gate.route("m", 1)
    waiting = gate.start(ask("m", ONE, version="2"), timeout=30)
    wait_for(lambda: gate.plane.telemetry().parked == 1)
    monkeypatch.setattr(SystemClock, "now", lambda self: time.time() + HOUR_S)  # gRPC's queue reads the real clock
    gate.load("m", 2, scale(2))
    gate.publish()
    assert waiting.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_the_watchdog_stops_runs_by_their_deadlines_alone(wait_for, step, seconds):
    watchdog, stopped = Watchdog(), []
    with watchdog.watching(time.monotonic() + 60, lambda: stopped.append("later")):
        step(seconds)
        with watchdog.watching(time.monotonic() + 0.01, lambda: stopped.append("now")):
            wait_for(lambda: stopped)
    assert stopped == ["now"]


def test_the_age_of_streams_is_not_the_wall_clocks(step):
    streams = Streams(10.0)
    streams.add(Stream(float("inf"), ()))
    step(HOUR_S)
    assert 9 < streams.due_at - time.monotonic() <= 10
