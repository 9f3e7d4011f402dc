"""
The data plane of a worker: takes calls from the lane, routes them, has them run in batches, mirrors what has a shadow.

One thread (the lane's) takes and routes; it also runs models that were measured to be short. A request is routed without
a lock: it reads one immutable `ServingTable`. Choosing and leasing are one step, and a version that was retired in
between refuses the lease, upon which the request is routed again by the newer table.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from dataclasses import dataclass, field

import structlog

from gateway.api.status_codes import Refusal, describe
from gateway.clock import Clock
from gateway.contract.counts import ArmCounts, ShadowCounts, Telemetry
from gateway.contract.desired import Region
from gateway.contract.predictions import PredictionBatch
from gateway.contract.traces import RequestTrace
from gateway.errors import GatewayError, ModelNotFound, NotReady, Overloaded
from gateway.runtime.halt import Halt
from gateway.runtime.process_memory import resident
from gateway.runtime.scheduling import in_foreground
from gateway.runtime.session import Array
from gateway.serving.execute import Execution
from gateway.serving.grouping import grouped
from gateway.serving.item import Item, decode_inputs
from gateway.serving.lane.opening import Call, Lane
from gateway.serving.oip.codec import NO_PARAMETERS, Decoder, Parameters, check_typed
from gateway.serving.on_demand.parking import Ask, OnDemand
from gateway.serving.overload.runner import Runner
from gateway.serving.prediction_records import PredictionIds, Records
from gateway.serving.recent_inputs import RecentInputs
from gateway.serving.route import CANDIDATE, DEFAULT, SPACE, Route, position
from gateway.serving.served import Served, Target
from gateway.serving.shadow.mirror import Copy, Mirror
from gateway.serving.shared_memory.placing import take_inputs
from gateway.serving.shared_memory.regions import Regions
from gateway.serving.table import ServingTable, compile_table
from gateway.telemetry.tracing import Tracing
from gateway.versions.loader import OnnxLoader, resident_bytes
from gateway.versions.ports import Snapshot

TAKE_TIMEOUT_S = 0.2
MAX_REROUTES = 8
UNIT_KEY = "x-unit-id"
TRAILERS_KEY = "x-prediction-metadata"
TRACE_KEY = "traceparent"
_ROUTED = (DEFAULT, CANDIDATE)
_ABSENT = (ModelNotFound, NotReady)  # what the table says of a version that cannot be leased
SWITCH_INTERVAL_S = 0.0001  # a thread back from the runtime waits this long for the GIL; Python's own default is 5 ms
# While all that comes is for overloaded lines, it is answered together: each refusal by itself takes the core from a run, which
# costs a quarter of a millisecond, and those who are let in wait for longer anyway.
OVERLOADED_PAUSE_S = 0.002
_log = structlog.get_logger("interlock.plane")


@dataclass(frozen=True, slots=True)
class PlaneConfig:
    """
    ``max_calls``: most calls taken from the lane at once. ``threads``: intra-op threads of a model. ``sample_rate`` (0 to
    1): share of predictions recorded for feedback. ``unit_key``: the metadata key that carries the unit id.
    ``is_shared_memory``: tensors may lie in shared memory.
    """

    max_calls: int = 256
    threads: int = 1
    sample_rate: float = 1.0
    unit_key: str = UNIT_KEY
    is_shared_memory: bool = False


@dataclass(slots=True)
class Counters:
    """Every counter of this worker, kept when a version goes: sums never fall."""

    arms: dict[tuple[str, int, str], ArmCounts] = field(default_factory=dict)
    shadows: dict[tuple[str, int, int], ShadowCounts] = field(default_factory=dict)
    not_routed: dict[str, int] = field(default_factory=dict)

    def arm(self, model: str, version: int, arm: str) -> ArmCounts:
        """The counters of a version in one arm."""
        return self.arms.setdefault((model, version, arm), ArmCounts(model, version, arm))

    def used_arms(self) -> tuple[ArmCounts, ...]:
        """Those that counted anything. Once used, always used: what is left out is all zeros, so totals stay whole."""
        return tuple(arm for arm in tuple(self.arms.values()) if arm.requests or arm.executions)

    def shadow(self, model: str, primary: int, shadow: int) -> ShadowCounts:
        """The counters of a pair of primary and shadow."""
        return self.shadows.setdefault((model, primary, shadow), ShadowCounts(model, primary, shadow))


class DataPlane:
    """See the module. ``epoch`` and ``incarnation`` are the worker's, as told in `fleet.Hello`."""

    def __init__(
        self, config: PlaneConfig, *, epoch: int, incarnation: str, tracing: Tracing, clock: Clock, seed: int | None = None
    ) -> None:
        self._config = config
        self._incarnation = incarnation
        self._tracing, self._traced_share = tracing, tracing.share
        self._ids = PredictionIds(epoch)
        self._records = Records(epoch, config.sample_rate)
        self.counters = Counters()
        self._recent = RecentInputs()
        self.loader = OnnxLoader(config.threads, self.counters.arm, self._recent)
        self._mirror = Mirror(self.counters.shadow)
        self._regions = Regions(is_on=config.is_shared_memory)
        self._decoder = Decoder(Item)
        self._read_keys = frozenset((config.unit_key, TRACE_KEY, TRAILERS_KEY))
        self._random = random.Random(seed).random
        self._table = ServingTable()
        self._on_demand: OnDemand | None = None
        self._ask: Ask | None = None
        self._is_lane_full = False  # more is ready than one round takes: shadows wait for better times
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._lane: Lane
        self._execution: Execution

    # ---- from the lifecycle -----------------------------------------------------------------------------------------

    def publish(self, snapshot: Snapshot) -> None:
        """Serves by this snapshot from now on: one assignment."""
        self._table = compile_table(snapshot, self._table)
        self._recent.forget_others(snapshot.desired)

    def hold_regions(self, regions: tuple[Region, ...]) -> None:
        """The shared memory that requests may name from now on."""
        self._regions.hold(regions)

    def load_on_demand(self, ask: Ask) -> None:
        """Has requests wait for the versions that they name, which are asked of control; before `serve`."""
        self._ask = ask

    # ---- serving ----------------------------------------------------------------------------------------------------

    def serve(self, lane: Lane) -> None:
        """Starts to serve the lane, which has been started, in a thread of its own."""
        self._lane = lane
        self._execution = Execution(lane, self._ids, self._records, self._recent, self._tracing)
        if self._ask is not None:
            self._on_demand = OnDemand(lane, self._ask, self._fail, self._clock)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._mirror.start()
        self._thread = threading.Thread(target=self._loop, name="lane", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the lane is closed and everything taken from it is answered; the server must have been stopped."""
        if self._thread is not None:
            self._thread.join()
        self._mirror.stop()

    def _loop(self) -> None:
        in_foreground()
        lane, most, on_demand = self._lane, self._config.max_calls, self._on_demand
        while not lane.is_closed():
            calls = lane.take(most, TAKE_TIMEOUT_S if on_demand is None else on_demand.patience_s)
            self._is_lane_full = len(calls) >= most
            try:
                if on_demand is not None and on_demand.parked:
                    calls += on_demand.due(self._table)
                if self._process(calls):
                    time.sleep(OVERLOADED_PAUSE_S)
            except Exception as error:  # the loop's supervisor: without this thread the worker would answer nobody
                _log.error("lane_failed", calls=len(calls), exc_info=error)
        if on_demand is not None:
            on_demand.close()
        lane.close()

    def _process(self, calls: list[Call]) -> bool:
        """Routes and runs what came together. Whether all of it was for overloaded lines, so that the next may gather."""
        received_ns = time.perf_counter_ns()
        table = self._table
        by_version: dict[Served, list[Item]] = {}
        for call in calls:
            item = self._admit(call, table, received_ns)
            if item is not None:
                served = item.target.served
                if served in by_version:
                    by_version[served].append(item)
                else:
                    by_version[served] = [item]
        for served, items in by_version.items():
            self._dispatch(served, items, MAX_REROUTES)
        return bool(by_version) and all(map(_is_overloaded, by_version))

    def _admit(self, call: Call, table: ServingTable, received_ns: int) -> Item | None:
        """The request of a call, routed and checked; None when it was refused."""
        item = None
        try:
            item = self._decoder.decode(call.message)
            item.call = call
            item.received_ns = item.routed_ns = received_ns
            item.expires_at = call.deadline
            self._read_metadata(item)
            item.target = target = self._choose(item, table)
            layout = item.layout
            item.binding = target.served.bindings.get(layout) or target.served.bind(layout)
            if item.binding.is_eager:
                if item.binding.regions:
                    item.arrays = take_inputs(item, self._regions)
                else:
                    item.arrays = decode_inputs(item, item.binding)
            if item.parameters is not NO_PARAMETERS:
                self._obey(item, item.parameters)
            if item.trace is not None:
                item.routed_ns = time.perf_counter_ns()
            return item
        except Exception as error:  # the edge to the status table: one request's error is that request's answer
            self._refuse(call, item, error)
            return None

    def _obey(self, item: Item, parameters: Parameters) -> None:
        """Parameters of a request that bear on how it is run and answered. Raises InvalidRequest."""
        if not parameters.is_binary:
            for name in item.binding.outputs:
                check_typed(name, item.target.served.datatypes[name])
        if parameters.timeout_us:
            item.expires_at = min(item.expires_at, time.time() + parameters.timeout_us / 1e6)

    def _read_metadata(self, item: Item) -> None:
        for key, value in item.call.metadata:
            if key in self._read_keys:
                if key == self._config.unit_key:
                    item.unit_id = str(value)
                elif key == TRACE_KEY:
                    item.traceparent = str(value)
                else:
                    item.wants_trailers = True
        coin = self._random()
        if item.traceparent is not None or coin < self._traced_share:
            item.trace = self._tracing.sample(item.traceparent, coin)

    def _choose(self, item: Item, table: ServingTable) -> Target:
        layout = item.layout
        if layout.version:
            return table.pinned(layout.model, layout.version)
        route = table.routes.get(layout.model)
        if route is None:
            raise table.missing(layout.model)
        if not route.bounds:
            return route.default
        unit = item.unit_id
        return route.choose(position(unit, route.salt) if unit else int(self._random() * SPACE))

    def _refuse(self, call: Call, item: Item | None, error: Exception) -> None:
        if item is not None and hasattr(item, "target"):
            self._execution.refuse(item, error)
            return
        if self._on_demand is not None and item is not None and item.layout.version and isinstance(error, _ABSENT):
            try:
                self._on_demand.park(item)
                return
            except Overloaded as full:
                error = full
        self._fail(call, describe(error))

    def _fail(self, call: Call, refusal: Refusal) -> None:
        """Ends a call that reached no version."""
        code, message, trailers = refusal
        self._lane.fail(call, code, message, trailers)
        self.counters.not_routed[code.name] = self.counters.not_routed.get(code.name, 0) + 1

    def _dispatch(self, served: Served, items: list[Item], reroutes: int) -> None:
        """Leases the version for all its requests and runs them here, or hands them to the version's own thread."""
        if not served.acquire(len(items)):
            self._reroute(items, reroutes)
            return
        if served.is_inline:
            if len(items) == 1:
                self._run(served, items)
            else:
                for batch in grouped(items, served.max_rows, served.batching.preferred_rows):
                    self._run(served, batch)
            return
        runner = served.runner
        if runner is None:
            runner = served.runner = Runner(served, self._run, self._drop)
        runner.offer(items, self._lane.watch if self._on_demand is None else self._on_demand.watch)

    def _drop(self, served: Served, items: list[Item], error: GatewayError) -> None:
        """Ends requests that were leased but are not run."""
        for item in items:
            self._execution.refuse(item, error)
        served.release(len(items))

    def _reroute(self, items: list[Item], left: int) -> None:
        """The version was retired between reading the table and leasing: the newer table says who answers."""
        table = self._table
        for item in items:
            if not left:
                self._execution.refuse(item, NotReady(f"model {item.layout.model!r}: routes keep changing"))
                continue
            again = self._admit(item.call, table, item.received_ns)
            if again is not None:
                self._dispatch(again.target.served, [again], left - 1)

    def _run(self, served: Served, items: list[Item], halt: Halt | None = None) -> None:
        """Runs a batch, answers it, and offers it to the shadow."""
        try:
            outputs = self._execution.run(served, items, halt)
            route = self._table.routes.get(served.model)
            if route is not None and route.shadow is not None and outputs is not None:
                self._mirror_batch(route, route.shadow, items, outputs)
        except Exception as error:  # a mistake after the answer must end neither the lane's thread nor a version's own
            _log.error("batch_not_accounted", model=served.model, version=served.number, exc_info=error)

    def _mirror_batch(self, route: Route[Target], shadow: Target, items: list[Item], outputs: dict[str, Array]) -> None:
        kept = [index for index, item in enumerate(items) if self._is_mirrored(item, route)]
        if kept:
            is_overloaded = self._is_lane_full or _is_overloaded(items[0].target.served)
            self._mirror.offer(Copy(items, items[0].target, outputs, shadow, kept), is_overloaded=is_overloaded)

    def _is_mirrored(self, item: Item, route: Route[Target]) -> bool:
        """Whether a request is copied: those of callers who left the choice to the route, by the shadow's percentage."""
        return item.target.arm in _ROUTED and self._random() < route.shadow_fraction

    # ---- what the worker reports ------------------------------------------------------------------------------------

    def telemetry(self) -> Telemetry:
        """Counts since the start, as one value."""
        counters = self.counters
        return Telemetry(
            incarnation=self._incarnation,
            arms=counters.used_arms(),
            shadows=tuple(counters.shadows.values()),
            not_routed=dict(counters.not_routed),
            in_flight=self._table.in_flight(),
            rss_bytes=resident_bytes(),
            private_bytes=resident().private_bytes,
            loads={},  # the lifecycle's to tell
            predictions_dropped=self._records.dropped,
            traces_dropped=self._tracing.dropped,
            parked=self._on_demand.parked if self._on_demand is not None else 0,
        )

    def take_predictions(self) -> list[PredictionBatch]:
        """Predictions since the last call, for the prediction log."""
        return self._records.take()

    def take_traces(self) -> list[RequestTrace]:
        """Traced requests that have ended since the last call."""
        return self._tracing.take()


def _is_overloaded(served: Served) -> bool:
    """Whether more comes for a version's line than it can take."""
    runner = served.runner  # read once: it goes when the version is closed
    return runner is not None and runner.is_overloaded
