"""
The process behind `interlock serve`: starts control and the workers, restarts those that die, stops all of them.

It serves nothing and loads no gRPC, so little in it can fail. It has one thread, woken by signals (the death of a child is
one) and by the clock. Of a worker that died it reads what it ran, and tells control and the next worker. SIGHUP, or
control's request, begins a rolling restart of the workers.
"""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import structlog

from gateway.contract.deaths import WorkerDeath, blamed, is_explained, recent
from gateway.process import backoff as restarts
from gateway.process.death_messages import death_line
from gateway.process.handle import Child, end_of, signal_of
from gateway.process.home import remove_note, write_note
from gateway.process.orders import Orders
from gateway.process.readiness import Readiness
from gateway.process.rolling import ReplacementLimits, RollingRestart
from gateway.process.rolling_messages import RestartNews, line_of
from gateway.process.signals import Terminal
from gateway.settings.paths import Home
from gateway.settings.values import CannotStart, Settings
from gateway.telemetry.descriptor_limit import explained

KILL_WAIT_S = 5.0  # seconds that killed processes have to be gone
MARGIN_S = 5.0  # seconds beyond a child's own grace before it is killed
START_MARGIN_S = 30.0  # beyond the time in which a replacement's versions have to be ready: imports, a wait for control
POLL_S = 0.05  # seconds between two checks of what sends no signal
IDLE_S = 1.0

_log = structlog.get_logger("interlock.supervisor")


@dataclass(frozen=True, slots=True)
class Plan:
    """The things to run with: settings with real ports, the home, and the lock's file descriptor that every child inherits."""

    settings: Settings
    home: Home
    lock: int


