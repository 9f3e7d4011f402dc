"""
Admission: decides on arrival whether a request may join the queue of a slow version, so that a refusal costs next to nothing.

Refused are requests that find the queue full, that could not be answered before their deadline, that would wait too long
while the queue is overloaded, and those beyond the adaptive limit. `delay_control` finds out that a queue is overloaded.
"""

from __future__ import annotations

from gateway.errors import DeadlinePassed, GatewayError, Overloaded
from gateway.serving.overload.adaptive_limit import AdaptiveLimit
from gateway.serving.overload.delay_control import DelayControl
from gateway.serving.overload.queue import LAST, RequestQueue, rank_of
from gateway.serving.refusals import EXPIRED
from gateway.serving.stages import Routed
from gateway.versions.run_times import RunTimes
from registry.deployment import Batching

HOPELESS = DeadlinePassed("the deadline was nearer than a run takes when the request's turn came")
LIKELY_RUN = 0.75  # of the expected run time: a run may be shorter this time
SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.008, 8.192  # seconds, bounds of the delay that a refusal asks for


class Admission:
    """
    Admission of one version. Not thread-safe: its `VersionThread` holds a lock. Times are monotonic seconds.
    """

    def __init__(self, name: str, batching: Batching, times: RunTimes, queue: RequestQueue) -> None:
        self._name, self._most, self._times, self._queue = name, batching.max_waiting, times, queue
        # Waiting for a fuller batch is intended, so the queue delay is added to the target.
        target_us = batching.queue_target_us and batching.queue_target_us + batching.queue_delay_us
        self._delay = DelayControl(target_us / 1e6, batch_rows=times.max_rows)
        self._limit = AdaptiveLimit(batching.max_waiting) if batching.has_adaptive_limit else None
        self._running = 0  # requests
        self._free_at_s = 0.0  # when the present run is expected to end
        self._errors: dict[tuple[str, float], Overloaded] = {}
        target_ms = batching.queue_target_us / 1000
        self._above_target = f"overloaded: arrivals exceed capacity and the queue delay is above its target of {target_ms:g} ms"

    @property
    def is_overloaded(self) -> bool:
        """Whether more requests arrive than can be answered, so that some are refused."""
        return self._delay.is_overloaded

    def refusal(self, request: Routed, now_s: float) -> GatewayError | None:
        """Returns why a request that has just arrived may not join the queue; None when it may."""
        if request.received.expires_at <= now_s:
            return EXPIRED
        rank, queue, times = rank_of(request), self._queue, self._times
        rows = queue.rows_of(request)
        self._delay.arrived(rows)
        wait_s = max(self._free_at_s - now_s, 0.0) + queue.delay_s(rank)
        if len(queue) >= self._most and rank >= rank_of(queue.last):
            return self.overloaded(f"{self._most} requests are waiting, the most allowed", wait_s, self._most)
        # With an empty queue it is tried: otherwise an estimate that is too long could never be corrected.
        if wait_s and now_s + wait_s + times.expected_s(rows) > request.received.expires_at:
            return self.overloaded("the queue is too long for the request's deadline", wait_s)
        if self._delay.is_overloaded and wait_s > self._delay.target_s(times.longest_s()):
            return self.overloaded(self._above_target, wait_s)
        if self._limit is not None and rank == LAST and len(queue) + self._running >= self._limit.limit:
            return self.overloaded("the adaptive limit of concurrent requests is reached", wait_s)
        return None

    def displaced(self) -> Routed | None:
        """Removes and returns the request that a more important one has displaced from the full queue."""
        return self._queue.pop_last() if len(self._queue) > self._most else None

    def is_hopeless(self, request: Routed, now_s: float) -> bool:
        """Whether the deadline of the next request would stop its run, while another request could use the time."""
        run_s = LIKELY_RUN * self._times.expected_s(self._queue.rows_of(request))
        return len(self._queue) > 1 and now_s + run_s > request.received.expires_at

    def is_late(self, request: Routed, now_s: float) -> bool:
        """Whether a queued request has waited so long that it is refused because the queue is overloaded."""
        return self._delay.is_late(request.received.received_ns * 1e-9, self._times.longest_s(), now_s)

    def began(self, batch: list[Routed], now_s: float) -> None:
        """Takes in that a batch has left the queue and is about to run."""
        rows = sum(self._queue.rows_of(request) for request in batch)
        self._delay.taken(rows, now_s - batch[0].received.received_ns * 1e-9, self._times.longest_s(), now_s)
        self._running = len(batch)
        self._free_at_s = now_s + self._times.expected_s(rows)

    def ended(self, batch: list[Routed], now_s: float) -> None:
        """Takes in that the batch has run and is answered."""
        if self._limit is not None:
            self._limit.observe(now_s - batch[0].received.received_ns * 1e-9, len(self._queue) + self._running)
        self._running, self._free_at_s = 0, 0.0

    def overloaded(self, why: str, wait_s: float = 0.0, limit: int = 0) -> Overloaded:
        """
        Returns the error, with the delay after which a retry may find room: the wait, rounded up to a power of two
        milliseconds. So there are few different errors, and their trailers are encoded once.
        """
        retry_s = SHORTEST_RETRY_S
        while retry_s < min(wait_s, LONGEST_RETRY_S):
            retry_s *= 2
        error = self._errors.get((why, retry_s))
        if error is None:
            facts = {"limit": limit} if limit else {}
            error = self._errors[why, retry_s] = Overloaded(f"{self._name}: {why}", retry_after_s=retry_s, **facts)
        return error
