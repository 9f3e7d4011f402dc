"""
The line of requests that wait for one version: in order of priority (1 first, none last), within one priority of arrival.

Knows how long the line is ahead of each priority. Not thread-safe: its runner holds a lock.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable

from gateway.serving.grouping import first_batch
from gateway.serving.item import Item
from gateway.serving.lane.opening import Call
from gateway.serving.overload.run_times import RunTimes

LAST = 1 << 62  # rank of requests without a priority
FOREVER = float("inf")


class WaitingLine:
    """``times`` are those of the version's runs; ``is_batched``: rows count, else each request is a run."""

    def __init__(self, times: RunTimes, *, is_batched: bool) -> None:
        self._times, self._is_batched = times, is_batched
        self._items: list[Item] = []
        self._rows: dict[int, int] = {}  # by rank
        self.rows = 0
        self.earliest = FOREVER  # Unix time at which the first of them expires, or earlier

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first(self) -> Item:
        """Whose turn is next."""
        return self._items[0]

    @property
    def last(self) -> Item:
        """Who is the least important and came latest."""
        return self._items[-1]

    def delay_s(self, rank: int) -> float:
        """Seconds until those ahead of a newcomer of this rank have run."""
        rows = self.rows if rank == LAST else sum(count for known, count in self._rows.items() if known <= rank)
        return self._times.cost_s(rows)

    def rows_of(self, item: Item) -> int:
        """What a request counts in a batch."""
        return item.binding.rows if self._is_batched else 1

    def add(self, item: Item) -> None:
        """Lines a request up."""
        rank = rank_of(item)
        if rank == LAST:
            self._items.append(item)
        else:
            insort(self._items, item, key=rank_of)
        self._count(item, 1)
        self.earliest = min(self.earliest, item.expires_at)

    def take(self, max_rows: int) -> list[Item]:
        """The next batch: the first request and those that may share its run."""
        batch = first_batch(self._items, max_rows)
        if self._items[len(batch) - 1] is batch[-1]:
            del self._items[: len(batch)]
        else:
            taken = set(batch)
            self._items = [item for item in self._items if item not in taken]
        for item in batch:
            self._count(item, -1)
        return batch

    def pop_last(self) -> Item:
        """Takes out who is the least important and came latest."""
        item = self._items.pop()
        self._count(item, -1)
        return item

    def remove(self, leaves: Callable[[Item], bool]) -> list[Item]:
        """Takes those out of the line for which ``leaves`` is true."""
        left = [item for item in self._items if leaves(item)]
        if left:
            gone = set(left)
            self._items = [item for item in self._items if item not in gone]
            for item in left:
                self._count(item, -1)
        self.earliest = min((item.expires_at for item in self._items), default=FOREVER)
        return left

    def remove_call(self, call: Call) -> list[Item]:
        """Takes the request of a call out of the line, if it is still there."""
        for index, item in enumerate(self._items):
            if item.call is call:
                del self._items[index]
                self._count(item, -1)
                return [item]
        return []

    def _count(self, item: Item, sign: int) -> None:
        rank, rows = rank_of(item), sign * self.rows_of(item)
        self.rows += rows
        count = self._rows.get(rank, 0) + rows
        if count:
            self._rows[rank] = count
        else:
            self._rows.pop(rank, None)


def rank_of(item: Item) -> int:
    """The lower the sooner."""
    return item.parameters.priority or LAST
