"""
The worker: builds the data port with its services, the data plane behind the lane, and the upkeep beside it.

A worker serves what control desires, and goes on serving while control is away. It listens only when its routed versions
are ready, so a restarted worker never refuses requests that its siblings on the same port serve.
"""

from __future__ import annotations

import os
import secrets
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from gateway.api.data_service import DataServices
from gateway.api.health import Health
from gateway.api.reflection import enable_reflection
from gateway.clock import Clock
from gateway.contract.desired import DesiredState, isolating
from gateway.contract.handshake import PROTOCOL, Hello
from gateway.contract.link import Link
from gateway.contract.questions import AnyAnswerValue, AnyQuestion, LoadVersionQuestion
from gateway.contract.run_notes import RunNotes
from gateway.errors import NotReady
from gateway.quality.prediction_id import EPOCHS
from gateway.runtime.scheduling import least_important, reading_the_network, starting_threads
from gateway.serving.lane.gate import LaneGate
from gateway.serving.lane.opening import STANDARD_THREADS, open_lane
from gateway.serving.lane.server import (
    begin_stop,
    listen,
    make_server,
)
from gateway.settings.values import Settings, cores
from gateway.versions.loaded import NOBODYS_NOTES, Loader
from gateway.versions.snapshot import Snapshot
from gateway.worker.state_file import read_state
from gateway.worker.upkeep import Plane, Upkeep

SERVICE_THREADS = 8  # threads for all methods but the lane's
CHECK_S = 0.05  # seconds after which a waiting start notices that the worker was stopped
GOAWAY_S = 0.03  # seconds, more than a network round trip; a stop delays answers by that much, once
_log = structlog.get_logger("interlock.worker")


@dataclass(frozen=True, slots=True)
class WorkerLife:
    """
    What this worker process is told beside the settings. ``number`` tells the workers of a gateway apart. ``restarts``
    counts the deaths after which it was started again, ``replacements`` the rolling restarts that put another process in its
    place. ``must_be_ready``: it ends instead of serving without a routed version that the process before it has not FAILED.
    ``isolate``: versions that have just ended workers; they are kept apart also if control is away and cannot say so.
    ``is_first``: it starts together with control, so it waits until control has verified the files, however long that takes.
    """

    number: int = 0
    restarts: int = 0
    replacements: int = 0
    must_be_ready: bool = False
    isolate: tuple[tuple[str, int], ...] = ()
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """
    Limits of a worker that are no settings: tests set others. ``control_wait_s``: seconds to wait for control before the
    state on disk is used. ``report_period_s``: seconds between two reports of counts to control. ``load_threads``: versions
    loaded at once. ``is_port_shared``: other workers may listen on the same port.
    """

    control_wait_s: float = 2.0
    report_period_s: float = 0.25
    load_threads: int = 1
    is_port_shared: bool = True


@dataclass(frozen=True, slots=True)
class Parts:
    """
    The parts of a worker that serve: the data plane, what loads versions for it, and the deaths of isolated ones by
    ``model|version|signal``.
    """

    plane: Plane
    loader: Loader
    isolated_deaths: Callable[[], dict[str, int]] = dict


MakeParts = Callable[[Settings, Hello, Clock], Parts]


