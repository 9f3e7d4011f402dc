"""
The open streams of a lane. They end when the server stops, and at the connection's maximum age.

gRPC's graceful stop waits for open calls. So does a connection that has reached its maximum age, and gRPC core tells only
the client. A stream may stay open for ever, so the lane ends it.
"""

from __future__ import annotations

import threading
import time

from gateway.serving.lane.stream import STOPPING, TOO_OLD, Stream

TEND_S = 0.1  # seconds between two checks of streams that may have to end
NEVER = float("inf")


class Streams:
    """
    Ends streams in time. ``due_at`` (monotonic seconds) is when `tend` has something to do. ``max_age_s``: seconds that a
    stream may be open, 0 for no limit. Thread-safe.
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s or NEVER
        self._lock = threading.Lock()
        self._open: set[Stream] = set()
        self._is_stopping = False
        self.due_at = NEVER

    def __bool__(self) -> bool:
        return bool(self._open)

    def add(self, stream: Stream) -> None:
        """Adds a stream that was opened."""
        with self._lock:
            self._open.add(stream)
            self.due_at = 0.0 if self._is_stopping else min(self.due_at, time.monotonic() + self._max_age_s)

    def discard(self, stream: Stream) -> None:
        """Removes a stream that has ended. Takes no lock, as streams call it while they hold their own."""
        self._open.discard(stream)

    def stop(self) -> None:
        """Ends all streams: idle ones now, the others when they are idle, or after LAST_CHANCE_S."""
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping, self.due_at = True, 0.0
        self.tend(time.monotonic())

    def tend(self, now: float) -> None:
        """Ends the streams that are due."""
        oldest = now - self._max_age_s
        for stream in list(self._open):
            if self._is_stopping or stream.started_at <= oldest:
                stream.end(STOPPING if self._is_stopping else TOO_OLD)
        with self._lock:
            is_due = self._open and (self._is_stopping or self._max_age_s < NEVER)
            self.due_at = now + TEND_S if is_due else NEVER

    def abandon(self) -> None:
        """Stops sending on all streams, as the lane closes."""
        for stream in list(self._open):
            stream.abandon()
