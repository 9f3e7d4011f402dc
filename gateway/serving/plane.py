"""
The data plane of a worker: builds the request path and runs its loop.

One thread, the lane's, takes calls, routes them and runs short models. It routes a whole round of calls by one immutable
`RoutingTable`, without a lock, and then leases each version for its requests. If a version was retired in between, the
lease is refused and its requests are routed again by the newer table.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

import structlog

from gateway.clock import Clock
from gateway.contract.counts import Telemetry
from gateway.contract.desired import Region
from gateway.contract.predictions import PredictionBatch
from gateway.contract.traces import RequestTrace
from gateway.errors import NotReady
from gateway.runtime.process_memory import resident
from gateway.runtime.scheduling import in_foreground
from gateway.serving.account import Accounting
from gateway.serving.arm import Arm
from gateway.serving.counters import Counters
from gateway.serving.dispatch import Dispatcher
from gateway.serving.intake import Intake
from gateway.serving.lane.call import Call, Lane
from gateway.serving.on_demand.parking import Ask, Parking
from gateway.serving.pipeline import Pipeline
from gateway.serving.prediction_records import PredictionIds, Records
from gateway.serving.refusals import Describe, Refusals
from gateway.serving.route import Route
from gateway.serving.shadow.mirror import Mirror
from gateway.serving.shared_memory.regions import OpenRegions
from gateway.serving.stages import Routed
from gateway.serving.table import RoutingTable, compile_table
from gateway.settings.sections import PredictionSettings, RequestSettings
from gateway.telemetry.worker_tracing import Tracing
from gateway.versions.loaded import LoadedVersion
from gateway.versions.recent_inputs import RecentInputs
from gateway.versions.snapshot import Snapshot

TAKE_TIMEOUT_S = 0.2  # seconds that the lane waits for calls before it checks whether it is closed
MAX_REROUTES = 8  # times that a request is routed again because its version was retired meanwhile
MAX_CALLS = 256  # calls taken from the lane at once
SWITCH_INTERVAL_S = 0.0001  # seconds that a thread back from the runtime waits for the GIL; Python's default is 5 ms
# Seconds. While all calls are for overloaded queues, refusals are gathered: each by itself takes the core from a run, which
# costs a quarter of a millisecond, and the requests that are accepted wait for longer anyway.
OVERLOADED_PAUSE_S = 0.002
_log = structlog.get_logger("interlock.serving")


class DataPlane:
    """
    The request path. ``epoch`` and ``incarnation`` are the worker's (`contract.observed.Hello`). ``describe`` turns an error
    into its gRPC code, message and trailers. ``recent`` is filled with inputs of recent requests.
    """

    def __init__(
        self,
        requests: RequestSettings,
        predictions: PredictionSettings,
        *,
        epoch: int,
        incarnation: str,
        describe: Describe,
        tracing: Tracing,
        recent: RecentInputs,
        clock: Clock,
        seed: int | None = None,
    ) -> None:
        self._requests, self._incarnation, self._describe = requests, incarnation, describe
        self._tracing, self._recent, self._clock, self._seed = tracing, recent, clock, seed
        self.counters = Counters()
        self._ids = PredictionIds(epoch)
        self._records = Records(epoch, predictions.prediction_sample)
        self._regions = OpenRegions(is_on=requests.shared_memory)
        self._mirror = Mirror(self._route_of, self.counters.shadow, self._is_busy, seed=seed)
        self._table = RoutingTable()
        self._ask: Ask | None = None
        self._parking: Parking | None = None
        self._is_lane_full = False  # more calls are ready than one round takes: shadows give way
        self._thread: threading.Thread | None = None
        self._lane: Lane
        self._intake: Intake
        self._dispatcher: Dispatcher
        self._refusals: Refusals

    # ---- from the worker --------------------------------------------------------------------------------------------

    def publish(self, snapshot: Snapshot) -> None:
        """Routes by this snapshot from now on: one assignment."""
        self._table = compile_table(snapshot, self._table, self.counters.arm)
        self._recent.forget_others(snapshot.desired)

    def hold_regions(self, regions: tuple[Region, ...]) -> None:
        """Opens the shared memory that requests may name from now on."""
        self._regions.update(regions)

    def load_on_demand(self, ask: Ask) -> None:
        """Has requests wait for versions that they name while ``ask`` has control load them. Called before `serve`."""
        self._ask = ask

    # ---- serving ----------------------------------------------------------------------------------------------------

    def serve(self, lane: Lane) -> None:
        """Starts to serve the lane, which has been started, in a thread of its own."""
        self._lane = lane
        self._refusals = refusals = Refusals(lane, self._describe, self.counters, self._tracing)
        accounting = Accounting(self._records, self._recent, self._tracing)
        pipeline = Pipeline(lane, self._ids, refusals, accounting, self._mirror.offer)
        self._dispatcher = Dispatcher(lane, pipeline, refusals)
        if self._ask is not None:
            self._parking = Parking(lane, self._ask, refusals, self._clock)
        park = self._parking.park if self._parking is not None else None
        self._intake = Intake(
            refusals,
            self._regions,
            self._tracing,
            unit_header=self._requests.unit_header,
            seed=self._seed,
            park=park,
        )
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._mirror.start()
        self._thread = threading.Thread(target=self._loop, name="lane", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the lane is closed and every call taken from it is answered. The server must have been stopped."""
        if self._thread is not None:
            self._thread.join()
        self._mirror.stop()

    def _loop(self) -> None:
        in_foreground()
        lane, parking = self._lane, self._parking
        while not lane.is_closed():
            calls = lane.take(MAX_CALLS, TAKE_TIMEOUT_S if parking is None else parking.poll_s)
            self._is_lane_full = len(calls) >= MAX_CALLS
            try:
                if parking is not None and parking.parked:
                    calls += parking.due(self._table)
                if self._serve_round(calls):
                    time.sleep(OVERLOADED_PAUSE_S)
            except Exception as error:  # the loop's supervisor: without this thread the worker would answer nobody
                _log.error("lane_failed", calls=len(calls), exc_info=error)
            del calls  # the answered must not wait here for the next round
        if parking is not None:
            parking.close()
        lane.close()

    def _serve_round(self, calls: list[Call]) -> bool:
        """Routes and dispatches the calls of one round. Returns whether all were for overloaded queues."""
        received_ns = time.perf_counter_ns()
        table, route = self._table, self._intake.route
        by_version: dict[LoadedVersion, list[Routed]] = {}
        for call in calls:
            request = route(call, table, received_ns)
            if request is not None:
                version = request.arm.version
                if version in by_version:
                    by_version[version].append(request)
                else:
                    by_version[version] = [request]
        for version, requests in by_version.items():
            retired = self._dispatcher.dispatch(version, requests)
            if retired:
                self._route_again(retired)
        return bool(by_version) and all(map(self._dispatcher.is_overloaded, by_version))

    def _route_again(self, requests: Sequence[Routed]) -> None:
        """Routes requests by the newer table: their version was retired between routing and leasing."""
        for request in requests:
            again: Routed | None = request
            for _ in range(MAX_REROUTES):
                again = self._intake.route(request.received.call, self._table, request.received.received_ns)
                if again is None or not self._dispatcher.dispatch(again.arm.version, [again]):
                    break
            else:
                error = NotReady(f"model {request.received.signature.model!r}: routes keep changing")
                self._refusals.refuse(request.received, request.arm, error)

    def _route_of(self, model: str) -> Route[Arm] | None:
        return self._table.routes.get(model)

    def _is_busy(self, arm: Arm) -> bool:
        return self._is_lane_full or self._dispatcher.is_overloaded(arm.version)

    # ---- what the worker reports ------------------------------------------------------------------------------------

    def telemetry(self) -> Telemetry:
        """Returns the counts since the start. ``loads`` is empty: the version manager knows them."""
        counters, memory = self.counters, resident()
        return Telemetry(
            incarnation=self._incarnation,
            arms=counters.used_arms(),
            shadows=tuple(counters.shadows.values()),
            not_routed=dict(counters.not_routed),
            in_flight=self._table.in_flight(),
            rss_bytes=memory.private_bytes + memory.mapped_bytes,
            private_bytes=memory.private_bytes,
            loads={},
            predictions_dropped=self._records.dropped,
            traces_dropped=self._tracing.dropped,
            parked=self._parking.parked if self._parking is not None else 0,
        )

    def take_predictions(self) -> list[PredictionBatch]:
        """Returns the predictions since the last call, for the prediction log."""
        return self._records.take()

    def take_traces(self) -> list[RequestTrace]:
        """Returns the traced requests that have ended since the last call."""
        return self._tracing.take()
