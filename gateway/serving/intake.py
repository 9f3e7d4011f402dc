"""Intake: decodes calls, chooses the arm of each request, checks its inputs, and refuses or parks the others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from gateway.errors import ModelNotFound, NotReady
from gateway.serving.arm import Arm
from gateway.serving.batch import LARGE_BYTES, decode_inputs
from gateway.serving.lane.call import Call
from gateway.serving.oip.decode import NO_PARAMETERS, Decoder, Parameters
from gateway.serving.oip.encode import check_typed
from gateway.serving.refusals import Refusals
from gateway.serving.resolve import unrouted
from gateway.serving.route import SPACE, position
from gateway.serving.shared_memory.placing import take_inputs
from gateway.serving.shared_memory.regions import OpenRegions
from gateway.serving.stages import Received, Routed
from gateway.serving.table import RoutingTable
from gateway.telemetry.worker_tracing import Tracing

TRAILERS_KEY = "x-prediction-metadata"  # metadata key; if present, version, arm and prediction id also go out as trailers
TRACE_KEY = "traceparent"  # metadata key of the W3C trace context
ABSENT = (ModelNotFound, NotReady)  # errors of a version that is not loaded here
Park = Callable[[Received], None]


class Intake:
    """
    Turns calls into routed requests. Not thread-safe: the lane's thread owns it.

    ``unit_header`` is the metadata key of the unit id. ``park(request)`` keeps or refuses a request whose version is not loaded
    yet, or raises; None without loading on demand.
    """

    def __init__(
        self,
        refusals: Refusals,
        regions: OpenRegions,
        tracing: Tracing,
        *,
        unit_header: str,
        seed: int | None,
        park: Park | None = None,
    ) -> None:
        self._refusals, self._regions, self._park = refusals, regions, park
        self._tracing, self._traced_share = tracing, tracing.share
        self._unit_header = unit_header
        self._read_keys = frozenset((unit_header, TRACE_KEY, TRAILERS_KEY))
        self._decoder = Decoder(Received)
        self._random = random.Random(seed).random

    def route(self, call: Call, table: RoutingTable, received_ns: int) -> Routed | None:
        """Returns the request of a call, routed and checked; None when it was refused or parked."""
        request = arm = None
        try:
            request = self._decoder.decode(call.message)
            request.call = call
            request.received_ns = received_ns
            request.expires_at = call.deadline
            self._read_metadata(request)
            arm = self._choose(request, table)
            signature = request.signature
            routed = Routed(request, arm, arm.plans.find(signature) or arm.plans.make(signature))
            if routed.plan.is_eager and (arm.version.pace.is_inline or routed.plan.regions):
                self._decode(routed)  # else the version's own thread does, as it may take long
            if request.parameters is not NO_PARAMETERS:
                _obey(routed, request.parameters)
            if request.trace is not None:
                routed.routed_ns = time.perf_counter_ns()
            return routed
        except Exception as error:  # the edge to the status table: one request's error is that request's answer
            if request is None:
                self._refusals.refuse_unrouted(call, error)
            elif arm is None:
                self._not_routed(request, error)
            else:
                self._refusals.refuse(request, arm, error)
            return None

    def _read_metadata(self, request: Received) -> None:
        for key, value in request.call.metadata:
            if key in self._read_keys:
                if key == self._unit_header:
                    request.unit_id = str(value)
                elif key == TRACE_KEY:
                    request.traceparent = str(value)
                else:
                    request.wants_trailers = True
        coin = self._random()
        if request.traceparent is not None or coin < self._traced_share:
            request.trace = self._tracing.sample(request.traceparent, coin)

    def _choose(self, request: Received, table: RoutingTable) -> Arm:
        signature = request.signature
        if signature.version:
            return table.pinned(signature.model, signature.version)
        route = table.routes.get(signature.model)
        if route is None:
            raise unrouted(table.snapshot, signature.model)
        if not route.bounds:
            return route.default
        unit = request.unit_id
        return route.choose(position(unit, route.salt) if unit else int(self._random() * SPACE))

    def _decode(self, routed: Routed) -> None:
        if routed.plan.regions:
            take_inputs(routed, self._regions)
        elif len(routed.received.call.message) < LARGE_BYTES:
            routed.inputs = decode_inputs(routed.received, routed.plan)
        else:
            began_ns = time.thread_time_ns()
            routed.inputs = decode_inputs(routed.received, routed.plan)
            routed.arm.version.pace.decoded(time.thread_time_ns() - began_ns)

    def _not_routed(self, request: Received, error: Exception) -> None:
        if self._park is not None and request.signature.version and isinstance(error, ABSENT):
            try:
                self._park(request)
                return
            except Exception as refused:  # as above
                error = refused
        self._refusals.refuse_unrouted(request.call, error)


def _obey(routed: Routed, parameters: Parameters) -> None:
    """Applies the parameters that bear on how a request is run and answered. Raises InvalidRequest."""
    if not parameters.is_binary:
        for name in routed.plan.outputs:
            check_typed(name, routed.arm.version.datatypes[name])
    if parameters.timeout_us:
        request = routed.received
        request.expires_at = min(request.expires_at, time.monotonic() + parameters.timeout_us / 1e6)
