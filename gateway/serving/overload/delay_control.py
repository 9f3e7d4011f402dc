"""
Delay control: tells an overloaded queue from one that absorbs a burst or that waiting callers keep full. Pure: time is an
argument.

As in CoDel, a queue is *standing* while every request taken from it had waited for longer than the target (K. Nichols,
V. Jacobson, "Controlling Queue Delay", ACM Queue 2012; https://queue.acm.org/detail.cfm?id=2209336). A router does not
know its arrivals; this queue does. So a queue is overloaded if it has been standing for a while, and clearly more requests
arrived in that time than were taken. A burst arrives before the queue is standing. Callers that wait for an answer before
they send the next request keep a queue standing, but their arrivals do not exceed their answers.

While a queue is overloaded, requests that would wait longer than the target are refused on arrival. Requests queued before
the overload was detected are refused after 1.5 targets (Meta's folly::Codel uses 2; a refusal is worth more the sooner it
comes). Requests accepted since then were promised the target, and are refused only after 4. The overload ends with an
interval in which no more requests arrived, refused or not, than were taken.
"""

from __future__ import annotations

STANDING_S, STANDING_RUNS = 0.025, 5.0  # time for which a queue must be standing, in seconds and in runs of a full batch
GROWTH_RUNS = 8.0  # full batches by which it must grow in that time
INTERVAL_S, INTERVAL_RUNS = 0.1, 10.0  # interval after which an overload may end, in seconds and in runs of a full batch
TOLERATED = 0.25  # share of the taken rows; an overload ends when the excess is less, as refused callers send again
QUEUED_LIMIT = 1.5  # targets after which a request queued before the overload was detected is refused
ACCEPTED_LIMIT = 4.0  # targets after which a request accepted during the overload is refused
PAUSE_RUNS = 4.0  # runs of a full batch; a longer time between two runs is a pause, or the machine was busy elsewhere


class DelayControl:
    """
    The state of one queue of rows, of which at most ``batch_rows`` are taken at once. Times are seconds of any monotonic
    clock. ``target_s`` 0 disables the control.
    """

    def __init__(self, target_s: float, *, batch_rows: int = 1) -> None:
        self._target_s, self._batch_rows = target_s, batch_rows
        self._taken_at_s = float("-inf")
        self.is_overloaded, self._detected_s = False, 0.0
        self._begin(0.0)

    def _begin(self, now_s: float) -> None:
        """Restarts the counts: the queue is not standing, or an interval of its overload begins."""
        self._began_s = now_s
        self._arrived = self._taken = 0  # rows

    def target_s(self, longest_run_s: float) -> float:
        """Returns the target delay: at least one run of a full batch, or the model would idle between runs."""
        return max(self._target_s, longest_run_s)

    def is_late(self, came_s: float, longest_run_s: float, now_s: float) -> bool:
        """Whether a queued request that arrived at ``came_s`` is to be refused because the queue is overloaded."""
        limit = ACCEPTED_LIMIT if came_s >= self._detected_s else QUEUED_LIMIT
        return self.is_overloaded and now_s - came_s > limit * self.target_s(longest_run_s)

    def arrived(self, rows: int) -> None:
        """Takes in the rows of a request that arrived, accepted or not."""
        self._arrived += rows

    def taken(self, rows: int, delay_s: float, longest_run_s: float, now_s: float) -> None:
        """Takes in a batch taken from the queue: the wait of its first request, and the run time of a full batch."""
        target_s = self.target_s(longest_run_s)
        pause_s = now_s - self._taken_at_s
        self._taken_at_s = now_s
        if pause_s > max(PAUSE_RUNS * longest_run_s, STANDING_S):
            self._begin(now_s)  # arrivals during a pause say nothing about the usual rate
            self.is_overloaded = self.is_overloaded and delay_s > target_s
        self._taken += rows
        if self.is_overloaded:
            self._find_end(longest_run_s, now_s)
        elif delay_s <= target_s or not self._target_s:
            self._begin(now_s)
        elif now_s - self._began_s >= max(STANDING_S, STANDING_RUNS * longest_run_s) and self._has_grown:
            self.is_overloaded, self._detected_s = True, now_s
            self._begin(now_s)

    @property
    def _has_grown(self) -> bool:
        return self._arrived - self._taken > GROWTH_RUNS * self._batch_rows

    def _find_end(self, longest_run_s: float, now_s: float) -> None:
        if now_s - self._began_s >= max(INTERVAL_S, INTERVAL_RUNS * longest_run_s):
            self.is_overloaded = self._arrived - self._taken > TOLERATED * self._taken
            self._begin(now_s)
