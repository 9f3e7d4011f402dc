"""
A rolling restart: replaces every worker, one after the other, so that every worker number always has a process that serves.

The replacement is started beside the old process, on the same port. Only when it serves, and nothing that is routed got
worse (what the old one has FAILED may stay so), is the old one told to stop. If it does not start, nothing changes: the old
one stays, and the restart ends. The supervisor's loop steps it; it serves nothing and waits for nothing itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.process.handle import Child, end_of
from gateway.process.orders import REPLACED
from gateway.process.rolling_messages import RestartNews
from gateway.telemetry.descriptor_limit import explained

_log = structlog.get_logger("interlock.supervisor")


@dataclass(frozen=True, slots=True)
class ReplacementLimits:
    """``start_s``: seconds that a replacement has until it serves; ``end_s``: that the old process has to end its calls."""

    start_s: float
    end_s: float


class RollingRestart:
    """
    ``workers`` is the supervisor's own list: a worker is replaced in it when its replacement serves. ``tell(news)`` is
    called with all that happens. One restart; `is_over` at its end.
    """

    def __init__(self, workers: list[Child], limits: ReplacementLimits, tell: Callable[[RestartNews], None]) -> None:
        self._workers, self._limits, self._tell = workers, limits, tell
        self._place = 0  # of the worker whose turn it is
        self._arriving: Child | None = None
        self._leaving: Child | None = None
        self._deadline_s = 0.0
        self._old_pid = 0
        self._replaced: list[int] = []
        self.is_over = False

    @property
    def beside(self) -> list[Child]:
        """Returns processes of the restart that are not, or no longer, in the list of workers."""
        return [child for child in (self._arriving, self._leaving) if child is not None]

    def tick(self) -> bool:
        """Does what is due. Returns True if another process has become a worker."""
        if self.is_over:
            return False
        if self._arriving is not None:
            return self._look_at_arriving(self._arriving)
        if self._leaving is not None:
            self._look_at_leaving(self._leaving)
        elif self._place == len(self._workers):
            self._end("done")
        else:
            self._start(self._workers[self._place])
        return False

    def _start(self, old: Child) -> None:
        self._old_pid = old.pid or 0
        arriving = old.successor()
        try:
            arriving.spawn(must_be_ready=True)
        except OSError as error:
            self._give_up(f"it cannot be started: {explained(error)}")
            return
        self._arriving = arriving
        self._deadline_s = time.monotonic() + self._limits.start_s
        self._say("starting", arriving)

    def _look_at_arriving(self, arriving: Child) -> bool:
        code = arriving.reap()
        if code is not None:
            self._give_up(arriving.last_words or f"it {end_of(code)} before it served")
        elif arriving.is_serving:
            self._swap(arriving)
            return True
        elif time.monotonic() > self._deadline_s:
            arriving.signal(signal.SIGKILL)
            self._give_up(f"it did not serve within {self._limits.start_s:g} s")
        return False

    def _swap(self, arriving: Child) -> None:
        old = self._workers[self._place]
        # The old process may have died meanwhile and been started again; its deaths belong to the worker's history.
        arriving.deaths = old.successor().deaths
        self._workers[self._place], self._leaving, self._arriving = arriving, old, None
        self._deadline_s = time.monotonic() + self._limits.end_s
        self._old_pid = old.pid or self._old_pid
        if not old.tell(REPLACED):
            old.signal(signal.SIGTERM)
        self._say("leaving", arriving)

    def _look_at_leaving(self, leaving: Child) -> None:
        leaving.reap()
        if leaving.pid is None:
            self._leaving = None
            self._replaced.append(leaving.number)
            self._say("replaced", self._workers[self._place])
            self._place += 1
        elif time.monotonic() > self._deadline_s:
            _log.warning("child_killed", child=leaving.name, child_pid=leaving.pid)
            leaving.signal(signal.SIGKILL)

    def _give_up(self, why: str) -> None:
        old = self._workers[self._place]
        self._end("failed", f"{old.name} serves on and was not replaced, because its replacement did not come up: {why}")

    def _end(self, state: str, reason: str = "") -> None:
        """Ends the restart. A replacement that was killed stays in `beside` for the supervisor to reap."""
        self.is_over = True
        log = _log.warning if reason else _log.info
        log(f"restart_{state}", replaced=self._replaced, **({"reason": reason} if reason else {}))
        news = RestartNews(state, count=len(self._workers), replaced=tuple(self._replaced), reason=reason)  # type: ignore[arg-type]
        self._tell(news)

    def _say(self, state: str, child: Child) -> None:
        _log.info(f"worker_{state}", child=child.name, child_pid=child.pid, old_pid=self._old_pid)
        self._tell(
            RestartNews(
                state,  # type: ignore[arg-type]
                child.number,
                child.pid or 0,
                self._old_pid,
                self._place + 1,
                len(self._workers),
                tuple(self._replaced),
            )
        )
