"""
A model's route, compiled for reading: frozen, replaced whole. Pure.

The number line of `registry.deployment` becomes sorted bounds in 64-bit space, so that choosing is one bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

from gateway.contract.desired import DesiredRoute
from registry.deployment import PARTS

T = TypeVar("T")
SPACE = 1 << 64
DEFAULT, CANDIDATE, PINNED, SHADOW = "default", "candidate", "pinned", "shadow"


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """
    ``targets[i]`` answers positions in [bounds[i-1], bounds[i]) of SPACE; without ``bounds`` ``default`` answers all.
    ``named`` are versions by number and by alias: a request that names one is pinned to it.
    """

    revision: int
    default: T
    bounds: tuple[int, ...]
    targets: tuple[T, ...]
    salt: bytes
    shadow: T | None
    shadow_fraction: float
    named: Mapping[str, T]

    def choose(self, position: int) -> T:
        """Who answers a unit at this position (0 to SPACE - 1)."""
        return self.targets[bisect_right(self.bounds, position)]


def position(unit_id: str, salt: bytes) -> int:
    """
    Where a unit stands: keyed BLAKE2b (RFC 7693) of its id in 64 bits, with no modulo, so without bias. The salt is the
    experiment's: another experiment assigns the same units anew.
    """
    return int.from_bytes(blake2b(unit_id.encode(), digest_size=8, key=salt).digest(), "big")


def compile_route(route: DesiredRoute, ready: Iterable[int], target: Callable[[int, str], T]) -> Route[T]:
    """The compiled form of a route; ``target(version, arm)`` makes what is to be chosen. Every routed version is ready."""
    bounds, targets = _line(route, target)
    held = set(ready)
    named = {str(number): target(number, PINNED) for number in held}
    named |= {alias: named[str(number)] for alias, number in route.aliases.items() if number in held}
    shadow = route.shadow if route.shadow and route.shadow.version in held else None
    return Route(
        revision=route.revision,
        default=target(route.default, DEFAULT),
        bounds=bounds,
        targets=targets,
        salt=route.salt.encode()[:64],
        shadow=target(shadow.version, SHADOW) if shadow else None,
        shadow_fraction=shadow.percent / 100 if shadow else 0.0,
        named=named,
    )


def _line(route: DesiredRoute, target: Callable[[int, str], T]) -> tuple[tuple[int, ...], tuple[T, ...]]:
    bounds: list[int] = []
    targets: list[T] = []
    end = 0
    default = target(route.default, DEFAULT)
    for segment in route.segments:
        if segment.start > end:
            bounds.append(segment.start * SPACE // PARTS)
            targets.append(default)
        bounds.append(segment.end * SPACE // PARTS)
        targets.append(target(segment.version, CANDIDATE))
        end = segment.end
    if not bounds:
        return (), ()
    return tuple(bounds), (*targets, default)
