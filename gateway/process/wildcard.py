"""
The one way in which the gateway binds a TCP port: as gRPC core does, which binds its own.

A wildcard (`Address.is_wildcard`) is every interface, by IPv6 and IPv4 on one socket where the kernel has IPv6, else by IPv4.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from gateway.settings.address import Address

Target = tuple[socket.AddressFamily, tuple[str | int, ...]]

# What a kernel without IPv6 says: it does not know the family, or has no address of it.
NO_IPV6 = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)


def bound(address: Address, options: Sequence[int]) -> socket.socket:
    """
    Returns a socket bound to the address, with these options of SOL_SOCKET set; it does not listen yet. Raises OSError, and
    socket.gaierror or UnicodeError for an unknown host.
    """
    *others, last = _targets(address)
    for target in others:
        try:
            return _bound(target, options)
        except OSError as error:
            if error.errno not in NO_IPV6:
                raise
    return _bound(last, options)


def _targets(address: Address) -> list[Target]:
    """Returns what to bind, in order of preference."""
    if address.is_wildcard:
        return [(socket.AF_INET6, ("::", address.port)), (socket.AF_INET, ("0.0.0.0", address.port))]
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _kind, _protocol, _name, target = found[0]
    return [(family, tuple(part for part in target if not isinstance(part, bytes)))]


def _bound(target: Target, options: Sequence[int]) -> socket.socket:
    family, where = target
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # whatever the system's default (bindv6only) is
        sock.bind(where)
    except OSError:
        sock.close()
        raise
    return sock
