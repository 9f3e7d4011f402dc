"""
Registration of shared memory regions. A region is checked here once and becomes part of the desired state, so that every
worker opens it.

Registrations last as long as the gateway runs: a restarted control finds them in the last desired state. A shared memory
object is only inspected, never created, changed or unlinked. The names and the answers follow Triton's system shared memory
extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from gateway.contract.desired import Region
from gateway.control.changes.two_phase import TwoPhase
from gateway.control.desired.state_store import DesiredStateStore
from gateway.control.limits import ControlLimits
from gateway.errors import AlreadyThere, InvalidRequest, NotAllowed, NotReady, Overloaded, RegionNotFound
from gateway.runtime.shared_object import open_object
from gateway.settings.sections import RequestSettings

MAX_REGIONS = 256  # registered regions; each is an open file in every worker, and a process often has at most 1,024
MAX_NAME = 255  # characters of a region's name
_log = structlog.get_logger("interlock.control")


class SharedRegions:
    """
    Registers and unregisters regions. A call returns when every worker has applied the change. Thread-safe. Every method
    raises NotAllowed if shared memory is off.
    """

    def __init__(
        self, requests: RequestSettings, limits: ControlLimits, desired: DesiredStateStore, two_phase: TwoPhase
    ) -> None:
        self._requests, self._limits, self._desired, self._two_phase = requests, limits, desired, two_phase

    def status(self, name: str) -> tuple[Region, ...]:
        """Returns the region ``name``, or all regions for an empty name. Raises RegionNotFound."""
        self._check_on()
        regions = self._desired.regions()
        if name and name not in regions:
            raise _not_found(name)
        return (regions[name],) if name else tuple(regions.values())

    def register(self, region: Region) -> None:
        """
        Registers a region; its ``identity`` is filled in here. Raises InvalidRequest, NotAllowed (another user's object),
        AlreadyThere, Overloaded (MAX_REGIONS are registered), NotReady (a worker has not applied it in time).
        """
        self._check_on()
        found = _checked(region)

        def add(regions: Mapping[str, Region]) -> Mapping[str, Region]:
            if region.name in regions:
                raise AlreadyThere(f"shared memory region {region.name!r} is already registered", region=region.name)
            if len(regions) >= MAX_REGIONS:
                raise Overloaded(f"{MAX_REGIONS} shared memory regions are registered, the most allowed", limit=MAX_REGIONS)
            return {**regions, region.name: found}

        self._wait(self._desired.change_regions(add), f"shared memory region {region.name!r} is registered")
        _log.info("region_registered", region=region.name, key=region.key, offset=region.offset, bytes=region.byte_size)

    def unregister(self, name: str) -> None:
        """Unregisters the region ``name``, or all regions for an empty name. An unknown name is no error, as in Triton."""
        self._check_on()
        self._wait(
            self._desired.change_regions(lambda regions: {key: one for key, one in regions.items() if name and key != name}),
            f"shared memory region {name!r} is unregistered",
        )
        _log.info("region_unregistered", region=name or "all")

    def _wait(self, revision: int, done: str) -> None:
        if not self._two_phase.applied(revision):
            raise NotReady(f"{done}, but not every worker has applied it within {self._limits.acknowledge_timeout_s:g} s")

    def _check_on(self) -> None:
        if not self._requests.shared_memory:
            raise NotAllowed("shared memory is off: start the gateway with --shared-memory", option="--shared-memory")


def _checked(region: Region) -> Region:
    """Returns the region with its object's identity filled in. Raises InvalidRequest, NotAllowed."""
    if not region.name or len(region.name) > MAX_NAME:
        raise InvalidRequest(f"name: expected 1 to {MAX_NAME} characters, got {len(region.name)}", field="name")
    if region.byte_size < 1:
        raise InvalidRequest(f"byte_size: expected 1 or more, got {region.byte_size}", field="byte_size")
    opened = open_object(region.key)
    size, end = opened.size(), region.offset + region.byte_size
    if end > size:
        raise InvalidRequest(
            f"byte_size: bytes {region.offset} to {end} are outside the object {region.key!r} of {size} bytes",
            field="byte_size",
        )
    return replace(region, identity=opened.identity)


def _not_found(name: str) -> RegionNotFound:
    return RegionNotFound(f"shared memory region {name!r}: not registered", region=name)
