"""The bound on calls under way per connection: clients hold back what is more, and no call of theirs fails for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
import pytest

from gateway.protocol.services import INFER_METHOD
from gateway.serving.lane.opening import Call, Lane, open_lane
from gateway.serving.lane.server import listen, make_server
from gateway.settings.sections import DataPortSettings

LIMIT = 4
Take = Callable[[Lane, int], list[Call]]


@pytest.fixture(params=["fast", "standard"])
def bounded(request: pytest.FixtureRequest) -> Iterator[tuple[Lane, str]]:
    """(lane, address) of a server that allows so many calls on a connection."""
    server = make_server(DataPortSettings(max_concurrent_streams=LIMIT), threads=32)
    lane = open_lane(server, request.param)
    address = listen(server, "127.0.0.1:0")
    server.start()
    lane.start()
    yield lane, address
    stopped = server.stop(5)
    lane.server_stopped()
    while not lane.is_closed():
        assert not lane.take(10, 0.05)
    assert stopped.wait(10)
    lane.close()


def test_more_calls_than_the_bound_come_as_others_end_and_none_fails(bounded: tuple[Lane, str], take: Take) -> None:
    lane, address = bounded
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(10)
        method = channel.unary_unary(INFER_METHOD)
        first = method.future(b"", timeout=60)
        lane.reply([(call, b"") for call in take(lane, 1)])
        assert first.result() == b""  # so the client knows the bound
        answers = [method.future(b"%d" % number, timeout=60) for number in range(50 * LIMIT)]
        seen: set[bytes] = set()
        while len(seen) < len(answers):
            calls = take(lane, 1)
            calls += lane.take(10 * LIMIT, 0.0)
            assert len(calls) <= LIMIT
            seen.update(call.message for call in calls)
            lane.reply([(call, call.message) for call in calls])
        assert [answer.result() for answer in answers] == [b"%d" % number for number in range(len(answers))]


def test_each_connection_has_a_bound_of_its_own(bounded: tuple[Lane, str], take: Take) -> None:
    lane, address = bounded
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as one, grpc.insecure_channel(address, options) as other:
        answers = [c.unary_unary(INFER_METHOD).future(b"", timeout=60) for c in (one, other) for _ in range(LIMIT)]
        calls = take(lane, 2 * LIMIT)
        lane.reply([(call, b"") for call in calls])
        assert [answer.result() for answer in answers] == [b""] * len(answers)
