"""
Finds the TCP connections of this process among its open files, as gRPC's Python layer does not tell them. Linux only.

A scan costs microseconds per open file, in the interpreter that serves requests, so callers scan rarely.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

_MAPPED = "::ffff:"  # an IPv4 peer of an IPv6 socket (RFC 4291, 2.5.5.2)


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection. ``peer`` is the other end as gRPC core writes it. gRPC may close the ``descriptor`` at any time."""

    descriptor: int
    own_port: int
    peer: bytes


def connections() -> list[Connection] | None:
    """Returns the open connections; None where the system has no /proc."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return None
    found = (_connection(int(name)) for name in names)
    return [connection for connection in found if connection is not None]


def _connection(descriptor: int) -> Connection | None:
    try:
        if not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
            return None
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return None  # it was closed meanwhile
    try:
        own, peer = sock.getsockname(), sock.getpeername()
    except OSError:
        return None  # it is listening or closed
    finally:
        sock.detach()  # it belongs to gRPC
    if not isinstance(own, tuple) or not peer:
        return None  # it is a Unix socket
    return Connection(descriptor, own[1], peer_name(peer[0], peer[1]))


def peer_name(host: str, port: int) -> bytes:
    """Returns an address as gRPC core names peers (its ``grpc_sockaddr_to_uri``)."""
    if host.startswith(_MAPPED) and "." in host:
        host = host[len(_MAPPED) :]
    return (f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}").encode()
