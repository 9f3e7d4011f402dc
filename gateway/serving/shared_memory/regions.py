"""
Shared memory regions that requests may name, as this worker has them open.

Readers see one immutable table, replaced by one assignment. A request keeps the objects it uses (`Memory`), so a region
that is unregistered meanwhile is closed when its last request has ended. Every use is checked, as the object's owner may
change it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import structlog

from gateway.contract.desired import Region
from gateway.errors import GatewayError, InvalidRequest, NotAllowed, RegionNotFound
from gateway.runtime.session import Array
from gateway.runtime.shared_object import SharedObject, open_object
from gateway.runtime.tensor_contents import from_raw, to_raw
from gateway.serving.oip.placement import Placement
from gateway.serving.run_plan import Feed, RunPlan

MAX_TENSOR_BYTES = 1 << 30  # bytes of one tensor; more is a mistake, and would be copied into this process's memory
_log = structlog.get_logger("interlock.serving")


@dataclass(frozen=True, slots=True)
class _OpenRegion:
    """A region with its open object, or the reason why it is not open here."""

    region: Region
    opened: SharedObject | None
    problem: str = ""


class Memory:
    """
    The shared memory that one request uses, open until `release` or the end of the request. ``written`` says where its
    outputs were written, None for those in the message.
    """

    __slots__ = ("_objects", "_regions", "written")

    def __init__(self, regions: Mapping[str, Region], objects: Mapping[str, SharedObject]) -> None:
        self._regions = regions
        self._objects = objects
        self.written: list[Placement | None] = []

    def release(self) -> None:
        """Drops the objects, although a copy of the request for a shadow may still be queued."""
        self._objects = {}

    def check(self, what: str, placement: Placement) -> None:
        """Raises InvalidRequest for a placement outside its region; ``what`` names the tensor."""
        region, end = self._regions[placement.region], placement.offset + placement.byte_size
        if end > region.byte_size:
            raise InvalidRequest(
                f"{what}: bytes {placement.offset} to {end} are outside region {region.name!r} of {region.byte_size} bytes",
                region=region.name,
            )
        if placement.byte_size > MAX_TENSOR_BYTES:
            raise InvalidRequest(
                f"{what}: {placement.byte_size} bytes in shared memory, at most {MAX_TENSOR_BYTES} are allowed"
            )

    def read(self, feed: Feed, placement: Placement) -> Array:
        """Returns an aligned copy of an input. Raises InvalidRequest naming it, also if the object has shrunk."""
        what = f"input {feed.name!r}"
        self.check(what, placement)
        buffer = np.empty(placement.byte_size, np.uint8).data
        start = self._regions[placement.region].offset + placement.offset
        got = self._objects[placement.region].read_into(buffer, start)
        if got < placement.byte_size:
            raise _shrunk(what, placement, got)
        return from_raw(feed.name, feed.datatype, feed.shape, buffer)

    def write(self, name: str, array: Array, placement: Placement) -> Placement:
        """Writes an output to its placement and returns the bytes it took. Raises InvalidRequest if there is no room."""
        what = f"output {name!r}"
        data = memoryview(to_raw(array)) if array.dtype == np.object_ else _bytes_of(array)
        if len(data) > placement.byte_size:
            raise InvalidRequest(
                f"{what}: needs {len(data)} bytes, {placement.byte_size} are given in region {placement.region!r}", field=name
            )
        start = self._regions[placement.region].offset + placement.offset
        opened = self._objects[placement.region]
        room = opened.size() - start
        if room < len(data):  # a write beyond the end would make the object grow
            raise _shrunk(what, placement, max(0, room))
        try:
            opened.write(data, start)
        except OSError as error:
            raise InvalidRequest(f"{what}: region {placement.region!r}: {os.strerror(error.errno or 0)}", field=name) from None
        return Placement(placement.region, placement.offset, len(data))


class OpenRegions:
    """The regions that control has registered. With ``is_on`` False no request may use shared memory."""

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._open: Mapping[str, _OpenRegion] = {}

    def update(self, regions: Iterable[Region]) -> None:
        """Opens these regions and closes all others. Called by one thread. A region that cannot be opened keeps the reason."""
        before, after = self._open, {}
        for region in regions if self._is_on else ():
            known = before.get(region.name)
            after[region.name] = known if known is not None and known.region == region else _open_region(region)
        self._open = after

    def use(self, plan: RunPlan) -> Memory:
        """
        Returns the shared memory of a request with this plan. Raises RegionNotFound; NotAllowed if shared memory is off;
        InvalidRequest for a region that is not open here or a placement outside it.
        """
        if not self._is_on:
            raise NotAllowed(
                "tensors in shared memory are off: start the gateway with --shared-memory", option="--shared-memory"
            )
        regions = self._open
        memory = Memory(
            {name: _find(regions, name).region for name in plan.regions},
            {name: _opened(_find(regions, name)) for name in plan.regions},
        )
        for name, placement in zip(plan.outputs, plan.placements, strict=False):  # none, or one for each output
            if placement is not None:
                memory.check(f"output {name!r}", placement)
        return memory


def _open_region(region: Region) -> _OpenRegion:
    try:
        opened = open_object(region.key)
    except GatewayError as error:
        problem = str(error)
    else:
        if opened.identity == region.identity:
            return _OpenRegion(region, opened)
        problem = f"key {region.key!r}: is another object than the one registered"
    _log.warning("region_not_open", region=region.name, problem=problem)
    return _OpenRegion(region, None, problem)


def _find(regions: Mapping[str, _OpenRegion], name: str) -> _OpenRegion:
    found = regions.get(name)
    if found is None:
        raise RegionNotFound(f"shared memory region {name!r}: not registered", region=name)
    return found


def _opened(region: _OpenRegion) -> SharedObject:
    if region.opened is None:
        raise InvalidRequest(f"shared memory region {region.region.name!r}: {region.problem}", region=region.region.name)
    return region.opened


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _shrunk(what: str, placement: Placement, got: int) -> InvalidRequest:
    return InvalidRequest(
        f"{what}: {got} bytes are left at {placement.offset} of region {placement.region!r}, expected {placement.byte_size}: "
        f"its object was made smaller",
        region=placement.region,
    )
