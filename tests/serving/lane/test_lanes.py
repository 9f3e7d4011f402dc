"""What a lane promises, on both: every call answered once, in batches, and nothing lost when the server stops."""

from __future__ import annotations

import time
from concurrent import futures

import grpc

from gateway.serving.lane import fast as fast_lane
from gateway.serving.lane.opening import open_lane


def test_calls_come_with_their_message_metadata_and_deadline(served, take):
    lane, method, _ = served
    future = method.future(b"hello", timeout=30, metadata=(("x-unit-id", "u"),))
    (call,) = take(lane, 1)
    assert call.message == b"hello"
    assert ("x-unit-id", "u") in [(key, value) for key, value in call.metadata]
    assert 0 < call.deadline - time.monotonic() <= 30
    lane.reply([(call, b"world")])
    assert future.result() == b"world"


def test_a_call_without_deadline_has_one_far_away(served, take):
    lane, method, _ = served
    future = method.future(b"x")
    (call,) = take(lane, 1)
    assert call.deadline == float("inf")
    lane.reply([(call, b"")])
    assert future.result() == b""


def test_each_caller_gets_its_own_answer_whatever_the_order(served, take):
    lane, method, _ = served
    waiting = {str(i).encode(): method.future(str(i).encode(), timeout=30) for i in range(30)}
    calls = take(lane, 30)
    lane.reply([(call, call.message * 2) for call in reversed(calls)])
    assert {message: future.result() for message, future in waiting.items()} == {message: message * 2 for message in waiting}


def test_an_error_carries_code_message_and_trailers(served, take):
    lane, method, _ = served
    future = method.future(b"x", timeout=30)
    (call,) = take(lane, 1)
    trailers = (("grpc-retry-pushback-ms", "5"), ("x-bin", b"\x00\xff"))
    lane.fail(call, grpc.StatusCode.RESOURCE_EXHAUSTED, "zu viel: ü", trailers)
    assert future.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert future.details() == "zu viel: ü"
    assert dict(future.trailing_metadata())["x-bin"] == b"\x00\xff"


def test_a_reply_may_carry_trailers(served, take):
    lane, method, _ = served
    future = method.future(b"x", timeout=30)
    (call,) = take(lane, 1)
    lane.reply([(call, b"y")], (("x-arm", "default"),))
    assert future.result() == b"y"
    assert ("x-arm", "default") in [(key, value) for key, value in future.trailing_metadata()]


def test_take_is_bounded_and_comes_back_with_nothing_in_time(served, take):
    lane, method, _ = served
    assert lane.take(5, 0.01) == []
    waiting = [method.future(b"x", timeout=30) for _ in range(12)]
    calls = take(lane, 1)
    assert len(calls) == 1
    while len(calls) < 12:
        got = lane.take(5, 5)
        assert 0 < len(got) <= 5
        calls += got
    lane.reply([(call, b"") for call in calls])
    assert [future.result() for future in waiting] == [b""] * 12


def test_an_answer_to_a_caller_that_left_harms_nobody(served, take):
    lane, method, _ = served
    gone, stays = method.future(b"gone", timeout=30), method.future(b"stays", timeout=30)
    calls = take(lane, 2)
    gone.cancel()
    lane.reply([(call, call.message) for call in calls])
    assert stays.result() == b"stays"


def test_what_was_taken_is_answered_although_the_server_stops(served, take):
    lane, method, stop = served
    waiting = [method.future(b"x", timeout=30) for _ in range(8)]
    calls = take(lane, 8)
    stopped = stop()
    lane.take(1, 0.05)
    assert not lane.is_closed()
    lane.reply([(call, b"done") for call in calls])
    assert [future.result() for future in waiting] == [b"done"] * 8
    while not lane.is_closed():
        lane.take(1, 0.05)
    assert stopped.wait(10)


def test_without_grpcios_private_layer_the_public_one_serves(monkeypatch):
    monkeypatch.delattr(fast_lane.cygrpc, "SendMessageOperation")
    server = grpc.server(futures.ThreadPoolExecutor(1))
    assert "lacks SendMessageOperation" in (fast_lane.fast_lane_problem(server) or "")
    assert open_lane(server, "fast").kind == "standard"
