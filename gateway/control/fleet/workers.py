"""
The attached workers: keeps the last report of each, sends them the desired state, and waits for their progress.

One thread reads each connection (the caller of `attach`), one writes to it. Counts, predictions and questions of workers go
to a `Listener`. A worker may leave at any moment; nothing here then waits for it. During a replacement two processes of a
worker are attached: both get everything, and the newest that serves counts as the worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import structlog

from gateway.clock import Clock
from gateway.contract.counts import Telemetry
from gateway.contract.desired import DesiredState
from gateway.contract.handshake import PROTOCOL, Hello, HelloRefused, Welcome, mismatch
from gateway.contract.link import Link, LinkClosed, MalformedFrame
from gateway.contract.observed import Observed, Report, Reported
from gateway.contract.predictions import PredictionBatch
from gateway.contract.questions import Answer, Ask, ask_error
from gateway.contract.traces import Traces
from gateway.contract.version_state import VersionState
from gateway.control.fleet.attachment import Outbox
from gateway.control.fleet.progress import FleetView, WorkerView, fleet_view
from gateway.errors import Overloaded

ASK_THREADS = 16  # threads that answer questions
MAX_ASKS = 1024  # questions queued and running; further ones are refused
POLL_S = 0.5  # poll interval of `wait` in seconds, so that its timeout also works with a test clock
T = TypeVar("T")

_log = structlog.get_logger("interlock.control")


class Listener(Protocol):
    """Takes what workers send. Called in the threads of their connections, so its methods must not block for long."""

    def joined(self, hello: Hello) -> None:
        """Called when a worker has attached, before anything else of it."""
        ...

    def counted(self, worker: int, telemetry: Telemetry) -> None:
        """Called with a worker's counts."""
        ...

    def predicted(self, batch: PredictionBatch) -> None:
        """Called with predictions."""
        ...

    def traced(self, hello: Hello, traces: Traces) -> None:
        """Called with requests of this process of a worker whose traces have ended."""
        ...

    def left(self, hello: Hello) -> None:
        """Called when this process' connection has ended and it has made no newer one."""
        ...

    def asked(self, ask: Ask) -> Answer:
        """Answers a worker's question, which may be a client's call. Runs in a thread of its own and may take long."""
        ...


@dataclass(slots=True, eq=False)
class _Attached:
    view: WorkerView
    outbox: Outbox
    reported: int = 0  # highest token answered


@dataclass(slots=True)
class _History:
    departures: dict[int, int] = field(default_factory=dict)
    last: dict[int, Hello] = field(default_factory=dict)  # of each worker
    restarts: dict[int, int] = field(default_factory=dict)


