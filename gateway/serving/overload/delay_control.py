"""
Tells a queue that merely absorbs a burst, or that patient callers keep full, from one that is overloaded. Pure: the time
comes in.

As in CoDel, a queue stands while no request that is taken had waited less than the target (K. Nichols, V. Jacobson,
"Controlling Queue Delay", ACM Queue 2012; https://queue.acm.org/detail.cfm?id=2209336). A router does not know what
arrives; here it is known. So a queue is overloaded when it has stood for a while and, in that while, clearly more came than
was taken: a burst comes before the queue stands, and callers that wait for their answers before they ask again make it
stand, but ask no faster than they are answered. While it is overloaded, requests that would wait longer than the target
are refused as they come. Those that came before it was noticed are refused once they have waited for half as long again
(Meta's folly::Codel does so after twice the target; a refusal is worth the more the sooner it comes); those that were let
in since were promised the target, and leave only when that has gone clearly wrong. It ends with an interval in which no
more came, refused or not, than was taken.
"""

from __future__ import annotations

STAND_S, STAND_RUNS = 0.025, 5.0  # how long a queue has to stand, in seconds and in runs of a full batch
GROWTH_RUNS = 8.0  # by how many full batches it has to grow meanwhile
INTERVAL_S, INTERVAL_RUNS = 0.1, 10.0  # after which the end of an overload is looked for
TOLERATED = 0.25  # of what was taken: an overload is over when less than that came in excess, as refused callers ask again
PATIENCE = 1.5  # in targets: a request that has waited longer is refused while the queue is overloaded, …
PROMISED = 4.0  # … or longer than that, if it was let in since
PAUSE_RUNS = 4.0  # more time between two runs is a pause, or the machine was busy with something else


class DelayControl:
    """
    The state of one queue of rows, at most ``batch_rows`` of which are taken at once. Times are seconds of any clock that
    does not go back; target 0 switches this off.
    """

    def __init__(self, target_s: float, *, batch_rows: int = 1) -> None:
        self._target_s, self._batch_rows = target_s, batch_rows
        self._taken_at_s = float("-inf")
        self.is_overloaded, self._noticed_s = False, 0.0
        self._begin(0.0)

    def _begin(self, now_s: float) -> None:
        """Counts anew: the queue does not stand, or an interval of its overload begins."""
        self._began_s = now_s
        self._arrived = self._taken = 0  # rows

    def target_s(self, longest_run_s: float) -> float:
        """The delay aimed at: one run of a full batch has to be allowed, or the model would idle between runs."""
        return max(self._target_s, longest_run_s)

    def is_late(self, came_s: float, longest_run_s: float, now_s: float) -> bool:
        """Whether a request that came at ``came_s`` and still waits is to be refused, the queue being overloaded."""
        patience = PROMISED if came_s >= self._noticed_s else PATIENCE
        return self.is_overloaded and now_s - came_s > patience * self.target_s(longest_run_s)

    def arrived(self, rows: int) -> None:
        """Takes in a request that came, whether it is admitted or not."""
        self._arrived += rows

    def taken(self, rows: int, delay_s: float, longest_run_s: float, now_s: float) -> None:
        """Takes in a batch whose turn has come: how long its first request waited, and what a full batch takes to run."""
        target_s = self.target_s(longest_run_s)
        pause_s = now_s - self._taken_at_s
        self._taken_at_s = now_s
        if pause_s > max(PAUSE_RUNS * longest_run_s, STAND_S):
            self._begin(now_s)  # what came meanwhile says nothing about what comes usually
            self.is_overloaded = self.is_overloaded and delay_s > target_s
        self._taken += rows
        if self.is_overloaded:
            self._find_end(longest_run_s, now_s)
        elif delay_s <= target_s or not self._target_s:
            self._begin(now_s)
        elif now_s - self._began_s >= max(STAND_S, STAND_RUNS * longest_run_s) and self._has_grown:
            self.is_overloaded, self._noticed_s = True, now_s
            self._begin(now_s)

    @property
    def _has_grown(self) -> bool:
        return self._arrived - self._taken > GROWTH_RUNS * self._batch_rows

    def _find_end(self, longest_run_s: float, now_s: float) -> None:
        if now_s - self._began_s >= max(INTERVAL_S, INTERVAL_RUNS * longest_run_s):
            self.is_overloaded = self._arrived - self._taken > TOLERATED * self._taken
            self._begin(now_s)
