"""
Placements: where a tensor lies that is not in the message, as a part of a registered shared memory region. Pure.

Parameters of Triton's shared memory extension:
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_shared_memory.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.errors import InvalidRequest

REGION, BYTE_SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"


@dataclass(frozen=True, slots=True)
class Placement:
    """Bytes ``offset`` to ``offset + byte_size`` of the region named ``region``."""

    region: str
    offset: int
    byte_size: int


def placement_of(what: str, parameters: Any) -> Placement | None:
    """
    Returns the placement in a tensor's parameters, None if there is none. ``what`` names the tensor in errors, as
    "input 'x'". Raises InvalidRequest for an incomplete placement.
    """
    if REGION not in parameters and BYTE_SIZE not in parameters:
        return None
    region = _value(parameters, REGION)
    if not isinstance(region, str):
        raise InvalidRequest(f"{what}: parameter {REGION!r}: expected the name of a region, got {region!r}", field=REGION)
    size = _count(what, parameters, BYTE_SIZE)
    return Placement(region, _count(what, parameters, OFFSET) if OFFSET in parameters else 0, size)


def _count(what: str, parameters: Any, name: str) -> int:
    value = _value(parameters, name)
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"{what}: parameter {name!r}: expected a number of bytes, got {value!r}", field=name)
    return value


def _value(parameters: Any, name: str) -> object:
    choice = parameters[name].WhichOneof("parameter_choice") if name in parameters else None
    return getattr(parameters[name], choice) if choice else None
