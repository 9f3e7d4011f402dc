"""
Reserving TCP ports for a gateway whose processes share them.

A first, exclusive bind finds out whether somebody else has the port; then a socket that is bound but never listens
keeps it (SO_REUSEPORT), so that a restarted child finds its port free and port 0 is resolved once.
"""

from __future__ import annotations

import errno
import socket

from gateway.settings import Address, CannotStart


def reserve(option: str, address: Address) -> tuple[Address, socket.socket]:
    """
    The address with its real port, and the socket that keeps it until closed. ``option`` names the setting in errors.
    Raises CannotStart when the port is in use, not permitted, or the host is not of this machine.
    """
    family, target = _resolve(option, address)
    try:
        with _bound(family, target, exclusive=True) as probe:
            port = probe.getsockname()[1]
        keeper = _bound(family, (target[0], port, *target[2:]), exclusive=False)
    except OSError as error:
        raise CannotStart(_explain(option, address, error)) from error
    return Address(address.host, port), keeper


def _resolve(option: str, address: Address) -> tuple[socket.AddressFamily, tuple[str | int, ...]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise CannotStart(f"{_named(option, address)}: the host {address.host!r} is unknown") from error
    family, _kind, _protocol, _name, target = found[0]
    return family, tuple(part for part in target if not isinstance(part, bytes))


def _bound(family: socket.AddressFamily, target: tuple[str | int, ...], *, exclusive: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # The probe ignores connections of an earlier gateway that linger (TIME_WAIT), but neither listeners nor keepers.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if exclusive else socket.SO_REUSEPORT, 1)
        sock.bind(target)
    except OSError:
        sock.close()
        raise
    return sock


def _named(option: str, address: Address) -> str:
    return f"--{option.replace('_', '-')} {address}"


def _explain(option: str, address: Address, error: OSError) -> str:
    text = {
        errno.EADDRINUSE: "the port is in use by another program; stop it or choose another port (0 = any free one)",
        errno.EACCES: "not permitted; ports below 1024 need privileges, choose a higher one",
        errno.EADDRNOTAVAIL: "this machine has no such address",
    }.get(error.errno or 0, str(error))
    return f"{_named(option, address)}: {text}"
