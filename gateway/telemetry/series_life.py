"""
The end of life of a version's series on /metrics. Without one, every version that was ever served would stay on the page.

A version's series are shown while it should be loaded or is loaded somewhere, and LIFE_S seconds longer, so that the last
counts are scraped. The sums behind them stay: series of a version that comes back go on where they were.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from gateway.telemetry.merged_counts import Merged

LIFE_S = 900.0  # seconds that series are shown after their version has gone: many scrapes, even slow ones

Version = tuple[str, int]  # model, version


class SeriesLife:
    """Remembers when each version was last known, by the seconds of ``monotonic()``. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known_s: dict[Version, float] = {}  # of the versions that have counts

    def shown(self, merged: Merged, known: Collection[Version]) -> Merged:
        """Returns the counts without those of versions that have not been in ``known`` for LIFE_S seconds."""
        now_s = self._monotonic()
        counted = {key[:2] for key in (*merged.arms, *merged.loads)}
        counted |= {(model, version) for model, *pair in merged.shadows for version in pair}
        with self._lock:
            # A version that is gone at the first look at it was known just before.
            self._known_s = {one: now_s if one in known else self._known_s.get(one, now_s) for one in counted}
            alive = {one for one, known_s in self._known_s.items() if now_s - known_s <= LIFE_S}
        return replace(
            merged,
            arms={key: arm for key, arm in merged.arms.items() if key[:2] in alive},
            shadows={key: pair for key, pair in merged.shadows.items() if {key[:2], (key[0], key[2])} <= alive},
            loads={key: count for key, count in merged.loads.items() if key[:2] in alive},
        )