class Supervisor:
    """The processes of one gateway. `run` is its whole life."""

    def __init__(self, plan: Plan, *, on_ready: Callable[[], None], report: Callable[[str], None]) -> None:
        """``on_ready()`` is called once when the gateway serves, ``report(text)`` with progress for people."""
        self._plan = plan
        self._readiness = Readiness(plan.settings.http_address, on_ready=on_ready, report=report)
        self._control = _child(plan, "control", 0)
        self._workers = [_child(plan, "worker", number) for number in range(plan.settings.workers)]
        self._rolling: RollingRestart | None = None
        self._is_note_due = False
        self._deaths: tuple[WorkerDeath, ...] = ()  # recent ones, of all workers
        self._untold: list[WorkerDeath] = []  # those that control has not been told of
        self._signals = _Signals()

    @property
    def _children(self) -> list[Child]:
        """Returns the children that should run, control first."""
        return [self._control, *self._workers]

    @property
    def _beside(self) -> list[Child]:
        """Returns the processes that a rolling restart has started or is ending."""
        return self._rolling.beside if self._rolling is not None else []

    def run(self) -> int:
        """
        Runs until SIGTERM or SIGINT. Returns the exit code (0: stopped gracefully). Raises CannotStart if a child cannot
        start.
        """
        with self._signals:
            try:
                while not self._signals.stops:
                    self._tick()
                    self._signals.wait(self._pause_s())
                return self._stop()
            finally:
                self._kill([*self._children, *self._beside])
                remove_note(self._plan.home)

    def _tick(self) -> None:
        changed = [child for child in self._children if self._look_after(child)]
        self._tell_deaths()
        self._restart_if_asked()
        has_swapped = self._rolling is not None and self._rolling.tick()
        self._is_note_due = self._is_note_due or bool(changed) or has_swapped
        if self._is_note_due:
            self._is_note_due = not self._note()
        if self._rolling is not None and self._rolling.is_over and not _running(self._beside):
            self._rolling = None
        if not self._readiness.is_ready:
            self._readiness.tick({child.name: child.is_serving for child in self._children})

    def _restart_if_asked(self) -> None:
        is_asked = self._control.take_request()
        if not (self._signals.take_restart() or is_asked):
            return
        if self._rolling is not None or not self._readiness.is_up:
            reason = "the gateway is still starting" if self._rolling is None else "the workers are being restarted already"
            _log.warning("restart_refused", reason=reason)
            if is_asked:
                self._tell(RestartNews("refused", reason=reason))
            return
        settings = self._plan.settings
        limits = ReplacementLimits(settings.loading.load_timeout_s + START_MARGIN_S, settings.grace_s + MARGIN_S)
        self._rolling = RollingRestart(self._workers, limits, self._tell)

    def _tell(self, news: RestartNews) -> None:
        """Sends a message to control; logs it if control is away."""
        self._control.tell(line_of(news))

    def _look_after(self, child: Child) -> bool:
        """Notices deaths and starts what is due. Returns True if a process was started."""
        code = child.reap()
        if code is not None:
            self._died(child, code)
        if child.pid is None and time.monotonic() >= child.start_at_s:
            return self._start(child)
        return False

    def _start(self, child: Child) -> bool:
        """Starts a process. If the system refuses one, it is tried again later, as after a death; the others go on."""
        child.isolate = tuple(sorted(blamed(recent(self._deaths, time.time()))))
        try:
            child.spawn()
        except OSError as error:
            child.deaths = restarts.after_failed_start(child.deaths)
            delay_s = self._wait_to_start(child, f"{child.name} cannot be started: {explained(error)}")
            _log.error("child_not_started", child=child.name, error=explained(error), retry_in_s=delay_s)
            return False
        _log.info("child_started", child=child.name, child_pid=child.pid, restarts=child.deaths.total)
        return True

    def _died(self, child: Child, code: int) -> None:
        lived_s, served, words = child.lived_s, child.has_served, child.last_words
        is_known, suspects = self._note_death(child, code) if child.role == "worker" else (False, [])
        child.deaths = restarts.after_death(child.deaths, lived_s=lived_s, served=served, is_explained=is_known)
        words = words or f"{child.name} {end_of(code)} {child.deaths.in_a_row} times before it served"
        delay_s = self._wait_to_start(child, words, code)
        facts = {"ran": suspects} if suspects else {}
        _log.warning("child_died", child=child.name, how=end_of(code), lived_s=round(lived_s, 3), restart_in_s=delay_s, **facts)

    def _wait_to_start(self, child: Child, words: str, code: int | None = None) -> float:
        """Sets the time of the next start; returns the seconds until then. Raises CannotStart with ``words`` if hopeless."""
        if restarts.is_hopeless(child.deaths, exit_code=code):
            raise CannotStart(words)
        delay_s = restarts.delay_s(child.deaths)
        child.start_at_s = time.monotonic() + delay_s
        return delay_s

    def _note_death(self, child: Child, code: int) -> tuple[bool, list[str]]:
        """Keeps a death for control. Returns whether a version is known to have caused it, and the suspects in words."""
        runs = child.last_runs if code < 0 else ()  # a process that ends by itself says why
        death = WorkerDeath(child.number, signal_of(code), time.time(), runs)
        self._deaths = (*recent(self._deaths, death.at), death)
        self._untold.append(death)
        return is_explained(death, self._deaths), [str(run) for run in runs]

    def _tell_deaths(self) -> None:
        while self._untold and self._control.tell(death_line(self._untold[0])):
            del self._untold[0]

    def _pause_s(self) -> float:
        due = [child.start_at_s - time.monotonic() for child in self._children if child.pid is None]
        is_idle = self._readiness.is_ready and self._rolling is None
        return max(0.0, min([*due, IDLE_S if is_idle else POLL_S]))

    def _note(self) -> bool:
        workers = [(child.pid, child.deaths.total, child.replacements) for child in self._workers]
        return write_note(self._plan.home, self._plan.settings, control_pid=self._control.pid, workers=workers)

    def _stop(self) -> int:
        """Stops the workers first, which drain while control still takes their last counts and predictions; then control."""
        _log.info("stopping", grace_s=self._plan.settings.grace_s)
        settings = self._plan.settings
        timeout_s = settings.data_port.drain_delay_s + settings.grace_s + MARGIN_S
        is_drained = self._end([*self._workers, *self._beside], timeout_s)
        is_graceful = self._end([self._control], settings.grace_s + MARGIN_S) and is_drained
        _log.info("stopped", graceful=is_graceful)
        return 0 if is_graceful else 1

    def _end(self, children: list[Child], timeout_s: float) -> bool:
        """Asks processes to stop and waits. Returns False if one had to be killed or a second signal asked for that."""
        for child in children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while _running(children) and time.monotonic() < deadline and self._signals.stops < 2:
            self._signals.wait(POLL_S)
        late = _running(children)
        self._kill(late)
        return not late

    def _kill(self, children: Iterable[Child]) -> None:
        """Kills those that still run."""
        left = _running(children)
        for child in left:
            _log.warning("child_killed", child=child.name, child_pid=child.pid)
            child.signal(signal.SIGKILL)
        deadline = time.monotonic() + KILL_WAIT_S
        while _running(left) and time.monotonic() < deadline:
            self._signals.wait(POLL_S)


class _Signals:
    """Counts requests to stop and to restart, and wakes the loop at any signal that concerns it."""

    def __init__(self) -> None:
        self.stops = 0
        self._restarts = 0
        self._terminal = Terminal()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        handlers = {
            signal.SIGTERM: self._count,
            signal.SIGINT: self._count,
            signal.SIGHUP: self._hang_up,
            signal.SIGCHLD: _ignore,
        }
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        self._wakeup_before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._read.close()
        self._write.close()

    def wait(self, timeout_s: float) -> None:
        """Returns after ``timeout_s`` or at the next signal."""
        if select.select([self._read], [], [], timeout_s)[0]:
            self._read.recv(4096)

    def take_restart(self) -> bool:
        """Whether a restart was asked for since the last call."""
        found, self._restarts = self._restarts > 0, 0
        return found

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._terminal.is_gone():
            self._count(number, frame)
        else:
            self._restarts += 1


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Handles SIGCHLD, which needs a Python handler or it would not wake the loop."""


def _child(plan: Plan, role: str, number: int) -> Child:
    return Child(Orders(role, number, 0, plan.settings, line=-1), inherit=(plan.lock,))


def _running(children: Iterable[Child]) -> list[Child]:
    found = list(children)
    for child in found:
        child.reap()
    return [child for child in found if child.pid is not None]
