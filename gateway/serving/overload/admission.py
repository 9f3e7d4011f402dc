"""
Whether a request may join the line of a slow version: decided on arrival, so that a refusal costs next to nothing.

Refused is what would find no room, what could not be answered before its deadline, what would wait too long while the
line is overloaded, and what exceeds the adaptive limit. The line itself is `waiting`; that it is overloaded is found out
by `gateway.serving.overload.delay_control`.
"""

from __future__ import annotations

from gateway.errors import DeadlinePassed, GatewayError, Overloaded
from gateway.serving.item import Item
from gateway.serving.overload.adaptive_limit import AdaptiveLimit
from gateway.serving.overload.delay_control import DelayControl
from gateway.serving.overload.queue import LAST, WaitingLine, rank_of
from gateway.serving.overload.run_times import RunTimes
from registry.deployment import Batching

EXPIRED = DeadlinePassed("the deadline passed while the request was queued")
HOPELESS = DeadlinePassed("the deadline was nearer than a run takes when the request's turn came")
MOSTLY = 0.75  # of the expected run time, as it may be less this time
SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.008, 8.192


class Admission:
    """Of one version. Not thread-safe: its runner holds a lock. Times are seconds of the performance counter, and Unix."""

    def __init__(self, name: str, batching: Batching, times: RunTimes, line: WaitingLine) -> None:
        self._name, self._most, self._times, self._line = name, batching.max_waiting, times, line
        # To wait for a fuller batch is what the delay is for: it counts on top of the target.
        target_us = batching.queue_target_us and batching.queue_target_us + batching.queue_delay_us
        self._delay = DelayControl(target_us / 1e6, batch_rows=times.max_rows)
        self._limit = AdaptiveLimit(batching.max_waiting) if batching.has_adaptive_limit else None
        self._running = 0  # requests
        self._free_at_s = 0.0  # when the present run is expected to end
        self._errors: dict[tuple[str, float], Overloaded] = {}

    @property
    def is_overloaded(self) -> bool:
        """Whether the line stands and requests are refused for it."""
        return self._delay.is_overloaded

    def refusal(self, item: Item, now_s: float, unix_s: float) -> GatewayError | None:
        """Why a request that has just come may not join the line; None when it may."""
        if item.expires_at <= unix_s:
            return EXPIRED
        rank, line, times = rank_of(item), self._line, self._times
        rows = line.rows_of(item)
        self._delay.arrived(rows)
        wait_s = max(self._free_at_s - now_s, 0.0) + line.delay_s(rank)
        if len(line) >= self._most and rank >= rank_of(line.last):
            return self.overloaded(f"{self._most} requests are waiting, the most allowed", wait_s, self._most)
        # With nobody ahead it is tried: an estimate that is too long could otherwise never be corrected.
        if wait_s and unix_s + wait_s + times.expected_s(rows) > item.expires_at:
            return self.overloaded("the queue is too long for the request's deadline", wait_s)
        if self._delay.is_overloaded and wait_s > self._delay.target_s(times.longest_s()):
            return self.overloaded("more comes than it can answer, and the queue has reached its target delay", wait_s)
        if self._limit is not None and rank == LAST and len(line) + self._running >= self._limit.limit:
            return self.overloaded("the adaptive limit of concurrent requests is reached", wait_s)
        return None

    def displaced(self) -> Item | None:
        """Who has to leave since somebody more important has come and the line was full."""
        return self._line.pop_last() if len(self._line) > self._most else None

    def is_hopeless(self, item: Item, unix_s: float) -> bool:
        """Whether a request whose turn has come would be stopped by its deadline, while another could use the time."""
        run_s = MOSTLY * self._times.expected_s(self._line.rows_of(item))
        return len(self._line) > 1 and unix_s + run_s > item.expires_at

    def is_late(self, item: Item, now_s: float) -> bool:
        """Whether a waiting request has waited so long that it is refused, the line being overloaded."""
        return self._delay.is_late(item.received_ns * 1e-9, self._times.longest_s(), now_s)

    def began(self, batch: list[Item], now_s: float) -> None:
        """A batch was taken out of the line and is about to run."""
        rows = sum(self._line.rows_of(item) for item in batch)
        self._delay.taken(rows, now_s - batch[0].received_ns * 1e-9, self._times.longest_s(), now_s)
        self._running = len(batch)
        self._free_at_s = now_s + self._times.expected_s(rows)

    def ended(self, batch: list[Item], now_s: float) -> None:
        """It has run, and is answered."""
        if self._limit is not None:
            self._limit.observe(now_s - batch[0].received_ns * 1e-9, len(self._line) + self._running)
        self._running, self._free_at_s = 0, 0.0

    def overloaded(self, why: str, wait_s: float = 0.0, limit: int = 0) -> Overloaded:
        """
        The error, with the time after which a retry may find room: how long the line is, up to the next power of two
        milliseconds. Few different ones exist, so what goes with them on the wire is made once.
        """
        retry_s = SHORTEST_RETRY_S
        while retry_s < min(wait_s, LONGEST_RETRY_S):
            retry_s *= 2
        error = self._errors.get((why, retry_s))
        if error is None:
            facts = {"limit": limit} if limit else {}
            error = self._errors[why, retry_s] = Overloaded(f"{self._name}: {why}", retry_after_s=retry_s, **facts)
        return error
