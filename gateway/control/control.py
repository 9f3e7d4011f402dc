"""The control process: builds its parts and keeps them running. Each part documents what it does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import structlog

from gateway.clock import Clock
from gateway.contract import link
from gateway.contract.counts import Telemetry
from gateway.contract.handshake import Hello
from gateway.contract.predictions import PredictionBatch
from gateway.contract.questions import Answer, Ask
from gateway.contract.traces import Traces
from gateway.control.answers import Answering
from gateway.control.catalog import uploads
from gateway.control.catalog.layout_store import FORMAT, BuildLayout, LayoutStore
from gateway.control.catalog.machine import layout_key, memory_bytes
from gateway.control.catalog.memory_budget import MemoryBudget, limit_of
from gateway.control.catalog.on_demand_loading import OnDemandLoading
from gateway.control.catalog.registration import Registrations, Trial
from gateway.control.catalog.row_proofs import RowProofs
from gateway.control.catalog.shared_regions import SharedRegions
from gateway.control.changes.aliases import Aliases
from gateway.control.changes.operations import Operation, Operations
from gateway.control.changes.rolling_restart import Restarts
from gateway.control.changes.traffic import Traffic
from gateway.control.changes.two_phase import TwoPhase
from gateway.control.crashes.containment import Containment
from gateway.control.desired.state_store import DesiredStateStore
from gateway.control.fleet.workers import Fleet
from gateway.control.limits import ControlLimits
from gateway.control.observe.gateway_status import GatewayStatus, gateway_status, readiness
from gateway.control.observe.http import HealthReport
from gateway.control.observe.metrics_facts import (
    SWAPS,
    QualityCache,
    known_versions,
    route_facts,
    version_facts,
    worker_facts,
)
from gateway.control.observe.prediction_recorder import PredictionRecorder
from gateway.quality.prediction_store import PredictionStore
from gateway.quality.vocabulary import vocabulary_of
from gateway.runtime.layout_rewrite import build
from gateway.settings.paths import Home
from gateway.settings.values import Settings
from gateway.telemetry.aggregate import Aggregate
from gateway.telemetry.descriptor_limit import explained
from gateway.telemetry.facts import FeedbackCounts, MetricsFacts, SwapRecorder
from gateway.telemetry.limited_log import LimitedLog
from gateway.telemetry.otel import TraceExport
from gateway.telemetry.prometheus import render_metrics
from gateway.telemetry.series_life import SeriesLife
from registry.errors import RegistryError
from registry.examples import Example
from registry.registry import Registry
from registry.versions import Facts, ModelVersion, Prediction

REFRESH_S = 5.0  # seconds between two reads of the registry, in which other processes may have written
STOP_S = 5.0
ACCEPT_PAUSE_S = 0.1  # seconds between two attempts to accept a worker while the system refuses it

_log = structlog.get_logger("interlock.control")
_limited = LimitedLog(_log)


def run_trial(path: Path, prediction: Prediction | None, examples: Sequence[Example], *, is_urgent: bool = True) -> Facts:
    """Runs the trial in a process of its own, which leaves the processor to others if it is not ``is_urgent``."""
    from gateway.runtime.trial import trial

    return trial(path, prediction=prediction, examples=examples, is_urgent=is_urgent)


class Control:
    """
    Everything that decides what is served. ``registry``, ``traffic``, ``aliases``, ``registering``, ``restarts``,
    ``operations`` and ``fleet`` are for the services of the admin port, ``regions`` for callers' shared memory, ``loading``
    for versions that callers name, ``answers`` for questions of workers, ``containment``
    for deaths of workers. ``ask_restart()`` asks the supervisor to replace the workers.
    """

    def __init__(
        self,
        settings: Settings,
        home: Home,
        *,
        registry: Registry,
        prediction_log: PredictionStore,
        counts: Aggregate,
        clock: Clock,
        trial: Trial = run_trial,
        build_layout: BuildLayout = build,
        trace_export: TraceExport | None = None,
        ask_restart: Callable[[], None] | None = None,
        is_restarted: bool = False,
        version: str = "",
        limits: ControlLimits = ControlLimits(),
    ) -> None:
        self.settings, self.home, self.limits, self.version = settings, home, limits, version
        self.registry, self.clock = registry, clock
        self.prediction_log, self.counts = prediction_log, counts
        self.started_at = clock.now()
        self.fleet = Fleet(self, clock, expected=settings.worker_processes)
        self.layouts = LayoutStore(home.layouts, layout_key(FORMAT), clock, build=build_layout)
        self.desired = DesiredStateStore(
            registry,
            clock,
            home.desired_state,
            broadcast=self.fleet.broadcast,
            on_new_version=self._learn_vocabulary,
            keeps_regions=settings.requests.shared_memory and is_restarted,
            layouts=self.layouts,
        )
        self._swaps = SwapRecorder()
        self._quality = QualityCache(prediction_log, clock)
        self.operations = Operations(clock, history=limits.history, ended=self._ended)
        loading = settings.loading
        limit_bytes = limit_of(loading.memory_budget_bytes, memory_bytes())
        budget = MemoryBudget(limit_bytes, self.desired, self.layouts)
        two_phase = TwoPhase(loading, limits, self.fleet, self.desired, budget)
        self.traffic = Traffic(registry, self.operations, two_phase)
        self.containment = Containment(registry, self.desired, self.traffic, home.crashes, clock, is_restarted=is_restarted)
        self.aliases = Aliases(registry, self.operations, two_phase, self.fleet)
        self.regions = SharedRegions(settings.requests, limits, self.desired, two_phase)
        self.restarts = Restarts(settings, limits, self.operations, self.fleet, ask_restart)
        self.registering = Registrations(
            home, limits, registry, self.operations, self.aliases, trial=trial, lay_out=self.desired.lay_out
        )
        self.row_proofs = RowProofs(
            registry, self.desired, partial(run_trial, is_urgent=False) if trial is run_trial else trial
        )
        self.loading = OnDemandLoading(
            settings.requests.on_demand, registry, self.fleet, self.desired, clock, load_timeout_s=loading.load_timeout_s
        )
        self.answers = self._answering()
        self._recorder = PredictionRecorder(prediction_log, clock)
        self._series = SeriesLife(clock.monotonic)
        self._trace_export = trace_export or TraceExport(environ={})
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._refreshed_at = clock.monotonic()

    def _answering(self) -> Answering:
        return Answering(
            registry=self.registry,
            fleet=self.fleet,
            traffic=self.traffic,
            operations=self.operations,
            loading=self.loading,
            regions=self.regions,
            feedback=self.prediction_log,
            status=lambda: self.status(),
            counts=self.counts.merged,
            report_timeout_s=self.limits.report_timeout_s,
        )

    # ---- its life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Reads the registry, derives the desired state, and lets workers attach. Raises RegistryError, OSError."""
        self.home.control_socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        uploads.clear(self.home.uploads)
        self._recorder.start()
        state = self.desired.start()
        self.desired.collect_layouts()
        self._listener = link.listen(self.home.control_socket)
        self._listener.settimeout(None)
        threading.Thread(target=self._accept, args=(self._listener,), name="accept", daemon=True).start()
        self.loading.start()
        self.row_proofs.start()
        threading.Thread(target=self._tick_on, name="control-tick", daemon=True).start()
        _log.info("control_started", models=len(state.models), revision=state.revision, socket=str(self.home.control_socket))

    def stop(self) -> None:
        """Ends connections and waits for running operations, which end or fail. Safe to call twice."""
        self._stopping.set()
        if self._listener is not None:
            try:
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            except OSError:
                pass  # it is gone already
            self._listener.close()
            self._listener = None
        self.loading.stop()
        self.row_proofs.stop()
        self.fleet.close()
        self.restarts.stop()
        self.operations.close(STOP_S)
        self._recorder.close()
        self._trace_export.shutdown()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if self._stopping.is_set():
                    return  # closed by `stop`
                _limited.error("worker_not_accepted", error=explained(error))  # it tries again
                self._stopping.wait(ACCEPT_PAUSE_S)
                continue
            worker = link.Link(connection)
            threading.Thread(target=self.fleet.attach, args=(worker,), name="attached-worker", daemon=True).start()

    def _tick_on(self) -> None:
        while not self._stopping.wait(self.limits.tick_interval_s):
            try:
                self.tick()
            except RegistryError as error:
                _limited.error("registry_unavailable", error=str(error))
            except Exception as error:  # the edge of this loop
                _limited.error("tick_failed", exc_info=error)

    def tick(self) -> None:
        """Ends rollback windows that are over, and reads what other processes wrote to the registry."""
        if self.clock.monotonic() - self._refreshed_at >= REFRESH_S:
            self._refreshed_at = self.clock.monotonic()
            self.desired.refresh()
        self.desired.publish()
        self.row_proofs.take_in(self.fleet.view())

    # ---- what it shows ---------------------------------------------------------------------------------------------

    def status(self) -> GatewayStatus:
        """Returns the gateway's status at this moment."""
        desired = self.desired
        return gateway_status(
            desired.plans(),
            self.fleet.view(),
            self.counts.merged(),
            desired.layouts(),
            desired.facts(),
            self.containment.view(),
            self.settings.ready_models,
        )

    def is_live(self) -> HealthReport:
        """Returns that control lives, because it answers."""
        return HealthReport(True)

    def is_ready(self, models: str = "") -> HealthReport:
        """
        Returns whether callers of enough models are answered, and what is missing. ``models`` says which are enough, in the
        words of the setting ready_models; empty for the setting's own.
        """
        found = readiness(self.desired.plans(), self.fleet.view(), models or self.settings.ready_models)
        return HealthReport(found.is_ready, found.problems, tuple(asdict(one) for one in found.unready))

    def metrics(self) -> bytes:
        """Renders the page for Prometheus."""
        counts = self.prediction_log.counts()
        plans, view = self.desired.plans(), self.fleet.view()
        facts = MetricsFacts(
            merged=self._series.shown(self.counts.merged(), known_versions(plans, view)),
            workers=worker_facts(view),
            versions=version_facts(view),
            routes=route_facts(plans),
            deaths=self.containment.counts(),
            isolated_deaths=self.containment.isolated_counts(),
            swaps=self._swaps.counts(),
            quality=self._quality.facts(),
            predictions_recorded=counts.recorded,
            predictions_dropped=counts.dropped + self._recorder.dropped,
            feedback=FeedbackCounts(counts.joined_late, counts.lapsed, counts.refused_late),
            loading=self.loading.counts() if self.settings.requests.on_demand else None,
            build={"version": self.version},
        )
        return render_metrics(facts)

    def _ended(self, operation: Operation, duration_s: float) -> None:
        if operation.verb in SWAPS:
            self._swaps.record(operation.model, operation.verb, is_ok=operation.error is None, duration_s=duration_s)

    def fresh_predictions(self) -> None:
        """Waits until all predictions of the workers so far are in the prediction log, for ``report_timeout_s`` at most."""
        self.fleet.report(self.limits.report_timeout_s)
        self._recorder.flush(self.limits.report_timeout_s)

    @property
    def predictions_dropped(self) -> int:
        """Returns the number of predictions that control itself had to drop."""
        return self._recorder.dropped

    # ---- what workers say (`fleet.Listener`) -----------------------------------------------------------------------

    def joined(self, hello: Hello) -> None:
        """Announces the worker's epoch to the prediction log, and verifies what it will load."""
        self.desired.check_files()
        self.containment.joined(hello)
        self._recorder.announce(lambda log: log.know_epoch(hello.epoch, hello.incarnation))

    def counted(self, worker: int, telemetry: Telemetry) -> None:
        """Merges its counts."""
        self.counts.update(worker, telemetry)
        self.containment.counted(telemetry)

    def predicted(self, batch: PredictionBatch) -> None:
        """Queues its predictions for the prediction log."""
        self._recorder.add(batch)

    def traced(self, hello: Hello, traces: Traces) -> None:
        """Exports its traces."""
        self._trace_export.put(hello, traces)

    def left(self, hello: Hello) -> None:
        """Keeps the counts of a worker that left."""
        self.counts.forget(hello.worker, hello.incarnation)

    def asked(self, ask: Ask) -> Answer:
        """Answers a worker's question."""
        return self.answers.reply(ask)

    def _learn_vocabulary(self, version: ModelVersion) -> None:
        known = vocabulary_of(version.facts.signature, version.facts.prediction)
        if known is not None:
            self._recorder.announce(lambda log: log.know_vocabulary(version.model, version.number, known))
