"""A stream ends at the connection's maximum age, after all that was received is answered; younger ones stay."""

from __future__ import annotations

import queue
import time

import grpc
import pytest

from gateway.protocol.services import STREAM_METHOD
from gateway.serving.lane.open_streams import NEVER, Streams
from gateway.serving.lane.stream import LAST_CHANCE_S, QUIET_S, TOO_OLD, Stream


class Recorded(Stream):
    """Notes what it was told."""

    __slots__ = ("advanced",)

    def __init__(self) -> None:
        super().__init__(NEVER, ())
        self.advanced = 0

    def _advance(self) -> None:
        self.advanced += 1


def aged(seconds: float) -> Recorded:
    stream = Recorded()
    stream.started_at -= seconds
    return stream


def test_only_streams_of_the_maximum_age_are_ended():
    streams, old, young = Streams(10.0), aged(11), aged(9)
    streams.add(old)
    streams.add(young)
    streams.tend(time.monotonic())
    assert (old.reason, old.advanced) == (TOO_OLD, 1)
    assert (young.reason, young.advanced) == ("", 0)
    assert streams.due_at < NEVER


def test_without_a_maximum_age_nothing_is_ever_due():
    streams = Streams(0)
    streams.add(aged(1e6))
    assert streams.due_at == NEVER


def test_one_that_is_never_idle_is_refused_messages_after_a_last_chance():
    stream = aged(0)
    stream.end("reason")
    assert stream.has_room
    stream.ending_since -= LAST_CHANCE_S
    stream.end("another")
    assert not stream.has_room
    assert stream.reason == "reason"


def test_an_end_waits_until_nothing_has_come_for_a_while():
    stream = aged(0)
    for _ in range(2):
        stream.admit(b"message").answer = b"answer"
        stream.end("reason")
        assert stream.next_answer() == b"answer"
        stream.end("reason")
        assert not stream.may_finish
        stream.quiet_since -= QUIET_S
        stream.end("reason")
        assert stream.may_finish


@pytest.mark.parametrize("lane_server", [("fast", 0.3), ("standard", 0.3)], indirect=True)
def test_an_idle_stream_ends_at_its_age_and_its_client_may_open_another(lane_server):
    for _ in range(2):
        outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        answers = lane_server.channel.stream_stream(STREAM_METHOD)(iter(outgoing.get, b""))
        until = time.monotonic() + 10
        while not answers.done() and time.monotonic() < until:
            assert lane_server.lane.take(1, 0.05) == []
        outgoing.put(b"")
        assert answers.code() is grpc.StatusCode.UNAVAILABLE
        assert answers.details() == TOO_OLD
