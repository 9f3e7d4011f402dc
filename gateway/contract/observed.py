"""The observed state: a worker's report on itself and its versions, and control's request for it. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.contract.version_state import VersionState


@dataclass(frozen=True, slots=True)
class ObservedVersion:
    """
    The state of one version in one worker. Memory is what the process grew by while it loaded and warmed up the version. It
    is an estimate, since requests are served meanwhile: ``private_bytes`` of its own, ``mapped_bytes`` of files, which
    workers share; ``memory_bytes`` is both. ``batch_failure`` says why the worker stopped to batch it, empty if it did not.
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
    batch_failure: str = ""


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
    """Control's request for `Observed`, `Telemetry` and the waiting predictions now. The worker answers with `Reported`."""

    token: int


@dataclass(frozen=True, slots=True)
class Reported:
    """Says that everything that `Report` with this token asked for has been sent before this message."""

    token: int
