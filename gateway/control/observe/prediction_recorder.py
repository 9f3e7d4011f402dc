"""
The way into the prediction log for predictions, and for what is announced to it: a bounded queue and one thread. Whoever
fills the queue never waits for the disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from gateway.clock import Clock
from gateway.contract.predictions import PredictionBatch
from gateway.errors import NotReady
from gateway.quality.prediction_store import PredictionStore
from gateway.telemetry.limited_log import LimitedLog

MAX_WAITING = 20_000  # batches in the queue; further ones are dropped and counted
MAX_BATCHES = 512  # batches in one transaction
TICK_S = 1.0  # s between two calls of the log's `tick`

Announcement = Callable[[PredictionStore], None]
_limited = LimitedLog(structlog.get_logger("interlock.control"))


class PredictionRecorder:
    """Records batches and makes announcements in a thread of its own. Thread-safe."""

    def __init__(self, log: PredictionStore, clock: Clock) -> None:
        self._log, self._clock = log, clock
        self._tick_at = clock.monotonic()
        self._changed = threading.Condition()
        self._waiting: deque[PredictionBatch | Announcement] = deque()
        self._unkept: list[Announcement] = []  # the log could not be written; the thread's own
        self._taken = self._recorded = 0
        self._is_closed = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    @property
    def dropped(self) -> int:
        """Number of predictions that were dropped because the queue was full."""
        return self._dropped

    def __repr__(self) -> str:
        return f"PredictionRecorder(waiting={len(self._waiting)}, recorded={self._recorded}, dropped={self._dropped})"

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(self, batch: PredictionBatch) -> None:
        """Queues a batch, or drops it if the queue is full."""
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                self._dropped += len(batch.counters)
                return
            self._waiting.append(batch)
            self._taken += 1
            self._changed.notify_all()

    def announce(self, announcement: Announcement) -> None:
        """Queues ``announcement(log)``: made before later batches are recorded, and again until the log can keep it."""
        with self._changed:
            self._waiting.append(announcement)
            self._taken += 1
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits until every batch added before this call is recorded. Returns False if that takes longer than ``timeout_s``."""
        with self._changed:
            goal = self._taken
            return self._changed.wait_for(lambda: self._recorded >= goal, timeout_s)

    def close(self) -> None:
        """Records the queue, then ends the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed, TICK_S)
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCHES))]
                if not taken and self._is_closed:
                    return
            self._unkept += [one for one in taken if not isinstance(one, PredictionBatch)]
            self._announce()
            self._record([one for one in taken if isinstance(one, PredictionBatch)])
            with self._changed:
                self._recorded += len(taken)
                self._changed.notify_all()

    def _announce(self) -> None:
        """Makes the announcements that wait. Stops at the first that the log cannot keep; the next round tries it again."""
        try:
            while self._unkept:
                self._unkept[0](self._log)
                del self._unkept[0]
        except NotReady as error:  # a full or locked disk: ground truth that needs them is refused meanwhile, serving goes on
            _limited.error("announcements_not_kept", waiting=len(self._unkept), error=str(error))
        except Exception as error:  # the supervisor of this loop, as below
            del self._unkept[0]
            _limited.error("announcement_failed", exc_info=error)

    def _record(self, batches: Sequence[PredictionBatch]) -> None:
        try:
            if batches:
                self._log.record(batches)
            if self._clock.monotonic() >= self._tick_at:
                self._tick_at = self._clock.monotonic() + TICK_S
                self._log.tick()
        except Exception as error:  # the supervisor of this loop: a failure must not stop the batches that follow
            _limited.error("predictions_not_recorded", batches=len(batches), exc_info=error)
