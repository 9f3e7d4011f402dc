"""
The composition root: builds control and workers from settings, with their real stores, links and servers.

Only here are they named together. Each side is imported when it is built, so a worker does not load the registry's database
and control does not load ONNX Runtime.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog

from gateway import __version__
from gateway.clock import SystemClock
from gateway.process.home import remove_note, write_note
from gateway.process.orders import Orders, SupervisorConnection
from gateway.process.signals import Stop
from gateway.settings.paths import Home
from gateway.settings.values import Settings

if TYPE_CHECKING:
    from gateway.contract.link import Link
    from gateway.contract.run_notes import RunNotes
    from gateway.control.control import Control
    from gateway.worker.worker import Worker

READY_POLL_S = 0.05  # seconds between two checks whether the gateway is ready

_log = structlog.get_logger("interlock.app")


def run_child(orders: Orders) -> int:
    """Runs a child process: control or a worker. Returns the exit code."""
    from gateway.process import child_main

    return child_main.run_child(orders, run_control, connected_worker)


def run_control(orders: Orders, stopping: Stop, line: SupervisorConnection) -> None:
    """Runs control, its admin and HTTP servers and the workers' socket until ``stopping`` is set."""
    from gateway.process.death_messages import death_of
    from gateway.process.rolling_messages import news_of

    with ExitStack() as parts:
        control = build_control(
            orders.settings,
            Home(orders.settings.home),
            parts,
            ask_restart=line.ask_restart,
            is_restarted=orders.restarts > 0,
        )

        def heard(words: bytes) -> None:
            death = death_of(words)
            if death is not None:
                control.containment.died(death)
            else:
                control.restarts.heard(news_of(words))

        line.listen(heard)
        line.serving()
        stopping.wait()
        _log.info("control_stopping")


def connected_worker(orders: Orders) -> Worker:
    """Builds the worker of a process of its own, which connects to control's socket."""
    from gateway.contract.link import connect
    from gateway.process.last_runs import shared_notes
    from gateway.runtime.scheduling import in_background

    in_background()  # before there is another thread: threads inherit it
    home = Home(orders.settings.home)
    return build_worker(orders, home, lambda: connect(home.control_socket), shared_notes(orders.notes))


def run_in_process(settings: Settings, home: Home, *, on_ready: Callable[[], None], report: Callable[[str], None]) -> int:
    """Runs control and one worker in this process, joined by a socket pair, until SIGTERM or SIGINT. Returns the exit code."""
    from gateway.process.child_main import serve
    from gateway.process.readiness import Readiness
    from gateway.telemetry.logs import configure_logs

    configure_logs(settings.log_level, role="gateway")
    stopping = Stop().on_signals().on_hang_up()
    with ExitStack() as parts:
        control = build_control(settings, home, parts)
        worker = build_worker(Orders("worker", 0, 0, settings, line=-1), home, joined_to(control))
        parts.callback(remove_note, home)
        write_note(home, settings, control_pid=os.getpid(), workers=[(os.getpid(), 0, 0)])
        readiness = Readiness(settings.http_address, on_ready=on_ready, report=report)

        def wait_until_ready() -> None:
            while not readiness.is_ready and not stopping.wait(READY_POLL_S):
                readiness.tick({})

        serve(worker, stopping, wait_until_ready)
    return 0


def build_control(
    settings: Settings,
    home: Home,
    parts: ExitStack,
    *,
    ask_restart: Callable[[], None] | None = None,
    is_restarted: bool = False,
) -> Control:
    """
    Builds and starts control with its servers; ``parts`` stops them in turn. ``ask_restart()`` has the workers replaced, if
    they are processes of their own. ``is_restarted``: the supervisor has started control again. Raises RegistryError,
    GatewayError or OSError.
    """
    from gateway.api.admin_server import AdminServer
    from gateway.control.control import Control
    from gateway.control.observe.http import HttpServer
    from gateway.quality.log import PredictionLog
    from gateway.telemetry.aggregate import Aggregate
    from gateway.telemetry.otel import TraceExport
    from registry.registry import open_registry

    clock = SystemClock()
    log = PredictionLog(home.predictions, settings.predictions, clock)
    parts.callback(log.close)
    registry = open_registry(home.folder, clock)
    control = Control(
        settings,
        home,
        registry=registry,
        prediction_log=log,
        counts=Aggregate(),
        clock=clock,
        trace_export=TraceExport(),
        ask_restart=ask_restart,
        is_restarted=is_restarted,
        version=__version__,
    )
    control.start()
    parts.callback(control.stop)
    admin = AdminServer(control, str(settings.admin_address))
    admin.start()
    parts.callback(admin.stop, settings.grace_s)
    pages = HttpServer(str(settings.http_address), metrics=control.metrics, is_live=control.is_live, is_ready=control.is_ready)
    pages.start()
    parts.callback(pages.stop)
    return control


def build_worker(orders: Orders, home: Home, connect: Callable[[], Link], notes: RunNotes | None = None) -> Worker:
    """Builds a worker that is not started yet. ``notes`` tell its supervisor, if it has one, what it runs."""
    from gateway.versions.loaded import NOBODYS_NOTES
    from gateway.worker.worker import Worker, WorkerLife

    life = WorkerLife(
        number=orders.number,
        restarts=orders.restarts,
        replacements=orders.replacements,
        must_be_ready=orders.must_be_ready,
        isolate=orders.isolate,
        is_first=orders.restarts == orders.replacements == 0,
    )
    return Worker(
        orders.settings, life, connect=connect, state_file=home.desired_state, clock=SystemClock(), notes=notes or NOBODYS_NOTES
    )


def joined_to(control: Control) -> Callable[[], Link]:
    """Returns what connects a worker of this process; control serves the other end in a thread of its own."""
    from gateway.contract.link import pair

    def connect() -> Link:
        ours, theirs = pair()
        threading.Thread(target=control.fleet.attach, args=(theirs,), name="attached-worker", daemon=True).start()
        return ours

    return connect
