"""
One copy of a version from its load to its end: its state, what is loaded, and the two jobs that touch the runtime.

The jobs run on the manager's executor and change nothing here: they post outcomes, which the manager takes in under its
own lock. So only one thread at a time moves a state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.clock import Clock
from gateway.contract.desired import DesiredVersion
from gateway.contract.observed import ObservedVersion
from gateway.contract.version_state import VersionState
from gateway.versions.policy import Copy
from gateway.versions.ports import Held, Loader, LoadFailed
from gateway.versions.states import VersionEvent, advance

_log = structlog.get_logger("interlock.lifecycle")


@dataclass(slots=True)
class ManagedVersion:
    """A copy: ``key`` orders copies by age. Changed only by the manager; ``state`` may be read by any thread."""

    key: int
    model: str
    desired: DesiredVersion
    state: VersionState = VersionState.NEW
    reason: str = ""
    held: Held | None = None
    private_bytes: int = 0
    mapped_bytes: int = 0
    load_ms: float = 0.0
    is_spent: bool = False

    def take(self, event: VersionEvent, reason: str = "") -> None:
        """Moves the state by the table. Raises IllegalTransition and changes nothing when it has no such move."""
        before, self.state = self.state, advance(self.state, event)
        self.reason = reason
        self.is_spent = self.is_spent or self.state in (VersionState.UNLOADING, VersionState.UNLOADED)
        _log.info(
            "version_state", model=self.model, version=self.desired.number, before=before, state=self.state, reason=reason
        )

    def as_copy(self) -> Copy:
        """As the policy sees it."""
        is_idle = self.held is None or self.held.in_flight == 0
        return Copy(self.key, self.desired, self.state, is_idle, self.is_spent)

    def observed(self) -> ObservedVersion:
        """As control sees it."""
        return ObservedVersion(
            model=self.model,
            number=self.desired.number,
            state=self.state,
            reason=self.reason,
            memory_bytes=self.private_bytes + self.mapped_bytes,
            private_bytes=self.private_bytes,
            mapped_bytes=self.mapped_bytes,
            load_ms=self.load_ms,
            in_flight=self.held.in_flight if self.held else 0,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to. ``is_last``: the job has ended, nothing of it touches the copy any more."""

    version: ManagedVersion
    event: VersionEvent
    held: Held | None = None
    reason: str = ""
    load_ms: float = 0.0
    is_last: bool = True


Post = Callable[[Outcome], None]


def load(version: ManagedVersion, loader: Loader, clock: Clock, post: Post) -> None:
    """
    Job: loads and warms up, unless the version was abandoned before; posts LOADED, then WARMED or FAILED.

    A version abandoned on the way ends with ABANDONED, so that it is known when it can be freed.
    """
    if version.is_spent:
        post(Outcome(version, VersionEvent.ABANDONED))
        return
    started = clock.monotonic()
    try:
        held = loader.load(version.model, version.desired)
    except Exception as error:  # a job is its own supervisor: whatever happens becomes the version's state
        post(Outcome(version, VersionEvent.FAILED, reason=_reason(error, "loading")))
        return
    post(Outcome(version, VersionEvent.LOADED, held, is_last=False))
    if version.is_spent:
        post(Outcome(version, VersionEvent.ABANDONED, held))
        return
    try:
        held.warm_up()
        held.settle()
    except Exception as error:  # as above
        post(Outcome(version, VersionEvent.FAILED, reason=_reason(error, "warming up"), held=held))
        return
    post(Outcome(version, VersionEvent.WARMED, held, load_ms=(clock.monotonic() - started) * 1000))


def close(version: ManagedVersion, held: Held, post: Post) -> None:
    """Job: frees what was loaded; posts UNLOADED or FAILED."""
    try:
        held.close()
    except Exception as error:  # a job is its own supervisor
        post(Outcome(version, VersionEvent.FAILED, reason=_reason(error, "unloading")))
        return
    post(Outcome(version, VersionEvent.UNLOADED))


def _reason(error: Exception, doing: str) -> str:
    if isinstance(error, LoadFailed):
        return error.reason
    _log.error("unexpected_load_error", doing=doing, exc_info=error)
    return f"unexpected error while {doing}: {type(error).__name__}: {error}"
