"""
The composition root: builds control and workers from settings, with their real stores, links and servers.

The only place that names them together. Each side is imported when it is built, so that a worker does not load the
registry's database and control does not load ONNX Runtime.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog

from gateway import __version__
from gateway.clock import SystemClock
from gateway.process.backoff import EXIT_MISCONFIGURED
from gateway.process.home import write_note
from gateway.process.orders import REPLACED, Line, Orders
from gateway.process.signals import Stop, join
from gateway.process.sockets import ClosesFirst
from gateway.settings.address import Address
from gateway.settings.paths import Home
from gateway.settings.values import CannotStart, Settings

if TYPE_CHECKING:
    from gateway.contract.link import Link
    from gateway.control.control import Control
    from gateway.worker.worker import Worker

READY_LOOK_S = 0.05
COLLECT_EVERY = 20_000  # new objects; a batch makes some ten for each request, nearly all freed without the collector

_log = structlog.get_logger("interlock.app")


def run_child(orders: Orders) -> int:
    """The life of a child process: until SIGTERM, or until its supervisor is gone. The exit code."""
    from gateway.errors import GatewayError
    from gateway.telemetry.logs import configure_logs
    from registry.errors import RegistryError

    line = Line(orders.line)
    number = orders.number if orders.role == "worker" else None
    configure_logs(orders.settings.log_level, role=orders.role, worker=number)
    stopping = Stop().on_signals()
    line.watch(stopping.set)
    home = Home(orders.settings.home)
    try:
        if orders.role == "control":
            run_control(orders, home, stopping, line)
        else:
            run_worker(orders, home, stopping, line)
    except (CannotStart, GatewayError, RegistryError, OSError) as error:
        line.failed(f"{orders.role} cannot start: {error}")
        return EXIT_MISCONFIGURED if isinstance(error, CannotStart | RegistryError) else 1
    return 0


def run_control(orders: Orders, home: Home, stopping: Stop, line: Line) -> None:
    """Control, its admin and HTTP servers and the workers' socket, until ``stopping`` is set."""
    from gateway.process.rolling_messages import news_of

    with ExitStack() as parts:
        is_restarted = orders.restarts > 0
        control = build_control(orders.settings, home, parts, ask_restart=line.ask_restart, is_restarted=is_restarted)
        line.listen(lambda news: control.restarts.heard(news_of(news)))
        line.serving()
        stopping.wait()
        _log.info("control_stopping")


def run_worker(orders: Orders, home: Home, stopping: Stop, line: Line) -> None:
    """One worker, until ``stopping`` is set, or another process has taken its place; then it drains."""
    from gateway.contract.link import connect
    from gateway.runtime.scheduling import in_background

    in_background()  # before any other thread is there: they all inherit it

    def serving() -> None:
        gc.collect()
        gc.freeze()  # what a start leaves behind lives as long as the worker: the collector need not look at it again
        gc.set_threshold(COLLECT_EVERY)
        line.serving()

    replaced = threading.Event()

    def heard(words: bytes) -> None:
        if words == REPLACED:
            replaced.set()
            stopping.set()

    line.listen(heard)
    worker = build_worker(orders, home, lambda: connect(home.control_socket))
    _serve(worker, stopping, serving, replaced.is_set)


def _serve(
    worker: Worker, stopping: Stop, on_serving: Callable[[], None], is_replaced: Callable[[], bool] = lambda: False
) -> None:
    """
    The life of a worker until it has drained. Its start may take long (it waits for control, then for the versions), so
    the stop comes from a thread beside it, and ends the start early.
    """

    listening: list[ClosesFirst] = []

    def stop() -> None:
        stopping.wait()
        for sockets in listening:
            sockets.release()
        worker.stop(is_replaced=is_replaced())

    stopper = threading.Thread(target=stop, name="stop-worker", daemon=True)
    stopper.start()
    worker.start()
    if not stopping.wait(0):
        listening.append(ClosesFirst(Address.parse(worker.address).port))
        on_serving()
    join(stopper)
    for sockets in listening:  # made while the stop had begun
        sockets.release()


def run_in_process(settings: Settings, home: Home, *, on_ready: Callable[[], None], report: Callable[[str], None]) -> int:
    """Control and one worker in this process, joined by a socket pair, until SIGTERM or SIGINT. The exit code."""
    from gateway.process.readiness import Readiness
    from gateway.telemetry.logs import configure_logs

    configure_logs(settings.log_level, role="gateway")
    stopping = Stop().on_signals().on_hang_up()
    with ExitStack() as parts:
        control = build_control(settings, home, parts)
        worker = build_worker(Orders("worker", 0, 0, settings, line=-1), home, joined_to(control))
        parts.callback(home.note.unlink, missing_ok=True)
        write_note(home, settings, control_pid=os.getpid(), workers=[(os.getpid(), 0, 0)])
        readiness = Readiness(settings.http_address, on_ready=on_ready, report=report)

        def wait_until_ready() -> None:
            while not readiness.is_ready and not stopping.wait(READY_LOOK_S):
                readiness.tick({})

        _serve(worker, stopping, wait_until_ready)
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
    Control with its servers, started; ``parts`` stops them in turn. ``ask_restart()`` has the workers replaced, where they
    are processes of their own. ``is_restarted``: the supervisor has started it again. Raises RegistryError, GatewayError or
    OSError.
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


def build_worker(orders: Orders, home: Home, connect: Callable[[], Link]) -> Worker:
    """Builds a worker that is not started yet."""
    from gateway.worker.worker import Worker, WorkerLife

    life = WorkerLife(orders.number, orders.restarts, orders.replacements, orders.must_be_ready)
    return Worker(orders.settings, life, connect=connect, state_file=home.desired_state, clock=SystemClock())


def joined_to(control: Control) -> Callable[[], Link]:
    """Connects a worker of this process: the other end is served by control in a thread of its own."""
    from gateway.contract.link import pair

    def connect() -> Link:
        ours, theirs = pair()
        threading.Thread(target=control.fleet.attach, args=(theirs,), name="attached-worker", daemon=True).start()
        return ours

    return connect
