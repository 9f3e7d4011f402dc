"""
The answers of a burst in few packets: their connections are corked (TCP_CORK, tcp(7)) while the answers are written.

gRPC core writes every answer to its socket at once, and every such write passes the whole network stack and wakes the
peer, which costs the lane more than the write itself. Between `cork` and `uncork` the kernel gathers them; `push` sends
what there is, so that the peer begins with the first answers while the last are written.

Sockets are found by the peer that a call names. A descriptor may have passed on to another socket since: it is never
closed, duplicated or read, and being corked for an instant harms none.
"""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Iterable, Sequence

from gateway.serving.lane.tcp_connections import connections

LOOK_EVERY_S = 0.2  # at most, for connections not known yet
LOOK_SHARE = 200  # and so many times as long as a look took: at most half a percent of a core
_TCP_CORK = getattr(socket, "TCP_CORK", None)  # Linux


class Corks:
    """Of this process' connections. Any thread may use it; every `cork` must be followed by its `uncork`."""

    def __init__(self) -> None:
        self._descriptors: dict[bytes, int] = {}
        self._look_at_s = 0.0
        self._set = ctypes.CDLL(None).setsockopt  # its types are ctypes' defaults; to declare them makes a call slower

    def cork(self, peers: Iterable[bytes]) -> Sequence[int]:
        """Gathers from now on what is written to these peers, as gRPC core names them: the corked, for `push`, `uncork`."""
        if _TCP_CORK is None:
            return ()
        corked = []
        for peer in peers:
            descriptor = self._descriptors.get(peer)
            if descriptor is None:
                descriptor = self._look_for(peer)
            if descriptor >= 0 and not self._set(descriptor, socket.IPPROTO_TCP, _TCP_CORK, _ONE, _SIZE):
                corked.append(descriptor)
        return corked

    def push(self, corked: Sequence[int]) -> None:
        """Sends what has been written so far; to set TCP_NODELAY, which gRPC has set anyway, does so (tcp(7))."""
        for descriptor in corked:
            self._set(descriptor, socket.IPPROTO_TCP, socket.TCP_NODELAY, _ONE, _SIZE)

    def uncork(self, corked: Sequence[int]) -> None:
        """Sends what has been written, and from now on everything at once."""
        for descriptor in corked:
            self._set(descriptor, socket.IPPROTO_TCP, _TCP_CORK, _ZERO, _SIZE)

    def _look_for(self, peer: bytes) -> int:
        """The descriptor of a peer not known yet; -1 when it is not to be found, or not to be looked for so soon."""
        began_s = time.monotonic()
        if began_s < self._look_at_s:
            return -1
        found = {connection.peer: connection.descriptor for connection in connections() or ()}
        descriptor = found.setdefault(peer, -1)
        self._descriptors = found
        ended_s = time.monotonic()
        self._look_at_s = ended_s + max(LOOK_EVERY_S, LOOK_SHARE * (ended_s - began_s))
        return descriptor


_ONE, _ZERO = ctypes.byref(ctypes.c_int(1)), ctypes.byref(ctypes.c_int(0))
_SIZE = ctypes.sizeof(ctypes.c_int)
