"""
The thread of a version that is too slow to run in the lane's thread, with its own bounded queue: a slow model delays nobody.

Requests wait in the order of their priority (1 first, none last), within one priority in order of arrival. After every
batch the queue is looked at again, so an urgent request waits for one run at the most.
"""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Callable

from gateway.errors import Overloaded
from gateway.worker.grouping import first_batch
from gateway.worker.item import Item
from gateway.worker.served import Served

MAX_WAITING = 1024  # requests a version
LAST = 1 << 62  # of requests without a priority


class Runner:
    """Queues requests of one version and runs all that wait as batches. ``run`` is told (served, batch)."""

    def __init__(self, served: Served, run: Callable[[Served, list[Item]], None]) -> None:
        self._served = served
        self._run = run
        self._waiting: list[Item] = []
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._loop, name=f"run {served.model} v{served.number}", daemon=True)
        self._thread.start()

    def offer(self, items: list[Item]) -> list[Item]:
        """Queues requests; returns those for which there was no room."""
        with self._changed:
            room = max(0, MAX_WAITING - len(self._waiting))
            for item in items[:room]:
                if item.request.parameters.priority:
                    insort(self._waiting, item, key=_rank)
                else:
                    self._waiting.append(item)
            self._changed.notify()
        return items[room:]

    def overloaded(self) -> Overloaded:
        """The error for requests that found no room."""
        served = self._served
        return Overloaded(
            f"{served.model} v{served.number}: {MAX_WAITING} requests are waiting, the most allowed",
            model=served.model,
            limit=MAX_WAITING,
        )

    def stop(self) -> None:
        """Runs what waits, then ends the thread."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        delay_s = self._served.batching.queue_delay_us / 1e6
        while True:
            with self._changed:
                while not self._waiting and not self._is_stopped:
                    self._changed.wait()
                if self._is_stopped and not self._waiting:
                    return
                if delay_s:
                    self._fill(time.monotonic() + delay_s)
                batch = first_batch(self._waiting, self._served.max_rows)
                if len(batch) == 1:
                    del self._waiting[0]
                else:
                    taken = set(batch)
                    self._waiting = [item for item in self._waiting if item not in taken]
            self._run(self._served, batch)

    def _fill(self, until: float) -> None:
        """Waits for a full batch or until the time is over; holds the lock."""
        while len(self._waiting) < self._served.max_rows and not self._is_stopped:
            left = until - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                return


def _rank(item: Item) -> int:
    return item.request.parameters.priority or LAST
