"""
Tells a queue that merely absorbs a burst, or that patient callers keep full, from one that is overloaded. Pure: the time
comes in.

As in CoDel, a queue stands when even the least delay within an interval was above the target (K. Nichols, V. Jacobson,
"Controlling Queue Delay", ACM Queue 2012; https://queue.acm.org/detail.cfm?id=2209336). A router does not know what
arrives; here it is known. So a queue is overloaded when it stands and clearly more came than was taken out of it: callers
that wait for their answers before they ask again make a queue stand, yet they cannot overload it, unless they are very
many. While it is overloaded, requests that would wait longer than the target are refused as they come, and those that
have waited for twice as long are refused too (as in Meta's folly::Codel). It ends with an interval in which no more came,
refused or not, than was taken.
"""

from __future__ import annotations

INTERVAL_S = 0.1
INTERVAL_RUNS = 10.0  # the shortest interval, in runs of a full batch
PATIENCE = 2.0  # in targets: a request that has waited longer is refused while the queue is overloaded
GROWTH_RUNS = 8.0  # by how many full batches a queue that stands has grown when it is overloaded
CLEAR_GROWTH = 0.5  # of an interval's time: with so much growth the interval's end is not waited for
TOLERATED = 0.25  # of what was taken: an overload is over when less than that came in excess, as refused callers ask again
PAUSE_RUNS = 4.0  # more time between two runs is a pause, or the machine was busy with something else


class DelayControl:
    """
    The state of one queue of rows, at most ``batch_rows`` of which are taken at once. Times are seconds of any clock that
    does not go back; target 0 switches this off.
    """

    def __init__(self, target_s: float, *, batch_rows: int = 1, interval_s: float = INTERVAL_S) -> None:
        self._target_s, self._batch_rows, self._interval_s = target_s, batch_rows, interval_s
        self._taken_at_s = float("-inf")
        self.is_overloaded = False
        self._begin(0.0)

    def _begin(self, now_s: float) -> None:
        """A new interval."""
        self._began_s = now_s
        self._least_s = float("inf")  # delay
        self._arrived = self._taken = 0  # rows

    def target_s(self, longest_run_s: float) -> float:
        """The delay aimed at: one run of a full batch has to be allowed, or the model would idle between runs."""
        return max(self._target_s, longest_run_s)

    def arrived(self, rows: int) -> None:
        """Takes in a request that came, whether it is admitted or not."""
        self._arrived += rows

    def taken(self, rows: int, delay_s: float, longest_run_s: float, now_s: float) -> None:
        """Takes in a batch whose turn has come: how long its first request waited, and what a full batch takes to run."""
        pause_s = now_s - self._taken_at_s
        self._taken_at_s = now_s
        if pause_s > max(PAUSE_RUNS * longest_run_s, self._interval_s / 2):
            self._begin(now_s)  # what came meanwhile says nothing about what comes usually
            self.is_overloaded = self.is_overloaded and delay_s > self.target_s(longest_run_s)
        self._taken += rows
        self._least_s = min(self._least_s, delay_s)
        if self._target_s:
            self._judge(longest_run_s, now_s)

    def _judge(self, longest_run_s: float, now_s: float) -> None:
        interval_s = max(self._interval_s, INTERVAL_RUNS * longest_run_s)
        is_over = now_s - self._began_s >= interval_s
        growth = self._arrived - self._taken
        if self.is_overloaded:
            if is_over:
                self.is_overloaded = growth > TOLERATED * self._taken
                self._begin(now_s)
            return
        is_clear = growth * longest_run_s > CLEAR_GROWTH * interval_s * self._batch_rows
        if not is_over and not is_clear:
            return
        stands = self._least_s > self.target_s(longest_run_s)
        self.is_overloaded = stands and growth > GROWTH_RUNS * self._batch_rows
        if self.is_overloaded or (is_over and not stands):
            self._begin(now_s)
        elif is_over:  # it still stands: slow growth adds up
            self._began_s, self._least_s = now_s, float("inf")
