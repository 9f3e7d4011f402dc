"""
Upkeep: a worker's loop beside serving. It follows the desired state and reports the observed one.

Only this loop's thread drives the version manager and sends observed states, counts, predictions and traces, so control
receives them in order. It is not on the request path: a control process that stops reading delays nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.contract.counts import Telemetry
from gateway.contract.desired import DesiredState, Region
from gateway.contract.handshake import Hello
from gateway.contract.link import Link
from gateway.contract.observed import Observed, Report, Reported
from gateway.contract.predictions import PredictionBatch
from gateway.contract.traces import RequestTrace, Traces
from gateway.serving.lane.call import Lane
from gateway.telemetry.limited_log import LimitedLog
from gateway.versions.loaded import Loader
from gateway.versions.manager import Executor, VersionManager
from gateway.versions.snapshot import Snapshot
from gateway.worker.connections import Connections
from gateway.worker.control_link import ControlLink
from gateway.worker.prediction_buffer import PredictionBuffer

DRAIN_POLL_S = 0.01  # seconds between two ticks while versions drain, as the last lease does not notify the manager
STOP_TIMEOUT_S = 5.0  # seconds that the loop has to end
_limited = LimitedLog(structlog.get_logger("interlock.worker"))


class Plane(Protocol):
    """The data plane, as far as a worker needs it. `gateway.serving.plane.DataPlane` is the real one."""

    def serve(self, lane: Lane) -> None:
        """Serves the calls of a started lane."""
        ...

    def load_on_demand(self, ask: Callable[[str, str, float], None]) -> None:
        """Has requests wait while ``ask(model, version, timeout_s)`` has control load a version. Called before `serve`."""
        ...

    def stop(self) -> None:
        """Returns when every call taken from the lane is answered. Called after the server was stopped."""
        ...

    def publish(self, snapshot: Snapshot) -> None:
        """Serves by this snapshot from now on."""
        ...

    def hold_regions(self, regions: tuple[Region, ...]) -> None:
        """The shared memory that requests may name from now on."""
        ...

    def telemetry(self) -> Telemetry:
        """Counts since the start."""
        ...

    def take_predictions(self) -> list[PredictionBatch]:
        """Predictions since the last call."""
        ...

    def take_traces(self) -> list[RequestTrace]:
        """Traced requests that have ended since the last call."""
        ...


class Upkeep:
    """
    Calls ``publish`` with every snapshot. ``report_period_s``: seconds between two reports of counts and predictions.
    `has_state` is set when a desired state was applied, `is_settled` when every version that it routes is READY or FAILED.
    """

    def __init__(
        self,
        plane: Plane,
        loader: Loader,
        *,
        connect: Callable[[], Link],
        hello: Hello,
        publish: Callable[[Snapshot], None],
        executor: Executor,
        clock: Clock,
        report_period_s: float,
        isolated_deaths: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._plane, self._clock, self._period_s = plane, clock, report_period_s
        self._incarnation, self._isolated_deaths = hello.incarnation, isolated_deaths
        self.link = ControlLink(connect, hello, on_connected=self._connected, on_message=self._take)
        self.manager = VersionManager(loader, publish, self._announce, executor, clock, wake=self._wake_up)
        self.has_state = threading.Event()
        self.is_settled = threading.Event()
        self._predictions = PredictionBuffer()
        self.connections = Connections(clock)
        self._lock = threading.Lock()
        self._desired: DesiredState | None = None
        self._tokens: list[int] = []
        self._is_observed_due = False
        self._is_serving = False
        self._reported_at = float("-inf")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Connects to control and starts to follow it."""
        self._thread.start()
        self.link.start()

    def stop(self) -> None:
        """Sends the last counts, predictions and traces, if control is there, and closes the connection."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)
        self.link.stop()

    def desire_first(self, desired: DesiredState) -> None:
        """Applies a desired state from disk, unless control has sent one already."""
        with self._lock:
            if self._desired is None and not self.has_state.is_set():
                self._desired = desired
        self._wake.set()

    def show_serving(self, is_serving: bool) -> None:
        """Tells control whether the port takes requests."""
        self._is_serving = is_serving
        self._observe_soon()

    # ---- called by other threads -------------------------------------------------------------------------------------

    def _take(self, message: DesiredState | Report) -> None:
        with self._lock:
            if isinstance(message, DesiredState):
                self._desired = message  # replaces one that was not applied yet: the last one wins
            else:
                self._tokens.append(message.token)
        self._wake.set()

    def _connected(self) -> None:
        self._reported_at = float("-inf")
        self._observe_soon()

    def _observe_soon(self) -> None:
        with self._lock:
            self._is_observed_due = True
        self._wake.set()

    def _wake_up(self) -> None:
        self._wake.set()

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.is_set():
            self._wake.wait(pause_s)
            self._wake.clear()
            try:
                pause_s = self.step()
            except Exception as error:  # the loop's supervisor: the next step tries again
                _limited.error("upkeep_failed", exc_info=error)
                pause_s = self._period_s
        self.link.send(self._observed(self.manager.observed()))
        self._report_counts()

    def step(self) -> float:
        """Does what is due. Returns the seconds until something may be due again."""
        with self._lock:
            desired, self._desired = self._desired, None
            tokens, self._tokens = self._tokens, []
            is_observed_due, self._is_observed_due = self._is_observed_due, False
        if desired is not None:
            self._plane.hold_regions(desired.regions)  # before the revision is reported as applied
            self.manager.apply(desired)
            self.has_state.set()
        is_draining = self.manager.tick()
        if self.has_state.is_set() and not self.is_settled.is_set() and self.manager.is_settled():
            self.is_settled.set()
        if is_observed_due or tokens:
            self.link.send(self._observed(self.manager.observed()))
        due_in_s = self._reported_at + self._period_s - self._clock.monotonic()
        if tokens or due_in_s <= 0:
            self._report_counts(is_asked=bool(tokens))
            due_in_s = self._period_s
        for token in tokens:
            self.link.send(Reported(token))
        return min(due_in_s, DRAIN_POLL_S) if is_draining else due_in_s

    def _announce(self, observed: Observed) -> None:
        self.link.send(self._observed(observed))

    def _observed(self, observed: Observed) -> Observed:
        return replace(observed, is_serving=self._is_serving)

    def _report_counts(self, *, is_asked: bool = False) -> None:
        """Sends counts, then predictions and traces, of which a bounded number is kept while control is away."""
        self._reported_at = self._clock.monotonic()
        self._predictions.add(self._plane.take_predictions())
        counts = self._plane.telemetry()
        self.link.send(
            replace(
                counts,
                incarnation=self._incarnation,
                loads=self.manager.loads(),
                isolated_deaths=self._isolated_deaths(),
                connections=self.connections.count(is_fresh=is_asked),
                predictions_dropped=counts.predictions_dropped + self._predictions.dropped,
            )
        )
        self._predictions.send(self.link.send)
        if self.link.is_connected and (traces := self._plane.take_traces()):
            self.link.send(Traces(tuple(traces)))