class Worker:
    """
    ``connect`` makes a connection to control (OSError while it is away). ``state_file`` is where control writes the last
    desired state. ``notes`` tell the supervisor what ran if this process dies. `start` returns when the port takes requests,
    `stop` when no request is in flight.
    """

    def __init__(
        self,
        settings: Settings,
        life: WorkerLife,
        *,
        connect: Callable[[], Link],
        state_file: Path,
        clock: Clock,
        limits: WorkerLimits = WorkerLimits(),
        make_parts: MakeParts | None = None,
        notes: RunNotes = NOBODYS_NOTES,
    ) -> None:
        self._settings, self._life, self._limits, self._state_file = settings, life, limits, state_file
        epoch = secrets.randbelow(EPOCHS)
        hello = Hello(
            life.number,
            os.getpid(),
            uuid.uuid4().hex,
            epoch,
            settings.data_port.lane,
            life.restarts,
            life.replacements,
            clock.now(),
            PROTOCOL,
        )
        self.incarnation = hello.incarnation
        self.address = ""
        self.place = f"{life.number}/{max(settings.worker_processes, life.number + 1)}"
        self.snapshot = Snapshot()
        self.is_serving = False
        parts = (make_parts or partial(_serving_parts, notes))(settings, hello, clock)
        self._plane = parts.plane
        # Loading yields to serving. Not if ONNX Runtime makes threads for runs: they would inherit the low priority.
        yielding = least_important if model_threads(settings) == 1 else None
        self._executor = ThreadPoolExecutor(limits.load_threads, thread_name_prefix="load", initializer=yielding)
        self._health = Health()
        self._upkeep = Upkeep(
            self._plane,
            parts.loader,
            connect=connect,
            hello=hello,
            publish=self._publish,
            executor=self._executor,
            clock=clock,
            report_period_s=limits.report_period_s,
            isolated_deaths=parts.isolated_deaths,
        )
        if settings.requests.on_demand:
            self._plane.load_on_demand(self._load_version)
        self._stopping = threading.Event()
        self._port_changing = threading.RLock()  # opened and closed by different threads, at any moment
        self._services: DataServices
        self._server: Any = None
        self._lane: Any = None

    def start(self) -> None:
        """
        Follows control, and opens the port once the routed versions are ready. Raises CannotListen; NotReady if there is no
        desired state, or (``must_be_ready``) if a routed version is not ready that was before. Returns without serving if it
        is stopped meanwhile.
        """
        self._upkeep.start()
        try:
            self._wait_until_ready()
            with self._port_changing:
                if not self._stopping.is_set():
                    self._open_port()
        except BaseException:
            self._upkeep.stop()
            raise

    def stop(self, *, is_replaced: bool = False) -> None:
        """
        Drains the worker: health NOT_SERVING → ``drain_delay_s`` → no further call, calls in flight end within ``grace_s``
        → last counts and predictions to control. Safe to call twice. ``is_replaced``: another worker serves the port in its
        place, so health stays SERVING and load balancers need no time to react.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        if not is_replaced:
            self._health.drain()
            self.is_serving = False
        self._upkeep.show_serving(False)
        with self._port_changing:
            if self._server is not None:
                threading.Event().wait(0.0 if is_replaced else self._settings.data_port.drain_delay_s)
                self._close_port()
        self._upkeep.stop()
        self._upkeep.manager.apply(DesiredState(revision=0))  # frees what is loaded, in the executor's threads
        self._executor.shutdown(wait=False)
        _log.info("worker_stopped", worker=self._life.number)

    def ask(self, question: AnyQuestion, timeout_s: float) -> AnyAnswerValue:
        """Returns control's answer. Raises AskRefused with control's error; NotReady when control is unreachable."""
        return self._upkeep.link.ask(question, timeout_s)

    def _load_version(self, model: str, version: str, timeout_s: float) -> None:
        """Has control load a version. Raises AskRefused, and NotReady when control is unreachable."""
        self.ask(LoadVersionQuestion(model, version), timeout_s)

    # ---- starting and stopping ----------------------------------------------------------------------------------------

    def _wait_until_ready(self) -> None:
        upkeep, life, timeout_s = self._upkeep, self._life, self._settings.loading.load_timeout_s
        if not self._wait(upkeep.has_state, timeout_s if life.is_first else self._limits.control_wait_s):
            if life.must_be_ready and upkeep.link.refusal:
                raise NotReady(upkeep.link.refusal)  # the worker that this one is to replace goes on serving
            stored = read_state(self._state_file)
            if stored is not None:
                _log.warning("control_away_state_from_disk", revision=stored.revision, path=str(self._state_file))
                upkeep.desire_first(isolating(stored, life.isolate))
        if not self._wait(upkeep.has_state, timeout_s):
            raise NotReady(f"control did not answer and there is no state in {self._state_file}: nothing to serve")
        if not self._wait(upkeep.is_settled, timeout_s):
            _log.error("versions_not_ready_in_time", timeout_s=timeout_s)
        if not life.must_be_ready or self._stopping.is_set():
            return
        lacking = upkeep.manager.lacking(upkeep.link.failed_before)
        if lacking:
            raise NotReady(f"not everything that is routed is ready: {'; '.join(lacking)}")

    def _wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Whether the event came in time; True at once when the worker is stopped."""
        while not (event.wait(min(CHECK_S, timeout_s)) or self._stopping.is_set()):
            timeout_s -= CHECK_S
            if timeout_s <= 0:
                return False
        return True

    def _open_port(self) -> None:
        port = self._settings.data_port
        threads = SERVICE_THREADS + (STANDARD_THREADS if port.lane == "standard" else 0)
        self._services = DataServices(self, self._settings.requests)
        is_shared = self._limits.is_port_shared
        server = make_server(port, self._services.handlers(), threads=threads, is_shared=is_shared)
        self._health.add_to(server)
        if port.reflection:
            enable_reflection(server)
        self._lane = LaneGate(open_lane(server, port.lane, max_stream_age_s=port.max_connection_age_s))
        self.address = listen(server, str(port.data_address))
        starting_threads(reading_the_network, server.start)
        self._server = server
        self._lane.start()
        self._plane.serve(self._lane)
        self.is_serving = True
        self._upkeep.connections.watch_port(int(self.address.rpartition(":")[2]))
        self._health.serve()
        self._upkeep.show_serving(True)
        _log.info("worker_serving", worker=self._life.number, address=self.address, lane=self._lane.kind)

    def _close_port(self) -> None:
        pause = threading.Event().wait
        self._lane.hold()
        pause(GOAWAY_S)  # calls on the network arrive
        wait = begin_stop(self._server, self._settings.grace_s)
        self.is_serving = False
        pause(GOAWAY_S)  # the GOAWAY frame reaches callers before their answers do
        self._lane.release()
        self._health.end_watches()
        if not wait():  # the lane's thread is still busy with them; the process ends without waiting for it
            _log.error("calls_still_open", grace_s=self._settings.grace_s)
            return
        self._services.close()
        self._lane.server_stopped()
        self._plane.stop()

    def _publish(self, snapshot: Snapshot) -> None:
        self._plane.publish(snapshot)
        self.snapshot = snapshot
        self._health.show(snapshot)


def model_threads(settings: Settings) -> int:
    """Returns the intra-op threads of each model: the worker's share of the cores."""
    return max(1, cores() // settings.worker_processes)


def _serving_parts(notes: RunNotes, settings: Settings, hello: Hello, clock: Clock) -> Parts:
    """Builds the real parts. Imported late, so that a worker around other parts needs no runtime."""
    from gateway.api.status_codes import describe
    from gateway.serving.plane import DataPlane
    from gateway.telemetry.worker_tracing import Tracing
    from gateway.versions.onnx_loader import OnnxLoader
    from gateway.versions.recent_inputs import RecentInputs

    recent = RecentInputs()
    plane = DataPlane(
        settings.requests,
        settings.predictions,
        epoch=hello.epoch,
        incarnation=hello.incarnation,
        describe=describe,
        tracing=Tracing(settings.requests.trace_ratio),
        recent=recent,
        clock=clock,
    )
    loader = OnnxLoader(model_threads(settings), recent, notes)
    return Parts(plane, loader, loader.isolated_deaths.counts)
