"""
Routes: a model's route compiled for reading. Frozen, replaced whole. Pure.

The segments of `registry.deployment` become sorted bounds in a space of 64 bits, so choosing an arm is one bisection.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
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
    ``arms[i]`` answers positions in [bounds[i-1], bounds[i]) of SPACE. Without ``bounds``, ``default`` answers all.
    """

    revision: int
    default: T
    bounds: tuple[int, ...]
    arms: tuple[T, ...]
    salt: bytes
    shadow: T | None
    shadow_fraction: float

    def choose(self, position: int) -> T:
        """Returns the arm that answers a unit at this position (0 to SPACE - 1)."""
        return self.arms[bisect_right(self.bounds, position)]


def position(unit_id: str, salt: bytes) -> int:
    """
    Returns the position of a unit: the keyed BLAKE2b (RFC 7693) of its id in 64 bits. Without a modulo there is no bias.
    The salt is the experiment's, so another experiment assigns the same units anew.
    """
    return int.from_bytes(blake2b(unit_id.encode(), digest_size=8, key=salt).digest(), "big")


def compile_route(route: DesiredRoute, ready: Iterable[int], arm: Callable[[int, str], T]) -> Route[T]:
    """The compiled form of a route; ``arm(version, arm)`` makes what is to be chosen. Every routed version is ready."""
    bounds, arms = _segments(route, arm)
    ready = set(ready)
    shadow = route.shadow if route.shadow and route.shadow.version in ready else None
    return Route(
        revision=route.revision,
        default=arm(route.default, DEFAULT),
        bounds=bounds,
        arms=arms,
        salt=route.salt.encode()[:64],
        shadow=arm(shadow.version, SHADOW) if shadow else None,
        shadow_fraction=shadow.percent / 100 if shadow else 0.0,
    )


def _segments(route: DesiredRoute, arm: Callable[[int, str], T]) -> tuple[tuple[int, ...], tuple[T, ...]]:
    bounds: list[int] = []
    arms: list[T] = []
    end = 0
    default = arm(route.default, DEFAULT)
    for segment in route.segments:
        if segment.start > end:
            bounds.append(segment.start * SPACE // PARTS)
            arms.append(default)
        bounds.append(segment.end * SPACE // PARTS)
        arms.append(arm(segment.version, CANDIDATE))
        end = segment.end
    if not bounds:
        return (), ()
    return tuple(bounds), (*arms, default)
