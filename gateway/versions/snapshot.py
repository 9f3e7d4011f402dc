"""The snapshot of a worker's versions: the immutable value that the request path reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from gateway.contract.desired import DesiredRoute, DesiredVersion
from gateway.versions.loaded import LoadedVersion


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    All versions of a worker at one moment. Never changed, only replaced by one assignment.

    ``routes`` are the routes in force: ``ready`` has every version that one names (a route leaves out a shadow that is not
    READY). ``ready`` are the versions that give leases. ``states`` are the states of all versions, for error messages.
    ``desired`` is what control said of every version, for metadata. ``aliases`` are those of models without a route.
    ``undeployed`` are models with versions in memory that have no deployment and expect none. ``unavailable`` says why a
    deployed model does not answer for a while.
    """

    routes: Mapping[str, DesiredRoute] = field(default_factory=dict)
    ready: Mapping[str, Mapping[int, LoadedVersion]] = field(default_factory=dict)
    states: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    desired: Mapping[str, Mapping[int, DesiredVersion]] = field(default_factory=dict)
    aliases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    undeployed: Set[str] = frozenset()
    unavailable: Mapping[str, str] = field(default_factory=dict)


Publish = Callable[[Snapshot], None]
