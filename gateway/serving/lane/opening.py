"""
Lanes: how the calls of the hot methods get from gRPC to the request path and back, in batches.

A lane hands over every call that is ready (`take`) and takes the answers (`reply`, `fail`); nothing above knows what is
under it. `FastLane` polls a completion queue of gRPC core itself; `StandardLane` is the same on grpc's public API, and the
same contract tests run on both. This module is the door: what the rest of the gateway imports.
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
    A lane for ``method`` and, bidirectional, ``stream_method`` ("": none) on a server that has not been started. ``fast``
    falls back to ``standard``, with a warning in the log, where grpcio's private layer is not as `fast_lane` knows it.
    ``max_stream_age_s``: how long a stream may be open, 0 = for ever.
    """
    if kind == "fast":
        problem = fast_lane_problem(server)
        if problem is None:
            return FastLane(server, method, stream_method, max_stream_age_s)
        _log.warning("fast_lane_unavailable", problem=problem, lane="standard")
    return StandardLane(server, method, stream_method, max_stream_age_s)