class Fleet:
    """All attached workers. Thread-safe."""

    def __init__(self, listener: Listener, clock: Clock, *, expected: int) -> None:
        self._listener, self._clock, self._expected = listener, clock, expected
        self._changed = threading.Condition()
        self._attached: dict[str, _Attached] = {}  # by incarnation, in the order in which they came
        self._history = _History()
        self._desired: DesiredState | None = None
        self._token = 0
        self._asks = 0
        self._pool = ThreadPoolExecutor(ASK_THREADS, thread_name_prefix="ask")
        self._is_closed = False

    # ---- the connection of one worker ------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """Serves one worker's connection until it ends."""
        outbox = Outbox(link)
        try:
            hello = link.receive()
            if not isinstance(hello, Hello):
                _refuse(link, f"expected Hello as the first message, got {type(hello).__name__}", worker=None)
                return
            if hello.protocol != PROTOCOL:
                _refuse(link, mismatch(hello.protocol, PROTOCOL), worker=hello.worker)
                return
            link.send(Welcome(PROTOCOL, self._failed_beside(hello)))
            self._serve(link, hello, outbox)
        except MalformedFrame as error:
            _refuse(link, f"{mismatch(0, PROTOCOL)} ({error})", worker=None)
        except LinkClosed:
            pass  # the worker left before it introduced itself
        finally:
            outbox.close()

    def _failed_beside(self, hello: Hello) -> tuple[tuple[str, int], ...]:
        with self._changed:
            others = [one.view for one in self._attached.values() if one.view.hello.worker == hello.worker]
        return tuple(sorted(key for other in others for key, one in other.held.items() if one.state == VersionState.FAILED))

    def _serve(self, link: Link, hello: Hello, outbox: Outbox) -> None:
        attached = _Attached(WorkerView(hello), outbox)
        if not self._join(hello, attached):
            return
        sender = threading.Thread(target=outbox.run, name=f"to-worker-{hello.worker}", daemon=True)
        sender.start()
        try:
            for message in link.messages():
                self._heard(attached, message)
        finally:
            self._leave(hello, attached)
            outbox.close()
            sender.join()

    def _join(self, hello: Hello, attached: _Attached) -> bool:
        self._listener.joined(hello)
        with self._changed:
            if self._is_closed:
                return False
            before = self._attached.pop(hello.incarnation, None)
            self._attached[hello.incarnation] = attached
            self._count_life(hello)
            if before is not None:
                self._count_departure(hello.worker)
                before.outbox.close()
            if self._desired is not None:
                attached.outbox.put(self._desired)
            self._changed.notify_all()
        _log.info("worker_attached", worker=hello.worker, pid=hello.pid, incarnation=hello.incarnation, lane=hello.lane)
        return True

    def _count_life(self, hello: Hello) -> None:
        seen, last = self._history.restarts.get(hello.worker, 0), self._history.last.get(hello.worker, hello)
        if last.incarnation != hello.incarnation and last.replacements == hello.replacements:
            seen += 1  # another life, and not by a rolling restart
        # The worker's own count goes back to before this control process started.
        self._history.restarts[hello.worker] = max(seen, hello.restarts)
        self._history.last[hello.worker] = hello

    def _count_departure(self, worker: int) -> None:
        self._history.departures[worker] = self._history.departures.get(worker, 0) + 1

    def _leave(self, hello: Hello, attached: _Attached) -> None:
        with self._changed:
            if self._attached.get(hello.incarnation) is not attached:
                return  # a newer connection of this life has taken the place
            del self._attached[hello.incarnation]
            has_successor = any(one.view.hello.worker == hello.worker for one in self._attached.values())
            if not has_successor:
                self._count_departure(hello.worker)
            self._changed.notify_all()
        self._listener.left(hello)
        log = _log.info if has_successor else _log.warning
        log("worker_left", worker=hello.worker, pid=hello.pid, incarnation=hello.incarnation)

    # ---- what it says ----------------------------------------------------------------------------------------------

    def _heard(self, attached: _Attached, message: object) -> None:
        match message:
            case Observed():
                self._observed(attached, message)
            case Telemetry():
                attached.view = replace(attached.view, telemetry=message)
                self._listener.counted(attached.view.hello.worker, message)
            case PredictionBatch():
                self._listener.predicted(message)
            case Traces():
                self._listener.traced(attached.view.hello, message)
            case Reported(token):
                with self._changed:
                    attached.reported = max(attached.reported, token)
                    self._changed.notify_all()
            case Ask():
                self._asked(attached, message)
            case _:
                _log.warning("message_ignored", worker=attached.view.hello.worker, got=type(message).__name__)

    def _observed(self, attached: _Attached, observed: Observed) -> None:
        before = attached.view.held
        with self._changed:
            has_served = attached.view.has_served or observed.is_serving
            attached.view = replace(attached.view, observed=observed, has_served=has_served)
            self._changed.notify_all()
        for version in observed.versions:
            known = before.get((version.model, version.number))
            if known is None or known.state != version.state:
                _log.info(
                    "version_state",
                    worker=attached.view.hello.worker,
                    model=version.model,
                    version=version.number,
                    state=version.state,
                    reason=version.reason,
                    load_ms=round(version.load_ms, 3),
                )

    def _asked(self, attached: _Attached, ask: Ask) -> None:
        with self._changed:
            is_full = self._asks >= MAX_ASKS or self._is_closed
            if not is_full:
                self._asks += 1
                self._pool.submit(self._answer, attached, ask)  # within the lock: never behind the pool's end
        if is_full:
            attached.outbox.put(_busy(ask))

    def _answer(self, attached: _Attached, ask: Ask) -> None:
        try:
            attached.outbox.put(self._listener.asked(ask))
        finally:
            with self._changed:
                self._asks -= 1

    # ---- what all are told, and waiting ----------------------------------------------------------------------------

    def broadcast(self, desired: DesiredState) -> None:
        """Sends the desired state to every worker now, and to each that attaches later. Never blocks."""
        with self._changed:
            self._desired = desired
            for attached in self._attached.values():
                attached.outbox.put(desired)

    def view(self) -> FleetView:
        """Returns the fleet now."""
        with self._changed:
            return self._view()

    def _view(self) -> FleetView:
        history = self._history
        lives = [one.view for one in self._attached.values()]
        return fleet_view(lives, dict(history.departures), dict(history.restarts), self._expected)

    def wait(self, condition: Callable[[FleetView], T], timeout_s: float) -> T:
        """
        Waits until ``condition(view)`` is true and returns its value. Returns a false value after the timeout and at
        `close`.
        """
        deadline = self._clock.monotonic() + timeout_s
        with self._changed:
            while True:
                value = condition(self._view())
                remaining_s = deadline - self._clock.monotonic()
                if value or remaining_s <= 0 or self._is_closed:
                    return value
                self._changed.wait(min(remaining_s, POLL_S))

    def report(self, timeout_s: float) -> tuple[int, ...]:
        """
        Asks every worker for a fresh report and waits until all have answered or left. Returns the numbers of those that did
        neither in time.
        """
        with self._changed:
            self._token += 1
            token, asked = self._token, dict(self._attached)
            for attached in asked.values():
                attached.outbox.put(Report(token))

        def late() -> list[int]:
            silent = [life for life, one in asked.items() if one.reported < token and self._attached.get(life) is one]
            return sorted({asked[life].view.hello.worker for life in silent})

        self.wait(lambda _: not late(), timeout_s)
        with self._changed:
            return tuple(late())

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called. Then the result of a wait says nothing about the workers."""
        return self._is_closed

    def close(self) -> None:
        """Ends every connection and every wait."""
        with self._changed:
            self._is_closed = True
            outboxes = [attached.outbox for attached in self._attached.values()]
            self._changed.notify_all()
        for outbox in outboxes:
            outbox.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _busy(ask: Ask) -> Answer:
    full = Overloaded(f"control has {MAX_ASKS} questions waiting already")
    return Answer(ask.token, error=ask_error(full))


def _refuse(link: Link, reason: str, worker: int | None) -> None:
    _log.error("worker_refused", worker=worker, reason=reason)
    try:
        link.send(HelloRefused(PROTOCOL, reason))
    except LinkClosed:
        pass  # it has left already
