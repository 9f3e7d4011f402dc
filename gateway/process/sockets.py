"""
Reserves TCP ports for a gateway whose processes share them.

A first, exclusive bind finds out whether another process has the port. Then a socket that is bound but never listens keeps
it (SO_REUSEPORT), so that a restarted child finds its port free and port 0 is resolved once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import stat

from gateway.process.wildcard import bound
from gateway.settings.address import Address
from gateway.settings.values import CannotStart

HIGHEST_DESCRIPTOR = 65_536  # the kernel's table of descriptors grows up to the highest one in use
SPARE_DESCRIPTORS = 64  # room for the copies


def reserve(option: str, address: Address) -> tuple[Address, socket.socket]:
    """
    Returns the address with its real port, and the socket that keeps it until closed. ``option`` names the setting in
    errors. Raises CannotStart if the port is in use or not permitted, or if the host is not of this machine.
    """
    try:
        # The probe ignores connections of an earlier gateway that linger (TIME_WAIT), but neither listeners nor keepers.
        with bound(address, [socket.SO_REUSEADDR]) as probe:
            port = probe.getsockname()[1]
        keeper = bound(Address(address.host, port), [socket.SO_REUSEPORT])
    except (socket.gaierror, UnicodeError) as error:
        raise CannotStart(f"{_named(option, address)}: the host {address.host!r} is unknown") from error
    except OSError as error:
        raise CannotStart(_explain(option, address, error)) from error
    return Address(address.host, port), keeper


class ClosesFirst:
    """
    Makes this process' listening sockets the first files that the kernel closes when the process is killed.

    Else callers whose connections are closed before them reconnect at once, to the dying listener as well as to its
    siblings on the port, and find themselves reset and backing off although others serve. Linux closes a dying process'
    files from the highest descriptor down, and a file when its last descriptor goes: hence a duplicate high up.
    """

    def __init__(self, port: int) -> None:
        """For the sockets that listen on ``port`` now. Nothing happens where the system has no /proc."""
        limit = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], HIGHEST_DESCRIPTOR)
        found = [number for number in _open_descriptors() if _listens_on(number, port)]
        self._copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, limit - SPARE_DESCRIPTORS) for number in found]

    def release(self) -> None:
        """Lets the port close when the server closes it, before an orderly stop. Safe to call twice."""
        while self._copies:
            os.close(self._copies.pop())


def _open_descriptors() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir("/proc/self/fd"))
    except OSError:
        return []


def _listens_on(descriptor: int, port: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            is_inet = sock.family in (socket.AF_INET, socket.AF_INET6)
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            return is_inet and listens and sock.getsockname()[1] == port
    except OSError:
        return False  # the descriptor of the listing itself, closed meanwhile


def _named(option: str, address: Address) -> str:
    return f"--{option.replace('_', '-')} {address}"


def _explain(option: str, address: Address, error: OSError) -> str:
    text = {
        errno.EADDRINUSE: "the port is in use by another program; stop it or choose another port (0 = any free one)",
        errno.EACCES: "not permitted; ports below 1024 need privileges, choose a higher one",
        errno.EADDRNOTAVAIL: "this machine has no such address",
        errno.EAFNOSUPPORT: "this machine has no IPv6; use an IPv4 address",
    }.get(error.errno or 0, str(error))
    return f"{_named(option, address)}: {text}"
