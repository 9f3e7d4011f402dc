"""
A rolling restart of the workers as a long operation.

The supervisor is the workers' parent and replaces them. Control asks it to, follows its messages, and sees workers leave and
attach. A restart that a signal asked for shows here as an operation too.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import structlog

from gateway.control.changes.operations import Note, Operation, Operations, Request, Result
from gateway.control.changes.traffic import Change
from gateway.control.fleet.progress import FleetView
from gateway.control.fleet.workers import Fleet
from gateway.control.limits import ControlLimits
from gateway.errors import DeadlinePassed, ForbiddenNow, NotReady, OperationNotFound
from gateway.process.rolling_messages import RestartNews
from gateway.settings.values import Settings

VERB = "restart"
_STEPS = {
    "starting": "worker {n} ({place} of {count}): its replacement, pid {pid}, starts",
    "leaving": "worker {n}: pid {pid} serves, pid {old} ends its calls",
    "replaced": "worker {n} ({place} of {count}): pid {pid} in place of {old}",
}

REPLACE_MARGIN_S = 60.0  # seconds beyond load timeout and grace; more than the supervisor's own limit, so that it can say why

_log = structlog.get_logger("interlock.control")


class Restarts:
    """
    Begins and follows rolling restarts. ``ask()`` tells the supervisor to begin; it is None if there is no supervisor,
    because control and worker share a process.
    """

    def __init__(
        self,
        settings: Settings,
        limits: ControlLimits,
        operations: Operations,
        fleet: Fleet,
        ask: Callable[[], None] | None,
    ) -> None:
        self._limits, self._operations, self._fleet, self._ask = limits, operations, fleet, ask
        own_s = settings.loading.load_timeout_s + settings.grace_s + REPLACE_MARGIN_S
        self._timeout_s = limits.replace_timeout_s or own_s
        self._lock = threading.Lock()
        self._running = ""  # the newest restart's operation
        self._news: queue.SimpleQueue[RestartNews] = queue.SimpleQueue()

    def restart(self, change: Change) -> Operation:
        """
        Begins a rolling restart. Raises ForbiddenNow if there is no supervisor, or if another restart is running, which it
        names.
        """
        ask = self._ask
        if ask is None:
            raise ForbiddenNow(
                "the gateway runs with --workers 0, in one process: nothing could serve while it is replaced; "
                "start it with one worker or more, or restart the process itself",
                rule="supervised",
            )
        request = Request(VERB, "", content=(), request_id=change.request_id, is_exclusive=False)
        with self._lock:
            if self._is_running() and not self._operations.is_repeat(request):
                raise ForbiddenNow(
                    f"{self._running} is restarting the workers already", rule="one_restart", operation=self._running
                )
            return self._begin(request, ask, f"by {change.author}: {change.reason}" if change.reason else f"by {change.author}")

    def heard(self, news: RestartNews) -> None:
        """Takes a message of the supervisor. Never blocks."""
        with self._lock:
            if not self._is_running() and not news.is_last:
                self._begin(Request(VERB, "", is_exclusive=False), None, "by a signal to the gateway")
            self._news.put(news)

    def stop(self) -> None:
        """Ends a running operation, because control is stopping."""
        self._news.put(RestartNews("failed", reason="control is stopping; the restart goes on without it"))

    def _is_running(self) -> bool:
        try:
            return bool(self._running) and not self._operations.get(self._running).is_done
        except OperationNotFound:
            return False  # it ended so long ago that it was forgotten

    def _begin(self, request: Request, ask: Callable[[], None] | None, who: str) -> Operation:
        news: queue.SimpleQueue[RestartNews] = queue.SimpleQueue()

        def work(note: Note) -> Result:
            note("asked", who)
            if ask is not None:
                ask()
            return self._follow(news, note)

        operation = self._operations.start(request, work)
        if operation.name != self._running:
            self._running, self._news = operation.name, news
        return operation

    def _follow(self, news: queue.SimpleQueue[RestartNews], note: Note) -> Result:
        lives: dict[int, int] = {}
        while True:
            try:
                said = news.get(timeout=self._timeout_s)
            except queue.Empty:
                raise DeadlinePassed(f"the supervisor has not reported on the restart for {self._timeout_s:g} s") from None
            if said.state in ("failed", "refused"):
                raise _failure(said)
            if said.state == "done":
                return Result(workers=said.replaced, missing=self._missing(lives))
            note(
                said.state,
                _STEPS[said.state].format(n=said.worker, place=said.place, count=said.count, pid=said.pid, old=said.old_pid),
            )
            if said.state == "replaced":
                lives[said.worker] = said.pid

    def _missing(self, lives: dict[int, int]) -> tuple[str, ...]:
        """Returns a text for each replacement that serves but has not attached; control may have been away."""
        self._fleet.wait(lambda view: not _unseen(view, lives), self._limits.acknowledge_timeout_s)
        return tuple(f"worker {number} has not attached yet" for number in _unseen(self._fleet.view(), lives))


def _failure(said: RestartNews) -> Exception:
    if said.reason.startswith("control is stopping"):
        return NotReady(said.reason)
    done = f" (replaced before: {', '.join(map(str, said.replaced))} of {said.count})" if said.replaced else ""
    return ForbiddenNow(f"{said.reason}{done}", rule="replacement_serves")


def _unseen(view: FleetView, lives: dict[int, int]) -> list[int]:
    seen = {number: worker.hello.pid for number, worker in view.attached.items() if worker.is_serving}
    return [number for number, pid in sorted(lives.items()) if seen.get(number) != pid]
