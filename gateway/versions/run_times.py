"""Run times by number of rows, learnt from warm-up and from every run since. Pure: time is measured elsewhere."""

from __future__ import annotations

NEWEST_WEIGHT = 0.1  # weight of the newest run in the moving average
MAX_STEP = 1.0  # in averages: a run counts as at most twice the average, since the machine may have been busy elsewhere


class RunTimes:
    """
    Moving averages of run times, one for each power of two of rows. ``max_rows`` is the largest batch that is made; 1 for
    versions whose requests are not batched.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self._by_class: dict[int, tuple[int, float]] = {}  # (rows last seen, seconds)

    def learn(self, rows: int, run_s: float) -> None:
        """Adds one run to the averages."""
        known = self._by_class.get(rows.bit_length())
        before_s = run_s if known is None else known[1]
        step_s = max(-before_s, min(run_s - before_s, MAX_STEP * before_s))
        self._by_class[rows.bit_length()] = rows, before_s + NEWEST_WEIGHT * step_s

    def expected_s(self, rows: int) -> float:
        """
        Seconds that a run of ``rows`` rows takes: the average of that size; else that of the next larger known size, or in
        proportion to the largest known one. 0 when nothing is known.
        """
        wanted = rows.bit_length()
        known = self._by_class.get(wanted)
        if known is not None:
            return known[1]
        larger = [size for size in self._by_class if size > wanted]
        if larger:
            return self._by_class[min(larger)][1]
        if not self._by_class:
            return 0.0
        largest_rows, run_s = self._by_class[max(self._by_class)]
        return run_s * rows / max(largest_rows, 1)

    def longest_s(self) -> float:
        """Seconds that a run of a full batch takes."""
        return self.expected_s(self.max_rows)

    def cost_s(self, rows: int) -> float:
        """Seconds for which ``rows`` rows occupy the model when it runs full batches."""
        return self.longest_s() * rows / self.max_rows
