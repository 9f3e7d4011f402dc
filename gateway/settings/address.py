"""Addresses that a gateway listens on."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:\[\]\s]*)):(?P<port>[0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """
    Host and TCP port. The hosts ``0.0.0.0`` and ``::``, and none, mean every interface, by IPv4 and by IPv6 where the machine
    has it. Port 0 means any free port.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads ``host:port``, ``[::1]:port`` or ``:port``. Raises ValueError saying what came and what was expected."""
        found = _ADDRESS.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{text!r} is no address: expected HOST:PORT, [IPV6]:PORT or :PORT")
        port = int(found["port"])
        if port > 65535:
            raise ValueError(f"{text!r} is no address: port {port} is above 65535")
        return cls(found["six"] or found["host"] or "0.0.0.0", port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether the host means every interface."""
        return self.host in ("0.0.0.0", "::")

    @property
    def reachable(self) -> Address:
        """The address to connect to from this machine: loopback if the host means every interface."""
        return Address("127.0.0.1", self.port) if self.is_wildcard else self  # IPv6 may be disabled
