"""
Adaptive limit: a bound on queued and running requests that follows the measured latency. Pure.

Netflix's Gradient2 (https://github.com/Netflix/concurrency-limits, `Gradient2Limit`): the limit shrinks by the ratio of
the long-term latency to the present one, and grows by a little queue as long as the two agree.
"""

from __future__ import annotations

LOWEST, INITIAL = 4.0, 32.0  # requests, the lowest limit and the first one
QUEUE = 4.0  # requests by which the limit grows while latency is steady
TOLERANCE = 1.5  # times the long-term latency that still count as noise
SMOOTHING = 0.2  # weight of a new limit
LONG_WEIGHT = 2 / (600 + 1)  # weight of a new latency: an exponential average over 600 answers
RECOVERY = 0.95  # factor on the long-term latency while the present one is less than half of it


class AdaptiveLimit:
    """The limit of one version; ``highest`` bounds it."""

    def __init__(self, highest: int) -> None:
        self._highest = float(highest)
        self._limit = min(INITIAL, self._highest)
        self._long_s = 0.0

    @property
    def limit(self) -> int:
        """Requests that may be queued and running at once."""
        return int(self._limit)

    def observe(self, latency_s: float, in_system: int) -> None:
        """Takes in one answer: its latency, and the requests queued and running when it was sent."""
        self._long_s = latency_s if not self._long_s else self._long_s + LONG_WEIGHT * (latency_s - self._long_s)
        if latency_s < self._long_s / 2:
            self._long_s *= RECOVERY
        if in_system < self._limit / 2:
            return  # a limit that is not reached teaches nothing
        gradient = max(0.5, min(1.0, TOLERANCE * self._long_s / max(latency_s, 1e-9)))
        wanted = self._limit * gradient + QUEUE
        self._limit = min(self._highest, max(LOWEST, self._limit + SMOOTHING * (wanted - self._limit)))
