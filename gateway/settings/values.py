"""
The settings of a gateway as one frozen value, checked at construction.

Plain values only, because every worker imports this. `gateway.settings.environment` reads options and variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gateway.settings.address import Address
from gateway.settings.cpu_share import cpu_share
from gateway.settings.sections import DataPortSettings, LoadingSettings, PredictionSettings, RequestSettings, check_range

LOG_LEVELS = ("debug", "info", "warning", "error")


class CannotStart(ValueError):
    """The gateway cannot start with these settings; the text tells the operator what to change."""


def default_home() -> Path:
    """
    Returns ``interlock`` in the user's data folder (XDG_DATA_HOME, else ``~/.local/share``); /var/lib/interlock for a user
    without a home, such as a container's user id without a name.
    """
    try:
        return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "interlock"
    except RuntimeError:
        return Path("/var/lib/interlock")


def cores() -> int:
    """Returns the number of cores that this process may use, by its affinity and its CPU quota."""
    return cpu_share().usable


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Every setting, by section. Each field of this class and of its sections is ``INTERLOCK_<NAME>`` and an option of
    `interlock serve`.

    home: folder of the registry, the artifacts and the prediction log; made if missing.
    admin_address: where administration is served; default 127.0.0.1:9001.
    http_address: where metrics and health are served; default 0.0.0.0:8002.
    workers: worker processes; default one per core that the affinity and the CPU quota permit, 0 for control and one worker
        in one process.
    grace_s: seconds that calls in flight have at a stop, then they are cancelled; default 30.
    log_level: debug, info, warning or error.
    ready_models: deployed models that must be answered before /health/ready says ready: any (one of them; the default), all,
        none, or names with commas between them.
    """

    home: Path = field(default_factory=default_home)
    admin_address: Address = Address("127.0.0.1", 9001)
    http_address: Address = Address("0.0.0.0", 8002)
    workers: int = field(default_factory=cores)
    grace_s: float = 30.0
    log_level: str = "info"
    ready_models: str = "any"
    data_port: DataPortSettings = DataPortSettings()
    requests: RequestSettings = RequestSettings()
    predictions: PredictionSettings = PredictionSettings()
    loading: LoadingSettings = LoadingSettings()

    @classmethod
    def of(cls, **flat: Any) -> Settings:
        """Makes settings from the names of options. Raises ValueError naming the setting, TypeError for an unknown name."""
        return cls().replaced(**flat)

    def replaced(self, **flat: Any) -> Settings:
        """Returns these settings with others in place, by the names of options. Raises as `of`."""
        changes: dict[str, Any] = {}
        for name, section in SECTIONS.items():
            own = {item.name: flat.pop(item.name) for item in fields(section) if item.name in flat}
            if own:
                changes[name] = replace(getattr(self, name), **own)
        return replace(self, **changes, **flat)

    def __post_init__(self) -> None:
        check_range("workers", self.workers, 0, 256)
        check_range("grace_s", self.grace_s, 0, 3600)
        if self.log_level not in LOG_LEVELS:
            raise ValueError(f"log_level: {self.log_level!r} is unknown, expected one of {', '.join(LOG_LEVELS)}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(,[A-Za-z0-9][A-Za-z0-9._-]*)*", self.ready_models):
            raise ValueError(f"ready_models: expected any, all, none or names like a,b; got {self.ready_models!r}")
        for problem in self._same_ports():
            raise ValueError(problem)

    @property
    def addresses(self) -> dict[str, Address]:
        """The addresses by the names of their options."""
        return {
            "data_address": self.data_port.data_address,
            "admin_address": self.admin_address,
            "http_address": self.http_address,
        }

    @property
    def worker_processes(self) -> int:
        """Workers that serve: one if all runs in one process."""
        return max(1, self.workers)

    def _same_ports(self) -> Iterator[str]:
        """Yields a text for two services on one port (0, any free port, is no clash)."""
        by_port: dict[int, list[str]] = {}
        for name, address in self.addresses.items():
            by_port.setdefault(address.port, []).append(name)
        for port, same in by_port.items():
            if port and len(same) > 1:
                yield f"{' and '.join(same)} are both on port {port}: give each its own"


SECTIONS: dict[str, type] = {
    "data_port": DataPortSettings,
    "requests": RequestSettings,
    "predictions": PredictionSettings,
    "loading": LoadingSettings,
}
