"""A lane on a real port, of either kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass

import grpc
import pytest

from gateway.protocol.services import INFER_METHOD
from gateway.serving.lane.opening import Call, Lane, open_lane


@dataclass
class ServedLane:
    """``stop`` begins a graceful stop of the server; ``method`` calls the lane's method with bytes."""

    lane: Lane
    address: str
    channel: grpc.Channel
    stop: Callable[[], threading.Event]

    @property
    def method(self) -> grpc.UnaryUnaryMultiCallable[bytes, bytes]:
        return self.channel.unary_unary(INFER_METHOD)


@pytest.fixture(params=["fast", "standard"])
def lane_server(request: pytest.FixtureRequest) -> Iterator[ServedLane]:
    """Of a kind, or (kind, maximum age of a stream). At the end, whatever was not answered is, and the lane must close."""
    kind, age_s = request.param if isinstance(request.param, tuple) else (request.param, 0.0)
    server = grpc.server(futures.ThreadPoolExecutor(32))
    port = server.add_insecure_port("127.0.0.1:0")
    lane = open_lane(server, kind, max_stream_age_s=age_s)
    assert lane.kind == kind
    server.start()
    lane.start()

    def stop() -> threading.Event:
        event = server.stop(5)
        lane.server_stopped()
        return event

    made = ServedLane(lane, f"127.0.0.1:{port}", grpc.insecure_channel(f"127.0.0.1:{port}"), stop)
    yield made
    made.channel.close()
    stopped = stop()
    while not lane.is_closed():
        for call in lane.take(10, 0.05):
            lane.reply([(call, b"")])
    assert stopped.wait(10)
    lane.close()


@pytest.fixture
def served(lane_server: ServedLane) -> tuple[Lane, grpc.UnaryUnaryMultiCallable[bytes, bytes], Callable[[], threading.Event]]:
    """(lane, method, stop)"""
    return lane_server.lane, lane_server.method, lane_server.stop


@pytest.fixture
def take() -> Callable[[Lane, int], list[Call]]:
    """``take(lane, count)``: that many calls, waiting for them."""
    return take_all


def take_all(lane: Lane, count: int) -> list[Call]:
    calls: list[Call] = []
    while len(calls) < count:
        got = lane.take(count, 5)
        assert got, f"{len(calls)} of {count} calls came"
        calls += got
    return calls
