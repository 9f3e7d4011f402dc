"""
What the lifecycle needs from outside, and what it gives to the request path. Protocols and values; nothing here does anything.

`Loader` and `Held` are implemented where ONNX Runtime is; `Snapshot` is what the request path reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from gateway.contract.desired import DesiredRoute, DesiredVersion


class LoadFailed(Exception):
    """A version could not be loaded or warmed up. ``reason`` is for the operator: it says what was wrong with what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Held(Protocol):
    """One loaded version: what leases are taken on. ``retire`` and ``reinstate`` never block; the rest may."""

    @property
    def private_bytes(self) -> int:
        """Memory of this process alone that the version takes, as far as it is known; 0 when it is not."""
        ...

    @property
    def mapped_bytes(self) -> int:
        """Memory that the version takes and processes share, as far as it is known; 0 when it is not."""
        ...

    @property
    def in_flight(self) -> int:
        """Leases taken and not released."""
        ...

    def warm_up(self) -> None:
        """Runs the model until it is as fast as it gets. Blocks. Raises LoadFailed."""
        ...

    def settle(self) -> None:
        """Called once after warm-up: gives back what loading left over, and takes down the memory that is taken. Blocks."""
        ...

    def retire(self) -> None:
        """No new lease from now on: a reader with an old snapshot is refused and reads the new one."""
        ...

    def reinstate(self) -> None:
        """Leases are given again."""
        ...

    def close(self) -> None:
        """Frees the session. Only called when it is retired or was never published, and ``in_flight`` is 0. Blocks."""
        ...


class Loader(Protocol):
    """Makes versions ready to be leased."""

    def load(self, model: str, desired: DesiredVersion) -> Held:
        """The version, loaded but not warm. Blocks. Raises LoadFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    What the request path reads; never changed, only replaced by one assignment.

    ``routes`` are those in force: every version that one names is in ``ready`` (a shadow that is not READY is left out of
    its route). ``ready`` are the versions that may be leased. ``states`` names the state of every held version, for error
    messages. ``desired`` holds what is known of every held version, for metadata. ``aliases`` are names of versions where
    no route has them. ``undeployed`` are models of which versions are held but nothing is deployed or on its way.
    ``unavailable`` says of deployed models why nobody answers their callers for a while.
    """

    routes: Mapping[str, DesiredRoute] = field(default_factory=dict)
    ready: Mapping[str, Mapping[int, Held]] = field(default_factory=dict)
    states: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    desired: Mapping[str, Mapping[int, DesiredVersion]] = field(default_factory=dict)
    aliases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    undeployed: Set[str] = frozenset()
    unavailable: Mapping[str, str] = field(default_factory=dict)


Publish = Callable[[Snapshot], None]
