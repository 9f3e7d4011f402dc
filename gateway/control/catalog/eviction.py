"""
The decision which versions stay loaded on demand. At most a given number do; the least recently used is evicted first. Pure.

Once every worker has loaded a version, it stays for at least MIN_STAY_S, so that the requests which waited for it are
answered before it can be evicted. At most MAX_LOADING versions load at a time, so a caller that names every version cannot
delay a change for long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_STAY_S = 0.25  # s after a version is READY everywhere, during which it is not evicted; parked requests run then
MAX_LOADING = 2  # versions that load on demand at the same time
VersionKey = tuple[str, int]  # model and version


@dataclass(frozen=True, slots=True)
class Use:
    """
    The use of one version that is loaded on demand. Times are in monotonic seconds: ``admitted_at`` is when its load began,
    ``used_at`` when it was last requested or answered, ``ready_at`` when every worker had it (None while it loads).
    """

    admitted_at: float
    used_at: float
    ready_at: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Versions to load and versions to unload, both in the order of the decision."""

    admitted: tuple[VersionKey, ...] = ()
    evicted: tuple[VersionKey, ...] = ()


def choose(loaded: Mapping[VersionKey, Use], waiting: Sequence[VersionKey], *, cap: int, now: float) -> Choice:
    """
    Admits versions from ``waiting``, first come first served, so that at most ``cap`` are loaded.

    A version takes a free slot, else that of the least recently used version that is READY. If that one may not be evicted
    yet, the version keeps waiting, and so does every version behind it. ``loaded`` includes versions that are loading.
    """
    loading = sum(use.ready_at is None for use in loaded.values())
    free = cap - len(loaded)
    ready = [key for key, use in loaded.items() if use.ready_at is not None]
    oldest_last = sorted(ready, key=lambda key: loaded[key].used_at, reverse=True)
    admitted: list[VersionKey] = []
    evicted: list[VersionKey] = []
    for key in waiting:
        if loading >= MAX_LOADING or not (free or (oldest_last and _is_evictable(loaded[oldest_last[-1]], now))):
            break
        if free:
            free -= 1
        else:
            evicted.append(oldest_last.pop())
        admitted.append(key)
        loading += 1
    return Choice(tuple(admitted), tuple(evicted))


def _is_evictable(use: Use, now: float) -> bool:
    return use.ready_at is not None and now - use.ready_at >= MIN_STAY_S
