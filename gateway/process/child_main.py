"""
The main function of a child process: its logs, its signals, the line to its supervisor, and the life of a worker.

What a child runs is built by `gateway.app`, which hands its two builders in.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Protocol

from gateway.errors import GatewayError
from gateway.process.backoff import EXIT_MISCONFIGURED
from gateway.process.orders import REPLACED, Orders, SupervisorConnection
from gateway.process.signals import Stop, join
from gateway.process.sockets import ClosesFirst
from gateway.settings.address import Address
from gateway.settings.values import CannotStart
from gateway.telemetry.logs import configure_logs
from registry.errors import RegistryError

COLLECT_EVERY = 20_000  # new objects between two collections; a batch makes some ten per request, nearly all freed without


class ServingWorker(Protocol):
    """A worker, as far as its process is concerned. `gateway.worker.worker.Worker` is the real one."""

    @property
    def address(self) -> str:
        """The address that it listens on, once it serves."""
        ...

    def start(self) -> None:
        """Returns when it serves, or was stopped meanwhile."""
        ...

    def stop(self, *, is_replaced: bool = False) -> None:
        """Returns when it has drained."""
        ...


RunControl = Callable[[Orders, Stop, SupervisorConnection], None]  # returns when control has stopped
BuildWorker = Callable[[Orders], ServingWorker]


def run_child(orders: Orders, run_control: RunControl, build_worker: BuildWorker) -> int:
    """Runs a child process until SIGTERM, or until its supervisor is gone. Returns the exit code."""
    line = SupervisorConnection(orders.line)
    number = orders.number if orders.role == "worker" else None
    configure_logs(orders.settings.log_level, role=orders.role, worker=number)
    stopping = Stop().on_signals()
    line.watch(stopping.set)
    try:
        if orders.role == "control":
            run_control(orders, stopping, line)
        else:
            _run_worker(lambda: build_worker(orders), stopping, line)
    except (CannotStart, GatewayError, RegistryError, OSError) as error:
        line.failed(f"{orders.role} cannot start: {error}")
        return EXIT_MISCONFIGURED if isinstance(error, CannotStart | RegistryError) else 1
    return 0


def _run_worker(build: Callable[[], ServingWorker], stopping: Stop, line: SupervisorConnection) -> None:
    """Runs one worker until ``stopping`` is set or another process has taken its place, then drains it."""

    def serving() -> None:
        gc.collect()
        gc.freeze()  # objects of the start live as long as the worker: the collector need not visit them again
        gc.set_threshold(COLLECT_EVERY)
        line.serving()

    replaced = threading.Event()

    def heard(words: bytes) -> None:
        if words == REPLACED:
            replaced.set()
            stopping.set()

    line.listen(heard)
    serve(build(), stopping, serving, replaced.is_set)


def serve(
    worker: ServingWorker,
    stopping: Stop,
    on_serving: Callable[[], None],
    is_replaced: Callable[[], bool] = lambda: False,
) -> None:
    """
    Runs a worker until it has drained. A start may take long (it waits for control, then for the versions), so a thread
    beside it waits for the stop and ends the start early.
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
    for sockets in listening:  # made after the stop had begun
        sockets.release()
