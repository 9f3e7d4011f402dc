"""Ordinary methods of a server that has a lane are answered beside it, and until the server has ended."""

from __future__ import annotations

import threading
from concurrent import futures

import grpc
import pytest

from gateway.protocol.services import INFER_METHOD
from gateway.serving.lane.opening import open_lane


@pytest.mark.parametrize("kind", ["fast", "standard"])
def test_ordinary_calls_are_answered_beside_the_lane_and_while_the_server_stops(kind: str) -> None:
    may_end = threading.Event()

    def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"slow":
            may_end.wait(30)
        return request

    handler = grpc.method_handlers_generic_handler("ordinary.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    server = grpc.server(futures.ThreadPoolExecutor(40), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    lane = open_lane(server, kind)
    assert lane.kind == kind
    server.start()
    lane.start()

    def serve() -> None:
        while not lane.is_closed():
            lane.reply([(call, call.message) for call in lane.take(16, 0.2)])
        lane.close()

    serving = threading.Thread(target=serve)
    serving.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ordinary, hot = channel.unary_unary("/ordinary.Echo/Echo"), channel.unary_unary(INFER_METHOD)
        calls = [(ordinary if index % 2 else hot).future(b"%d" % index, timeout=30) for index in range(40)]
        assert [call.result() for call in calls] == [b"%d" % index for index in range(40)]
        slow = ordinary.future(b"slow", timeout=30)
        assert ordinary(b"taken", timeout=30) == b"taken"  # of the same connection, so the slow one has come too
        stopped = server.stop(20)
        lane.server_stopped()
        assert not stopped.is_set()
        may_end.set()
        assert slow.result() == b"slow"
    assert stopped.wait(30)
    serving.join(30)
    assert not serving.is_alive()
