"""
Which connections a client keeps so that every worker of a gateway gets its share: one to each. Pure.

Workers share a port, and the kernel gives every new connection to one of them by a hash, so eight connections to four
workers may fall 5/2/1/0. A gateway's workers say which one they are (`WorkerPosition`); a client opens connections until
it has one to each worker, closes those that reach the same worker again, and takes turns over the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_CHANNELS = 16  # with more workers, every client uses so many of them
TRIES_PER_WORKER = 6  # connections opened in one go; each meets a worker by chance
LEAST_TRIES = 8


@dataclass(frozen=True, slots=True)
class WorkerPosition:
    """Which worker answers on a connection: its number (from 0) and how many share the port."""

    worker: int
    of: int

    @classmethod
    def parse(cls, text: str | None) -> WorkerPosition | None:
        """From ``1/4`` (worker 1 of 4, counted from 0), the value of ``x-interlock-worker``; None for anything else."""
        worker, slash, of = (text or "").partition("/")
        if not (slash and worker.isdecimal() and of.isdecimal() and int(worker) < int(of)):
            return None
        return cls(int(worker), int(of))


def repeated(places: Sequence[WorkerPosition | None]) -> tuple[int, ...]:
    """
    The positions of the connections to give up: those that meet a worker which one before them meets too, and those of
    which nothing is known. The first known one stays, or the first at all.
    """
    reached: set[int] = set()
    spare: list[int] = []
    for at, place in enumerate(places):
        if place is None or place.worker in reached:
            spare.append(at)
        else:
            reached.add(place.worker)
    return tuple(spare) if reached else tuple(spare[1:])


def wanted(places: Sequence[WorkerPosition | None]) -> int:
    """How many connections there should be: one to each worker, MAX_CHANNELS at most; 1 where workers do not tell."""
    return min(MAX_CHANNELS, max((place.of for place in places if place), default=1))


def tries(count: int) -> int:
    """How many connections may be opened in search of ``count`` workers."""
    return max(LEAST_TRIES, TRIES_PER_WORKER * count)
