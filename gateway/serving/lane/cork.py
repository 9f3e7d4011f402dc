"""
Sends the answers of a batch in few packets: corks their connections (TCP_CORK, tcp(7)) while the answers are written.

gRPC core writes every answer to its socket at once. Each write passes the whole network stack and wakes the peer, which
costs the lane more than the write itself. Between `cork` and `uncork` the kernel gathers the answers; `push` sends those
gathered so far, so that the peer starts on the first answers while the last are written.

Sockets are found by the peer that a call names. A descriptor may belong to another socket by now. It is never closed,
duplicated or read, and a short cork harms no connection.
"""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Iterable, Sequence

from gateway.serving.lane.tcp_connections import connections

SCAN_EVERY_S = 0.2  # minimum seconds between two scans for unknown connections
SCAN_PAUSE = 200  # minimum pause between scans in durations of the last scan, so scanning costs at most 0.5 % of a core
_TCP_CORK = getattr(socket, "TCP_CORK", None)  # Linux


class Corks:
    """Corks the connections of this process. Thread-safe. Every `cork` must be followed by its `uncork`."""

    def __init__(self) -> None:
        self._descriptors: dict[bytes, int] = {}
        self._scan_at_s = 0.0
        self._set = ctypes.CDLL(None).setsockopt  # ctypes' default types are right, and declared ones make a call slower

    def cork(self, peers: Iterable[bytes]) -> Sequence[int]:
        """Gathers what is written to these peers, named as by gRPC core. Returns descriptors for `push` and `uncork`."""
        if _TCP_CORK is None:
            return ()
        corked = []
        for peer in peers:
            descriptor = self._descriptors.get(peer)
            if descriptor is None:
                descriptor = self._find(peer)
            if descriptor >= 0 and not self._set(descriptor, socket.IPPROTO_TCP, _TCP_CORK, _ONE, _SIZE):
                corked.append(descriptor)
        return corked

    def push(self, corked: Sequence[int]) -> None:
        """Sends what is gathered. Setting TCP_NODELAY does that (tcp(7)); gRPC has set it anyway."""
        for descriptor in corked:
            self._set(descriptor, socket.IPPROTO_TCP, socket.TCP_NODELAY, _ONE, _SIZE)

    def uncork(self, corked: Sequence[int]) -> None:
        """Sends what is gathered, and stops gathering."""
        for descriptor in corked:
            self._set(descriptor, socket.IPPROTO_TCP, _TCP_CORK, _ZERO, _SIZE)

    def _find(self, peer: bytes) -> int:
        """Returns the descriptor of an unknown peer; -1 if it is not found, or if it is too early for a scan."""
        began_s = time.monotonic()
        if began_s < self._scan_at_s:
            return -1
        found = {connection.peer: connection.descriptor for connection in connections() or ()}
        descriptor = found.setdefault(peer, -1)
        self._descriptors = found
        ended_s = time.monotonic()
        self._scan_at_s = ended_s + max(SCAN_EVERY_S, SCAN_PAUSE * (ended_s - began_s))
        return descriptor


_ONE, _ZERO = ctypes.byref(ctypes.c_int(1)), ctypes.byref(ctypes.c_int(0))
_SIZE = ctypes.sizeof(ctypes.c_int)
