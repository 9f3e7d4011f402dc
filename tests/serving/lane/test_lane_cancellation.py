"""Who watches a call is told early, once, that nobody waits for its answer any more; nothing else changes."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time

import grpc
import pytest

from gateway.protocol.services import INFER_METHOD


@pytest.fixture
def watched(lane_server, take):
    """``watched(count)``: that many calls, taken and watched; the list of those told to be gone."""

    def start(count: int):
        calls, gone = take(lane_server.lane, count), []
        lane_server.lane.watch(calls, gone.append)
        return calls, gone

    return start


def turn(lane, condition) -> bool:
    """Takes until the condition holds, as the taking thread does; nothing may come meanwhile."""
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        assert lane.take(10, 0.02) == []
    return condition()


def test_a_cancelled_call_is_told_before_its_answer(lane_server, watched):
    lane = lane_server.lane
    futures = [lane_server.method.future(message, timeout=30) for message in (b"a", b"b")]
    calls, gone = watched(2)
    futures[0].cancel()
    assert turn(lane, lambda: gone)
    assert [(call.message, call.is_gone) for call in gone] == [(b"a", True)]
    (stays,) = [call for call in calls if call.message == b"b"]
    assert not stays.is_gone
    lane.fail(gone[0], grpc.StatusCode.CANCELLED, "cancelled", ())
    lane.reply([(stays, b"B")])
    assert futures[1].result() == b"B"
    assert len(gone) == 1


def test_a_client_that_disappears_is_told(lane_server, watched):
    program = "import sys, grpc; grpc.insecure_channel(sys.argv[1]).unary_unary(sys.argv[2])(b'x')"
    client = subprocess.Popen([sys.executable, "-c", program, lane_server.address, INFER_METHOD])
    try:
        (call,), gone = watched(1)
    finally:
        client.kill()
        client.wait()
    assert turn(lane_server.lane, lambda: gone) == [call]
    lane_server.lane.fail(call, grpc.StatusCode.CANCELLED, "cancelled", ())


def test_a_passed_deadline_is_told(lane_server, watched):
    future = lane_server.method.future(b"x", timeout=0.5)
    (call,), gone = watched(1)
    assert turn(lane_server.lane, lambda: gone) == [call]
    assert time.monotonic() > call.deadline - 0.05
    lane_server.lane.fail(call, grpc.StatusCode.DEADLINE_EXCEEDED, "late", ())
    assert future.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_what_is_answered_is_not_gone(lane_server, watched):
    lane = lane_server.lane
    futures = [lane_server.method.future(b"x", timeout=30) for _ in range(4)]
    calls, gone = watched(4)
    lane.reply([(call, b"y") for call in calls[:2]])
    for call in calls[2:]:
        lane.fail(call, grpc.StatusCode.INTERNAL, "no", ())
    assert sorted(future.code().name for future in futures) == ["INTERNAL", "INTERNAL", "OK", "OK"]
    stopped = lane_server.stop()
    turn(lane, lane.is_closed)
    assert stopped.wait(10)
    assert gone == []
    assert not any(call.is_gone for call in calls)


def test_a_watched_answer_may_carry_trailers(lane_server, watched):
    future = lane_server.method.future(b"x", timeout=30)
    (call,), _ = watched(1)
    lane_server.lane.reply([(call, b"y")], (("x-arm", "default"),))
    assert future.result() == b"y"
    assert ("x-arm", "default") in [(key, value) for key, value in future.trailing_metadata()]


def test_a_call_that_ended_before_it_was_watched_is_told(lane_server, take):
    lane, gone = lane_server.lane, []
    future = lane_server.method.future(b"x", timeout=30)
    (call,) = take(lane, 1)
    future.cancel()
    lane.take(1, 0.2)  # the end arrives
    lane.watch([call], gone.append)
    assert turn(lane, lambda: gone) == [call]
    lane.fail(call, grpc.StatusCode.CANCELLED, "cancelled", ())


def test_answers_and_cancels_that_cross_leave_nothing_open(lane_server, watched):
    lane, seed = lane_server.lane, random.Random(5)
    for _ in range(20):
        futures = [lane_server.method.future(b"x", timeout=30) for _ in range(10)]
        calls, gone = watched(10)
        cut = seed.sample(futures, 5)
        answering = threading.Thread(target=lambda calls=calls: [lane.reply([(call, b"y")]) for call in calls])
        cancelling = threading.Thread(target=lambda cut=cut: [future.cancel() for future in cut])
        for thread in (answering, cancelling):
            thread.start()
        for thread in (answering, cancelling):
            thread.join()
        assert turn(lane, lambda futures=futures: all(future.done() for future in futures))
        assert len(gone) == len(set(gone))
    stopped = lane_server.stop()
    assert turn(lane, lane.is_closed)
    assert stopped.wait(10)
