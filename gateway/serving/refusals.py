"""Refusals: the only place that answers a request with an error. Counts and traces it too."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from gateway.errors import DeadlinePassed, Fenced
from gateway.serving.arm import Arm
from gateway.serving.counters import Counters
from gateway.serving.lane.call import Call, Lane, Refusal
from gateway.serving.request_traces import refusal_trace
from gateway.serving.stages import Received
from gateway.telemetry.worker_tracing import Tracing
from gateway.versions.loaded import LoadedVersion

EXPIRED = DeadlinePassed("the deadline passed while the request was queued")
Describe = Callable[[BaseException], Refusal]


def fence_of(version: LoadedVersion, now: float) -> Fenced | None:
    """Returns the error of a version's calls at ``now`` (Unix seconds) while it is fenced; None if it is not."""
    left_s = math.ceil(version.fenced_until - now)  # whole seconds, so that many refusals are alike
    if left_s <= 0:
        return None
    return Fenced(
        f"model {version.model} v{version.number} ends its process again and again and takes no calls for {left_s} s: "
        "try again then, and not before; `interlock unfence` ends it early",
        retry_after_s=float(left_s),
        model=version.model,
        version=version.number,
    )


class Refusals:
    """
    Ends calls with errors. ``describe`` turns an error into its gRPC code, message and trailers
    (`gateway.api.status_codes`). Thread-safe.
    """

    def __init__(self, lane: Lane, describe: Describe, counters: Counters, tracing: Tracing) -> None:
        self._lane, self._describe, self._counters, self._tracing = lane, describe, counters, tracing
        self._counting = threading.Lock()  # the lane's thread and a version's own refuse requests of one version

    def refuse(self, request: Received, arm: Arm, error: BaseException) -> None:
        """Ends a request that was routed to ``arm``."""
        code, message, trailers = self._describe(error)
        self._lane.fail(request.call, code, message, trailers)
        with self._counting:
            arm.count(code.name)
        if request.trace is not None or self._tracing.may_take_error(time.time_ns()):
            self._tracing.emit(refusal_trace(request, arm, code.name, message))

    def refuse_unrouted(self, call: Call, error: BaseException) -> None:
        """Ends a call that reached no version. Only the lane's thread does."""
        code, message, trailers = self._describe(error)
        self._lane.fail(call, code, message, trailers)
        not_routed = self._counters.not_routed
        not_routed[code.name] = not_routed.get(code.name, 0) + 1
