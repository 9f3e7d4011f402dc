"""Pace of a version: what its runs take, and so whether they may run in the lane's thread. Pure: time is measured elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.versions.run_times import RunTimes

MAX_INLINE_RUN_S = 300e-6  # longest run of a full batch in the lane's thread: it holds up the requests of all other models
MAX_INLINE_INPUTS = 64  # inputs of a model; decoding one takes some microseconds of the lane's thread
SLOW_RUN_NS = 5_000_000  # nanoseconds; a longer run of an inline version is slow
MAX_SLOW_RUNS = 3  # slow runs or decodings, by processor time, after which a version no longer runs inline


class Pace:
    """
    ``max_rows`` is the largest batch, 1 where requests are not batched (``is_batched`` False).

    ``is_inline``: runs are short enough for the lane's thread; False until warm-up has measured it. ``is_doubted``: a run
    was long by the clock, so processor time is measured from now on.
    """

    def __init__(self, max_rows: int, *, is_batched: bool) -> None:
        self._is_batched = is_batched
        self.run_times = RunTimes(max_rows)
        self.is_inline = False
        self.is_doubted = False
        self._slow_runs = 0

    def __repr__(self) -> str:
        return f"<pace {'inline' if self.is_inline else 'queued'} full_batch_s={self.run_times.longest_s():.6f}>"

    def learn_warm_up(self, runs: Sequence[tuple[int, float]], *, may_be_inline: bool) -> None:
        """
        Learns from the (rows, seconds) of a warm-up. ``may_be_inline``: every batch size was run, no deployment setting has
        requests wait for a fuller batch, and there are at most MAX_INLINE_INPUTS inputs.
        """
        for rows, run_s in runs:
            self.run_times.learn(rows, run_s)
        self.is_inline = may_be_inline and bool(runs) and runs[-1][1] <= MAX_INLINE_RUN_S

    def ran(self, rows: Sequence[int], run_ns: int, processor_ns: int) -> None:
        """
        Learns from one run: the rows of its requests, its nanoseconds by the clock and, where it ``is_doubted``, of its
        thread's processor time.

        A version that is slow on real inputs although it was short at warm-up leaves the lane's thread. The clock alone
        proves nothing: the kernel may have run another thread meanwhile.
        """
        if not self.is_inline:
            self.run_times.learn(sum(rows) if self._is_batched else 1, run_ns * 1e-9)
        elif processor_ns > SLOW_RUN_NS:
            self._was_slow()
        elif run_ns > SLOW_RUN_NS:
            self.is_doubted = True

    def decoded(self, processor_ns: int) -> None:
        """Learns the processor time for which a request's inputs were decoded in the lane's thread."""
        if processor_ns > SLOW_RUN_NS:
            self._was_slow()

    def _was_slow(self) -> None:
        self._slow_runs += 1
        self.is_inline = self.is_inline and self._slow_runs < MAX_SLOW_RUNS
