"""
The queue of one version's requests: in order of priority (1 first, none last), within one priority in order of arrival.

It knows how much work is ahead of each priority. Not thread-safe: its `VersionThread` holds a lock.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from gateway.serving.batch import first_batch
from gateway.serving.lane.call import Call
from gateway.serving.stages import Routed
from gateway.versions.run_times import RunTimes

LAST = 1 << 62  # rank of requests without a priority, behind every priority
NO_DEADLINE = float("inf")


class RequestQueue:
    """``times`` are the version's run times. ``is_batched``: rows count towards a batch; else each request is a run."""

    def __init__(self, times: RunTimes, *, is_batched: bool) -> None:
        self._times, self._is_batched = times, is_batched
        self._requests: list[Routed] = []
        self._rows: dict[int, int] = {}  # by rank
        self.rows = 0
        self.earliest = NO_DEADLINE  # monotonic seconds, at or before the first deadline in the queue

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def first(self) -> Routed:
        """The request that runs next."""
        return self._requests[0]

    @property
    def last(self) -> Routed:
        """The least important request; of these, the latest."""
        return self._requests[-1]

    def delay_s(self, rank: int) -> float:
        """Returns the seconds until the requests ahead of a new one of this rank have run."""
        rows = self.rows if rank == LAST else sum(count for known, count in self._rows.items() if known <= rank)
        return self._times.cost_s(rows)

    def rows_of(self, request: Routed) -> int:
        """Returns the rows with which a request counts towards a batch."""
        return request.plan.rows if self._is_batched else 1

    def add(self, request: Routed) -> None:
        """Adds a request behind its priority."""
        rank = rank_of(request)
        if rank == LAST:
            self._requests.append(request)
        else:
            insort(self._requests, request, key=rank_of)
        self._count(request, 1)
        self.earliest = min(self.earliest, request.received.expires_at)

    def take(self, max_rows: int) -> list[Routed]:
        """Removes and returns the next batch: the first request and those that may share its run."""
        batch = first_batch(self._requests, max_rows)
        if self._requests[len(batch) - 1] is batch[-1]:
            del self._requests[: len(batch)]
        else:
            taken = set(batch)
            self._requests = [request for request in self._requests if request not in taken]
        for request in batch:
            self._count(request, -1)
        return batch

    def pop_last(self) -> Routed:
        """Removes and returns `last`."""
        request = self._requests.pop()
        self._count(request, -1)
        return request

    def remove(self, leaves: Callable[[Routed], bool]) -> list[Routed]:
        """Removes and returns the requests for which ``leaves`` is true."""
        left = [request for request in self._requests if leaves(request)]
        if left:
            gone = set(left)
            self._requests = [request for request in self._requests if request not in gone]
            for request in left:
                self._count(request, -1)
        self.earliest = min((request.received.expires_at for request in self._requests), default=NO_DEADLINE)
        return left

    def remove_call(self, call: Call) -> list[Routed]:
        """Removes and returns the request of a call, if it is still queued."""
        for index, request in enumerate(self._requests):
            if request.received.call is call:
                del self._requests[index]
                self._count(request, -1)
                return [request]
        return []

    def _count(self, request: Routed, sign: int) -> None:
        rank, rows = rank_of(request), sign * self.rows_of(request)
        self.rows += rows
        count = self._rows.get(rank, 0) + rows
        if count:
            self._rows[rank] = count
        else:
            self._rows.pop(rank, None)


def rank_of(request: Routed) -> int:
    """Returns the rank of a request: lower ranks run first."""
    return request.received.parameters.priority or LAST
