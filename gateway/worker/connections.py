"""Counts the connections of clients that this process holds. Scans at most every few seconds, since a scan costs time."""

from __future__ import annotations

import structlog

from gateway.clock import Clock
from gateway.serving.lane.tcp_connections import connections
from gateway.telemetry.descriptor_limit import explained, shortage
from gateway.telemetry.limited_log import LimitedLog

SCAN_EVERY_S = 5.0  # seconds between two scans, as a scan takes time of the interpreter that serves
_log = LimitedLog(structlog.get_logger("interlock.worker"))


class Connections:
    """The connections of clients to the port set by `watch_port`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._port = 0
        self._count, self._counted_at = -1, float("-inf")

    def watch_port(self, port: int) -> None:
        """Counts the connections to this port from now on; 0 for none."""
        self._port, self._counted_at = port, float("-inf")

    def count(self, *, is_fresh: bool = False) -> int:
        """Returns the number of connections, at most SCAN_EVERY_S old unless ``is_fresh``; -1 if it cannot be known."""
        now_s = self._clock.monotonic()
        if is_fresh or now_s - self._counted_at >= SCAN_EVERY_S:
            self._counted_at = now_s
            self._count = self._scan() if self._port else -1
        return self._count

    def _scan(self) -> int:
        found = connections()
        if found is not None:
            return sum(connection.own_port == self._port for connection in found)
        error = shortage()
        if error is not None:  # new clients wait meanwhile, and gRPC names no limit
            _log.error("descriptors_used_up", error=explained(error))
        return -1
