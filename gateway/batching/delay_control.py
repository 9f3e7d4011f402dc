"""
Tells a queue that merely absorbs a burst from one that stands. Pure: the time comes in.

As in CoDel, a queue is overloaded when even the least delay within an interval was above the target (K. Nichols,
V. Jacobson, "Controlling Queue Delay", ACM Queue 2012; https://queue.acm.org/detail.cfm?id=2209336). CoDel then drops
packets ever faster, since a router knows neither how fast it drains nor what arrives. Here both are known. While the
queue is overloaded, requests that would wait longer than the target are refused as they come, and those that have waited
for twice as long are refused too (the second rule as in Meta's folly::Codel). It ends when what came within an interval,
refused or not, costs less time than the interval has.
"""

from __future__ import annotations

INTERVAL_S = 0.1
PATIENCE = 2.0  # in targets: a request that has waited longer is refused while the queue is overloaded


class DelayControl:
    """The state of one queue. Times are seconds of any clock that does not go back; target 0 switches this off."""

    def __init__(self, target_s: float, interval_s: float = INTERVAL_S) -> None:
        self._target_s = target_s
        self._interval_s = interval_s
        self._began_s = 0.0
        self._least_s = float("inf")  # delay, in this interval
        self._offered_s = 0.0  # run time of all that came, in this interval
        self.is_overloaded = False

    def target_s(self, longest_run_s: float) -> float:
        """The delay aimed at: one run of a full batch has to be allowed, or the model would idle between runs."""
        return max(self._target_s, longest_run_s)

    def arrived(self, cost_s: float, longest_run_s: float, now_s: float) -> None:
        """Takes in what a request that came will cost, whether it is admitted or not."""
        self._offered_s += cost_s
        if self.is_overloaded:
            self._turn(longest_run_s, now_s)

    def taken(self, delay_s: float, longest_run_s: float, now_s: float) -> None:
        """Takes in how long a request waited whose turn has come; 0 when none waits."""
        self._least_s = min(self._least_s, delay_s)
        self._turn(longest_run_s, now_s)

    def _turn(self, longest_run_s: float, now_s: float) -> None:
        """Judges an interval that is over, and begins the next."""
        elapsed_s, interval_s = now_s - self._began_s, max(self._interval_s, longest_run_s)
        if elapsed_s < interval_s:
            return
        if self.is_overloaded:
            self.is_overloaded = self._offered_s >= elapsed_s
        else:
            is_known = elapsed_s < 10 * interval_s  # after a pause the one delay seen proves nothing
            self.is_overloaded = bool(self._target_s) and is_known and self._least_s > self.target_s(longest_run_s)
        self._began_s, self._least_s, self._offered_s = now_s, float("inf"), 0.0
