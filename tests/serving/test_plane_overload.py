"""A slow model that is asked for more than it can answer, over a real port."""

from __future__ import annotations

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from plane_models import counted, rounds

from registry.deployment import Batching

ONE = np.ones((1, 4), np.float32)


def details(error: grpc.RpcError, kind: type):
    status = rpc_status.from_call(error)
    found = [detail for detail in status.details if detail.Is(kind.DESCRIPTOR)]
    message = kind()
    assert found[0].Unpack(message)
    return message


def test_a_flood_is_answered_or_refused_to_the_last_request(gate, wait_for):
    """Exactly so many are answered as the queue has room for, and every refusal says when to come again."""
    served = gate.load("loop", 1, counted(), batching=Batching(max_waiting=8, queue_target_us=0))
    gate.route("loop", 1)
    served.pace.is_inline = False
    endless = gate.start(rounds(1 << 60))
    wait_for(lambda: served.in_flight == 1 and not gate.plane._dispatcher.queued(served))
    calls = [gate.start(rounds(2)) for _ in range(20)]
    wait_for(lambda: sum(call.done() for call in calls) == 12)
    endless.cancel()
    codes = [call.code() for call in calls]
    refused = [call for call, code in zip(calls, codes, strict=True) if code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert (codes.count(grpc.StatusCode.OK), len(refused)) == (8, 12)
    for call in refused:
        assert "loop v1: 8 requests are waiting, the most allowed" in call.details()
        retry = details(call, error_details_pb2.RetryInfo).retry_delay
        pushback = dict(call.trailing_metadata())["grpc-retry-pushback-ms"]
        assert int(pushback) == retry.ToMilliseconds() > 0
        assert details(call, error_details_pb2.ErrorInfo).reason == "OVERLOADED"
    wait_for(lambda: not served.in_flight)
