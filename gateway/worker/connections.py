"""Counts the connections of clients that this process holds. Scans at most every few seconds, since a scan costs time."""

from __future__ import annotations

from gateway.clock import Clock
from gateway.serving.lane.tcp_connections import connections

LOOK_EVERY_S = 5.0


class Connections:
    """Of the ``port`` that this process listens on, once `look_at` has named it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._port = 0
        self._count, self._counted_at = -1, float("-inf")

    def look_at(self, port: int) -> None:
        """Counts what is connected to this port from now on; 0 = nothing listens."""
        self._port, self._counted_at = port, float("-inf")

    def count(self, *, is_fresh: bool = False) -> int:
        """Connections, at most LOOK_EVERY_S seconds old unless ``is_fresh``; -1 where it cannot be known."""
        now_s = self._clock.monotonic()
        if is_fresh or now_s - self._counted_at >= LOOK_EVERY_S:
            self._counted_at = now_s
            self._count = self._look() if self._port else -1
        return self._count

    def _look(self) -> int:
        found = connections()
        return -1 if found is None else sum(connection.own_port == self._port for connection in found)
