"""
Version entries: one load of a version from start to end, and the two jobs that touch the runtime.

Jobs run on the manager's executor and change nothing here. They post outcomes, which the manager takes in under its own
lock, so only one thread at a time moves a state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.clock import Clock
from gateway.contract.desired import DesiredVersion
from gateway.contract.observed import ObservedVersion
from gateway.contract.version_state import VersionState
from gateway.telemetry.descriptor_limit import explained
from gateway.versions.loaded import LoadedVersion, Loader
from gateway.versions.policy import EntryView
from gateway.versions.states import VersionEvent, advance
from gateway.versions.warm_up import LoadFailed

_log = structlog.get_logger("interlock.versions")


@dataclass(slots=True)
class VersionEntry:
    """
    One load of a version. ``key`` orders entries by age; ``loaded`` is None before and after the version is in memory.
    Changed only by the manager; any thread may read ``state``.
    """

    key: int
    model: str
    desired: DesiredVersion
    state: VersionState = VersionState.NEW
    reason: str = ""
    loaded: LoadedVersion | None = None
    private_bytes: int = 0
    mapped_bytes: int = 0
    load_ms: float = 0.0
    is_spent: bool = False

    def take(self, event: VersionEvent, reason: str = "") -> None:
        """Moves the state by the table. Raises IllegalTransition and changes nothing if the table has no such move."""
        before, self.state = self.state, advance(self.state, event)
        self.reason = reason
        self.is_spent = self.is_spent or self.state in (VersionState.UNLOADING, VersionState.UNLOADED)
        _log.info(
            "version_state", model=self.model, version=self.desired.number, before=before, state=self.state, reason=reason
        )

    def view(self) -> EntryView:
        """Returns the entry as the policy sees it."""
        is_idle = self.loaded is None or self.loaded.in_flight == 0
        return EntryView(self.key, self.desired, self.state, is_idle, self.is_spent)

    def observed(self) -> ObservedVersion:
        """Returns the entry as control sees it."""
        return ObservedVersion(
            model=self.model,
            number=self.desired.number,
            state=self.state,
            reason=self.reason,
            memory_bytes=self.private_bytes + self.mapped_bytes,
            private_bytes=self.private_bytes,
            mapped_bytes=self.mapped_bytes,
            load_ms=self.load_ms,
            in_flight=self.loaded.in_flight if self.loaded else 0,
            batch_failure=self.loaded.batch_failure if self.loaded else "",
        )


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """Result of one step of a load or unload job. ``is_last``: the job has ended and touches the entry no more."""

    entry: VersionEntry
    event: VersionEvent
    loaded: LoadedVersion | None = None
    reason: str = ""
    load_ms: float = 0.0
    is_last: bool = True


Post = Callable[[JobOutcome], None]


def load(entry: VersionEntry, loader: Loader, clock: Clock, post: Post) -> None:
    """
    Job: loads a version and warms it up. Posts LOADED, then WARMED or FAILED.

    A load that is abandoned meanwhile ends with ABANDONED, which tells the manager that the version may be unloaded.
    """
    if entry.is_spent:
        post(JobOutcome(entry, VersionEvent.ABANDONED))
        return
    started = clock.monotonic()
    try:
        loaded = loader.load(entry.model, entry.desired)
    except Exception as error:  # a job is its own supervisor: any error becomes the version's state
        post(JobOutcome(entry, VersionEvent.FAILED, reason=_reason(error, "loading")))
        return
    post(JobOutcome(entry, VersionEvent.LOADED, loaded, is_last=False))
    if entry.is_spent:
        post(JobOutcome(entry, VersionEvent.ABANDONED, loaded))
        return
    try:
        loaded.warm_up()
        loaded.settle()
    except Exception as error:  # as above
        post(JobOutcome(entry, VersionEvent.FAILED, loaded, _reason(error, "warming up")))
        return
    post(JobOutcome(entry, VersionEvent.WARMED, loaded, load_ms=(clock.monotonic() - started) * 1000))


def unload(entry: VersionEntry, loaded: LoadedVersion, post: Post) -> None:
    """Job: frees a version. Posts UNLOADED or FAILED."""
    try:
        loaded.close()
    except Exception as error:  # a job is its own supervisor
        post(JobOutcome(entry, VersionEvent.FAILED, reason=_reason(error, "unloading")))
        return
    post(JobOutcome(entry, VersionEvent.UNLOADED))


def discard(loaded: LoadedVersion) -> None:
    """Job: frees a version that failed to warm up. Its entry is FAILED already, with the reason that counts."""
    try:
        loaded.close()
    except Exception as error:  # a job is its own supervisor
        _log.error("unexpected_load_error", doing="unloading", exc_info=error)


def _reason(error: Exception, doing: str) -> str:
    if isinstance(error, LoadFailed):
        return error.reason
    _log.error("unexpected_load_error", doing=doing, exc_info=error)
    text = explained(error) if isinstance(error, OSError) else str(error)
    return f"unexpected error while {doing}: {type(error).__name__}: {text}"
