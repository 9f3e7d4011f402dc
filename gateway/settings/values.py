"""
What an operator can set, as one frozen value checked at construction; and what to say when the gateway cannot start.

Plain values only, because every worker imports this. Reading `INTERLOCK_*` variables is `gateway.environment`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

LOG_LEVELS = ("debug", "info", "warning", "error")
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^:\[\]\s]*)):(?P<port>[0-9]{1,5})", re.ASCII)


class CannotStart(ValueError):
    """The gateway cannot start as it was told to; the text says what the operator has to change."""


@dataclass(frozen=True, slots=True)
class Address:
    """Host and TCP port. An empty host means every IPv4 interface; port 0 means any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``host:port``, ``[::1]:port`` or ``:port``. Raises ValueError saying what came and what was expected."""
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
    def reachable(self) -> Address:
        """The address to connect to from this machine: loopback where the host means every interface."""
        return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port)


def default_home() -> Path:
    """``interlock`` in the user's data folder (XDG_DATA_HOME, else ``~/.local/share``)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "interlock"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Everything that can be set, each as ``INTERLOCK_<NAME>`` or an option of ``interlock serve``.

    home: folder of the registry, the artifacts and the prediction log; made when missing.
    data_address, admin_address, http_address: where predictions, administration, and metrics and health are served.
    workers: worker processes; 0 runs control and one worker inside one process.
    lane: "fast" (completion-queue lane, falls back by itself) or "standard" (grpcio's public server only).
    model_control: answer RepositoryModelLoad and Unload on the data port too.
    shared_memory: let callers register shared memory objects of the gateway's own user and keep tensors there.
    reflection: gRPC reflection on the data port.
    drain_delay_s: seconds between health NOT_SERVING and the refusal of new calls; 0 = at once.
    grace_s: seconds that calls in flight get to end at a stop; what runs longer is cut.
    log_level: debug, info, warning or error.
    trace_ratio: share of requests traced, 0 to 1, when the caller's trace context does not decide it.
    prediction_sample: share of predictions recorded for live quality, 0 to 1; 0 = none.
    prediction_window_s: seconds for which a prediction waits for its ground truth.
    prediction_bytes: bytes that the prediction log may take on disk.
    max_message_bytes: largest request or response.
    max_connection_age_s: seconds after which a connection is asked to reconnect, which spreads clients over workers; 0 = never.
    max_concurrent_streams: calls under way on one connection, of which a client holds back what is more; 0 = no bound.
    memory_budget_bytes: memory that all workers may take together, checked before a version is loaded; 0 = what the machine or
        its control group has, without a reserve of a tenth (256 MiB at least).
    load_timeout_s: seconds within which every worker has to prepare a version.
    unit_header: request metadata that names the unit for sticky routing.
    on_demand: versions that callers may have loaded by naming them, at most; 0 = none.
    """

    home: Path = field(default_factory=default_home)
    data_address: Address = Address("0.0.0.0", 8001)
    admin_address: Address = Address("127.0.0.1", 9001)
    http_address: Address = Address("0.0.0.0", 8002)
    workers: int = field(default_factory=cores)
    lane: Literal["fast", "standard"] = "fast"
    model_control: bool = False
    shared_memory: bool = False
    reflection: bool = False
    drain_delay_s: float = 0.5
    grace_s: float = 30.0
    log_level: str = "info"
    trace_ratio: float = 0.01
    prediction_sample: float = 1.0
    prediction_window_s: float = 7 * 86400.0
    prediction_bytes: int = 2 * 1024**3
    max_message_bytes: int = 64 * 1024**2
    max_connection_age_s: float = 600.0
    max_concurrent_streams: int = 256
    memory_budget_bytes: int = 0
    load_timeout_s: float = 120.0
    unit_header: str = "x-unit-id"
    on_demand: int = 0

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(problem)

    def _problems(self) -> list[str]:
        """What is wrong, in the words of the setting concerned."""
        found = [
            _outside("workers", self.workers, 0, 256),
            _outside("drain_delay_s", self.drain_delay_s, 0, 3600),
            _outside("grace_s", self.grace_s, 0, 3600),
            _outside("trace_ratio", self.trace_ratio, 0, 1),
            _outside("prediction_sample", self.prediction_sample, 0, 1),
            _outside("prediction_window_s", self.prediction_window_s, 1, 3650 * 86400),
            _outside("prediction_bytes", self.prediction_bytes, 1024**2, 2**50),
            _outside("max_message_bytes", self.max_message_bytes, 1024, 2**31 - 1),
            _outside("max_connection_age_s", self.max_connection_age_s, 0, 86400 * 365),
            _outside("max_concurrent_streams", self.max_concurrent_streams, 0, 2**31 - 1),
            _outside("on_demand", self.on_demand, 0, 1000),
            _outside("memory_budget_bytes", self.memory_budget_bytes, 0, 2**60),
            _outside("load_timeout_s", self.load_timeout_s, 0.1, 86400),
        ]
        if self.lane not in ("fast", "standard"):
            found.append(f"lane: {self.lane!r} is unknown, expected fast or standard")
        if self.log_level not in LOG_LEVELS:
            found.append(f"log_level: {self.log_level!r} is unknown, expected one of {', '.join(LOG_LEVELS)}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.unit_header) or self.unit_header.endswith("-bin"):
            found.append(f"unit_header: {self.unit_header!r} is no name of text metadata (lower case, no -bin)")
        found.extend(self._same_ports())
        return [text for text in found if text]

    def _same_ports(self) -> list[str]:
        """Two services on one port (0 = any free one is no clash)."""
        names = ("data_address", "admin_address", "http_address")
        by_port: dict[int, list[str]] = {}
        for name in names:
            by_port.setdefault(getattr(self, name).port, []).append(name)
        return [
            f"{' and '.join(same)} are both on port {port}: give each its own"
            for port, same in by_port.items()
            if port and len(same) > 1
        ]


def _outside(name: str, value: float, low: float, high: float) -> str:
    if low <= value <= high:
        return ""
    return f"{name}: {value} is out of range, expected {low} to {high}"
