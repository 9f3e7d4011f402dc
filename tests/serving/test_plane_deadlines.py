"""A run for which nobody waits any more is stopped, so that it delays nobody else."""

from __future__ import annotations

import time

import grpc
import numpy as np
import pytest
from plane_models import answer, ask, counted, rounds, scale

from gateway.protocol.services import INFER_METHOD
from gateway.runtime.watchdog import Watchdog

ONE = np.ones((1, 4), np.float32)
ENDLESS = 1 << 60


def test_an_endless_run_is_stopped_at_its_deadline_and_the_worker_goes_on(gate, wait_for):
    served = gate.load("loop", 1, counted())
    gate.route("loop", 1)
    gate.load("m", 1, scale(2))
    gate.route("m", 1)
    with pytest.raises(grpc.RpcError) as error:
        gate.infer(rounds(ENDLESS), timeout=0.3)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: not served.in_flight)
    counts = gate.plane.counters.arm("loop", 1, "default")
    wait_for(lambda: counts.requests.get("DEADLINE_EXCEEDED") == 1)
    assert answer(gate.infer(ask("m", ONE))).tolist() == [[2, 2, 2, 2]]
    assert answer(gate.infer(rounds(3))).tolist() == ONE.tolist()


def test_a_request_without_deadline_may_take_its_time(gate):
    gate.load("loop", 1, counted())
    gate.route("loop", 1)
    assert answer(gate.infer(rounds(50_000), timeout=None)).tolist() == ONE.tolist()


def test_the_watchdog_stops_what_is_due_and_nothing_else(wait_for):
    watchdog, stopped = Watchdog(), []
    with watchdog.watching(time.monotonic() + 60, lambda: stopped.append("later")):
        with watchdog.watching(time.monotonic() + 0.01, lambda: stopped.append("now")):
            wait_for(lambda: stopped)
        with watchdog.watching(time.monotonic() + 0.5, lambda: stopped.append("over in time")):
            pass
        with watchdog.watching(time.monotonic() + 0.6, lambda: stopped.append("then")):
            wait_for(lambda: len(stopped) == 2)
    assert stopped == ["now", "then"]


def test_an_endless_run_stops_when_its_caller_cancels_and_its_place_is_free_again(gate, wait_for):
    served = gate.load("loop", 1, counted())
    gate.route("loop", 1)
    served.pace.is_inline = False  # the lane's own thread cannot see a cancellation while it runs a model
    counts = gate.plane.counters.arm("loop", 1, "default")
    calls = [gate.start(rounds(ENDLESS)) for _ in range(3)]
    wait_for(lambda: served.in_flight == 3)
    for call in calls:
        call.cancel()
    wait_for(lambda: not served.in_flight)
    assert counts.requests == {"CANCELLED": 3}
    assert gate.plane._dispatcher.queued(served) == 0
    assert answer(gate.infer(rounds(3))).tolist() == ONE.tolist()


def test_a_caller_that_disconnects_frees_its_place(gate, wait_for):
    served = gate.load("loop", 1, counted())
    gate.route("loop", 1)
    served.pace.is_inline = False
    channel = grpc.insecure_channel(gate.address)
    call = channel.unary_unary(INFER_METHOD).future(rounds(ENDLESS).SerializeToString(), timeout=60)
    wait_for(lambda: served.in_flight == 1)
    channel.close()
    with pytest.raises(grpc.RpcError):
        call.result()
    wait_for(lambda: not served.in_flight)


def test_an_expired_request_leaves_the_queue_while_the_model_still_runs(gate, wait_for):
    served = gate.load("loop", 1, counted())
    gate.route("loop", 1)
    served.pace.is_inline = False
    blocker = gate.start(rounds(ENDLESS), timeout=60)
    wait_for(lambda: served.in_flight == 1)
    waiting = gate.start(rounds(3), timeout=0.2)
    assert waiting.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: served.in_flight == 1 and not gate.plane._dispatcher.queued(served))
    counts = gate.plane.counters.arm("loop", 1, "default")
    assert counts.executions == {}
    blocker.cancel()
    wait_for(lambda: not served.in_flight)
