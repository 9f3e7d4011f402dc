"""
Opens the lane of a server: the fast one, or the standard one where grpcio's private layer is not as expected.

`FastLane` polls a completion queue of gRPC core itself, `StandardLane` uses grpc's public API. The same tests run on both.
"""

from __future__ import annotations

import grpc
import structlog

from gateway.protocol.services import INFER_METHOD, STREAM_METHOD
from gateway.serving.lane.call import Call, Lane, OnGone, Trailers
from gateway.serving.lane.fast import FastLane, fast_lane_problem
from gateway.serving.lane.standard import STANDARD_THREADS, StandardLane

__all__ = ["STANDARD_THREADS", "Call", "FastLane", "Lane", "OnGone", "StandardLane", "Trailers", "open_lane"]
_log = structlog.get_logger("interlock.lane")


def open_lane(
    server: grpc.Server,
    kind: str = "fast",
    method: str = INFER_METHOD,
    *,
    stream_method: str = STREAM_METHOD,
    max_stream_age_s: float = 0.0,
) -> FastLane | StandardLane:
    """
    Returns a lane for ``method`` and the bidirectional ``stream_method`` ("" for none), on a server that is not started.
    ``fast`` falls back to ``standard``, with a warning in the log, if grpcio's private layer is not as `fast` expects.
    ``max_stream_age_s``: seconds that a stream may be open, 0 for no limit.
    """
    if kind == "fast":
        problem = fast_lane_problem(server)
        if problem is None:
            return FastLane(server, method, stream_method, max_stream_age_s)
        _log.warning("fast_lane_unavailable", problem=problem, lane="standard")
    return StandardLane(server, method, stream_method, max_stream_age_s)
