"""
The shared memory regions that requests may name, as this worker has them open.

Readers see one immutable table, replaced by one assignment. A request keeps the objects it uses (`Memory`), so one that is
unregistered meanwhile is closed when its last request is gone. Every use is checked anew: who made an object may change it.
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
from gateway.runtime.tensors import from_raw, to_raw
from gateway.serving.binding import Binding, Feed
from gateway.serving.oip.placement import Placement

MAX_TENSOR_BYTES = 1 << 30  # a tensor that takes more of a region is a mistake: it would be copied into memory of our own
_log = structlog.get_logger("interlock.worker")


@dataclass(frozen=True, slots=True)
class _Held:
    """A region with its open object, or the reason why it is not open here."""

    region: Region
    opened: SharedObject | None
    problem: str = ""


class Memory:
    """
    What one request uses of shared memory, open until `release` or the end of the request. ``written`` is where its outputs
    went, None for those in the message.
    """

    __slots__ = ("_objects", "_regions", "written")

    def __init__(self, regions: Mapping[str, Region], objects: Mapping[str, SharedObject]) -> None:
        self._regions = regions
        self._objects = objects
        self.written: list[Placement | None] = []

    def release(self) -> None:
        """Lets go of the objects, although a copy of the request for a shadow may still be waiting."""
        self._objects = {}

    def check(self, what: str, placement: Placement) -> None:
        """Raises InvalidRequest for a placement that is not inside its region; ``what`` is the tensor."""
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
        """A copy of an input, aligned. Raises InvalidRequest naming it, also where the object has shrunk."""
        what = f"input {feed.name!r}"
        self.check(what, placement)
        buffer = np.empty(placement.byte_size, np.uint8).data
        start = self._regions[placement.region].offset + placement.offset
        got = self._objects[placement.region].read_into(buffer, start)
        if got < placement.byte_size:
            raise _shrunk(what, placement, got)
        return from_raw(feed.name, feed.datatype, feed.shape, buffer)

    def write(self, name: str, array: Array, placement: Placement) -> Placement:
        """Puts an output where it was asked for; which bytes it took. Raises InvalidRequest naming it when it has no room."""
        what = f"output {name!r}"
        data = memoryview(to_raw(array)) if array.dtype == np.object_ else _bytes_of(array)
        if len(data) > placement.byte_size:
            raise InvalidRequest(
                f"{what}: needs {len(data)} bytes, {placement.byte_size} are given in region {placement.region!r}", field=name
            )
        start = self._regions[placement.region].offset + placement.offset
        opened = self._objects[placement.region]
        room = opened.size() - start
        if room < len(data):  # writing beyond the end would make the object grow
            raise _shrunk(what, placement, max(0, room))
        try:
            opened.write(data, start)
        except OSError as error:
            raise InvalidRequest(f"{what}: region {placement.region!r}: {os.strerror(error.errno or 0)}", field=name) from None
        return Placement(placement.region, placement.offset, len(data))


class Regions:
    """Holds what control has registered. ``is_on`` False: no request may use shared memory."""

    def __init__(self, *, is_on: bool) -> None:
        self._is_on = is_on
        self._held: Mapping[str, _Held] = {}

    def hold(self, wanted: Iterable[Region]) -> None:
        """Has these regions open, and no others; for one thread. One that cannot be opened answers with the reason."""
        before, after = self._held, {}
        for region in wanted if self._is_on else ():
            known = before.get(region.name)
            after[region.name] = known if known is not None and known.region == region else _hold(region)
        self._held = after

    def use(self, binding: Binding) -> Memory:
        """
        What a request of this binding uses. Raises RegionNotFound, NotAllowed where shared memory is off, InvalidRequest for
        a region that is not open here or a placement outside it.
        """
        if not self._is_on:
            raise NotAllowed(
                "tensors in shared memory are off: start the gateway with --shared-memory", option="--shared-memory"
            )
        held = self._held
        memory = Memory(
            {name: _find(held, name).region for name in binding.regions},
            {name: _opened(_find(held, name)) for name in binding.regions},
        )
        for name, placement in zip(binding.outputs, binding.placements, strict=False):  # none, or one each
            if placement is not None:
                memory.check(f"output {name!r}", placement)
        return memory


def _hold(region: Region) -> _Held:
    try:
        opened = open_object(region.key)
    except GatewayError as error:
        problem = str(error)
    else:
        if opened.identity == region.identity:
            return _Held(region, opened)
        problem = f"key {region.key!r}: is another object than the one registered"
    _log.warning("region_not_open", region=region.name, problem=problem)
    return _Held(region, None, problem)


def _find(held: Mapping[str, _Held], name: str) -> _Held:
    found = held.get(name)
    if found is None:
        raise RegionNotFound(f"shared memory region {name!r}: not registered", region=name)
    return found


def _opened(held: _Held) -> SharedObject:
    if held.opened is None:
        raise InvalidRequest(f"shared memory region {held.region.name!r}: {held.problem}", region=held.region.name)
    return held.opened


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _shrunk(what: str, placement: Placement, got: int) -> InvalidRequest:
    return InvalidRequest(
        f"{what}: {got} bytes are left at {placement.offset} of region {placement.region!r}, expected {placement.byte_size}: "
        f"its object was made smaller",
        region=placement.region,
    )
