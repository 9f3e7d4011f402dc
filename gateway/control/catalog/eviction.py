"""
Which versions are held because callers asked for them: at most so many, the least recently used goes first. Pure.

A version stays for HOLD_S once every worker has it, so those who waited for it are answered before the next may take its
place; and only MAX_LOADING are on their way at once, so a caller who names every version there is delays no rollout for long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HOLD_S = 0.25
MAX_LOADING = 2
Key = tuple[str, int]  # model and version


@dataclass(frozen=True, slots=True)
class Use:
    """
    A version held on demand; times in Unix seconds. ``used_at``: when it was last asked for or answered. ``ready_at``:
    since when every worker has it, None while it is on its way.
    """

    admitted_at: float
    used_at: float
    ready_at: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What to hold from now on, and what not any more. Both are in the order in which it was decided."""

    admitted: tuple[Key, ...] = ()
    evicted: tuple[Key, ...] = ()


def choose(held: Mapping[Key, Use], waiting: Sequence[Key], *, cap: int, now: float) -> Choice:
    """
    Admits what waits, first come first served: into free places, then in place of the least recently used of those that
    are ready. While that one may not go yet, whoever is next waits on, and everyone behind.
    """
    loading = sum(use.ready_at is None for use in held.values())
    places = cap - len(held)
    ready = [key for key, use in held.items() if use.ready_at is not None]
    oldest_last = sorted(ready, key=lambda key: held[key].used_at, reverse=True)
    admitted: list[Key] = []
    evicted: list[Key] = []
    for key in waiting:
        if loading >= MAX_LOADING or not (places or (oldest_last and _may_go(held[oldest_last[-1]], now))):
            break
        if places:
            places -= 1
        else:
            evicted.append(oldest_last.pop())
        admitted.append(key)
        loading += 1
    return Choice(tuple(admitted), tuple(evicted))


def _may_go(use: Use, now: float) -> bool:
    return use.ready_at is not None and now - use.ready_at >= HOLD_S
