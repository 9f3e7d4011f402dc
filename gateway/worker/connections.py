"""
How many connections of clients this process holds, counted among its open files: gRPC's Python server does not tell.

Looked at every few seconds only, because it costs microseconds a file, in the interpreter that serves.
"""

from __future__ import annotations

import os
import socket

from gateway.clock import Clock

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
            self._count = connections_to(self._port) if self._port else -1
        return self._count


def connections_to(port: int) -> int:
    """This process' TCP connections whose own end is ``port``; -1 where the system has no /proc."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return -1
    return sum(_is_connection_to(int(name), port) for name in names)


def _is_connection_to(descriptor: int, port: int) -> bool:
    try:
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
            return False
        # Family and type are given only so that they are not asked for; the address tells its own family.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    except OSError:
        return False  # closed meanwhile
    try:
        own, peer = sock.getsockname(), sock.getpeername()
    except OSError:
        return False  # it listens, or is closed
    finally:
        sock.detach()  # it belongs to gRPC
    return isinstance(own, tuple) and bool(peer) and own[1] == port
