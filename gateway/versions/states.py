"""
The states of one version in one worker: one table, one function that moves along it, one diagram made from it. Pure.

An event that the table does not have for a state is illegal: it raises and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from gateway.contract.version_state import VersionState


class VersionEvent(StrEnum):
    """What happens to a version."""

    LOAD_STARTED = "load_started"
    LOADED = "loaded"
    ABANDONED = "abandoned"
    WARMED = "warmed"
    DRAIN_STARTED = "drain_started"
    REINSTATED = "reinstated"
    DRAINED = "drained"
    UNLOADED = "unloaded"
    FAILED = "failed"


class IllegalTransition(RuntimeError):
    """The table has no such transition: the caller has a wrong view of the version's state."""

    def __init__(self, state: VersionState, event: VersionEvent) -> None:
        super().__init__(f"a version that is {state} cannot be {event}")
        self.state = state
        self.event = event


TRANSITIONS: Mapping[tuple[VersionState, VersionEvent], VersionState] = MappingProxyType(
    {
        (VersionState.NEW, VersionEvent.LOAD_STARTED): VersionState.LOADING,
        (VersionState.LOADING, VersionEvent.LOADED): VersionState.WARMING,
        (VersionState.LOADING, VersionEvent.ABANDONED): VersionState.UNLOADING,
        (VersionState.WARMING, VersionEvent.ABANDONED): VersionState.UNLOADING,
        (VersionState.WARMING, VersionEvent.WARMED): VersionState.READY,  # publish, then announce
        (VersionState.READY, VersionEvent.DRAIN_STARTED): VersionState.DRAINING,  # announce, then unpublish
        (VersionState.DRAINING, VersionEvent.REINSTATED): VersionState.READY,
        (VersionState.DRAINING, VersionEvent.DRAINED): VersionState.UNLOADING,
        (VersionState.UNLOADING, VersionEvent.UNLOADED): VersionState.UNLOADED,
        (VersionState.LOADING, VersionEvent.FAILED): VersionState.FAILED,
        (VersionState.WARMING, VersionEvent.FAILED): VersionState.FAILED,
        (VersionState.UNLOADING, VersionEvent.FAILED): VersionState.FAILED,
    }
)


def advance(state: VersionState, event: VersionEvent) -> VersionState:
    """The state after ``event``. Raises IllegalTransition when the table has no such move."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


def diagram() -> str:
    """The table as a Mermaid ``stateDiagram-v2``, ending with a newline."""
    moves = [f"    {source} --> {target}: {event}" for (source, event), target in TRANSITIONS.items()]
    sources = {source for source, _ in TRANSITIONS}
    ends = [f"    {state} --> [*]" for state in VersionState if state not in sources]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {VersionState.NEW}", *moves, *ends, ""])
