"""
The observed state: what a worker tells control of itself and its versions, and how control asks for it now. Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.contract.version_state import VersionState


@dataclass(frozen=True, slots=True)
class ObservedVersion:
    """
    What became of one version in one worker. Memory is what the process
    grew by while it loaded and warmed up, an estimate, since requests are served meanwhile: ``private_bytes`` its own,
    ``mapped_bytes`` pages of files, which workers share; ``memory_bytes`` is both.
    """

    model: str
    number: int
    state: VersionState
    reason: str = ""
    memory_bytes: int = 0
    load_ms: float = 0.0
    in_flight: int = 0
    private_bytes: int = 0
    mapped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """
    Sent after every change. ``revision`` is the last desired state taken; ``routes`` the deployment revision in force
    per model (a model's route changes only when every version it names is READY).
    """

    revision: int
    versions: tuple[ObservedVersion, ...]
    routes: Mapping[str, int]
    is_serving: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Control wants `Observed`, `Telemetry` and the waiting predictions now; the worker answers with `Reported`."""

    token: int


@dataclass(frozen=True, slots=True)
class Reported:
    """Everything asked for by `Report` with this token has been sent before this message."""

    token: int
