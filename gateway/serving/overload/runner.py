"""
The thread of a version that is too slow to run in the lane's thread, with its own bounded line: a slow model delays nobody.

After every batch the line is looked at again, so an urgent request waits for one run at the most. Who waits no longer,
by deadline or because the caller is gone, leaves the line at once and is never run; a run that nobody waits for is
stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from gateway.errors import CallerGone, GatewayError
from gateway.runtime.halt import Halt
from gateway.runtime.scheduling import behind_the_short
from gateway.serving.item import Item
from gateway.serving.lane.opening import Call
from gateway.serving.overload.admission import EXPIRED, HOPELESS, Admission
from gateway.serving.overload.queue import WaitingLine
from gateway.serving.served import Served
from gateway.serving.sizes import batch_rows, enough_rows

Run = Callable[[Served, list[Item], Halt], None]
Refuse = Callable[[Served, list[Item], GatewayError], None]


class Runner:
    """
    Queues requests of one version and runs all that wait as batches. ``run`` is told (served, batch, halt), ``refuse``
    (served, requests, error); both answer the requests and release their leases.
    """

    def __init__(self, served: Served, run: Run, refuse: Refuse) -> None:
        self._served, self._run, self._refuse = served, run, refuse
        self._line = WaitingLine(served.run_times, is_batched=served.is_batched)
        name = f"{served.model} v{served.number}"
        self._admission = Admission(name, served.batching, served.run_times, self._line)
        self._running: tuple[list[Item], Halt] | None = None
        self._changed = threading.Condition()  # reentrant: a caller may be found gone while its request is lined up
        self._is_stopped = False
        self._thread = threading.Thread(target=self._loop, name=f"run {name}", daemon=True)
        self._thread.start()

    @property
    def is_overloaded(self) -> bool:
        """Whether requests are refused because more comes than can be answered."""
        return self._admission.is_overloaded

    @property
    def waiting(self) -> int:
        """Requests in the line."""
        return len(self._line)

    def offer(self, items: list[Item], watch: Callable[[list[Call], Callable[[Call], None]], None]) -> None:
        """
        Lines requests up, or refuses them. ``watch(calls, gone)`` is called for those that will wait, before the thread
        can take them: an answered call cannot be watched any more.
        """
        now_s, unix_s = time.perf_counter(), time.time()
        refused: list[tuple[list[Item], GatewayError]] = []
        with self._changed:
            refused += self._leaving(now_s, unix_s)
            accepted: dict[Item, Call] = {}
            for item in items:
                error = self._admission.refusal(item, now_s, unix_s)
                if error is not None:
                    refused.append(([item], error))
                    continue
                self._line.add(item)
                accepted[item] = item.call
                if (displaced := self._admission.displaced()) is not None:
                    accepted.pop(displaced, None)
                    refused.append(([displaced], self._admission.overloaded("more important requests have come")))
            if accepted:
                watch([*accepted.values()], self.gone)
                self._changed.notify()
        self._tell(refused)

    def gone(self, call: Call) -> None:
        """A caller has cancelled or disconnected: its request leaves the line, or its run ends if no other caller is in it."""
        with self._changed:
            left = self._line.remove_call(call)
            if not left and self._running is not None:
                batch, halt = self._running
                if all(item.call.is_gone for item in batch):
                    halt.now()
        self._tell([(left, CallerGone("the caller has cancelled"))])

    def stop(self) -> None:
        """Runs what waits, then ends the thread."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        behind_the_short()
        while True:
            batch, halt = [], Halt()
            with self._changed:
                if not self._wait():
                    return
                now_s = time.perf_counter()
                unix_s = time.time()
                refused = self._leaving(now_s, unix_s)
                while len(self._line) and self._admission.is_hopeless(self._line.first, unix_s):
                    refused.append((self._line.take(1), HOPELESS))
                if len(self._line):
                    limit = batch_rows(self._line.rows, self._served.max_rows, self._served.batching.preferred_rows)
                    batch = self._line.take(limit)
                    self._admission.began(batch, now_s)
                    self._running = batch, halt
            self._tell(refused)
            del refused  # what they hold must not wait here for the next batch
            if batch:
                self._run(self._served, batch, halt)
                with self._changed:
                    self._running = None
                    self._admission.ended(batch, time.perf_counter())

    def _wait(self) -> bool:
        """Waits until a batch is due, holding the lock; False when nothing will come any more."""
        while not len(self._line):
            if self._is_stopped:
                return False
            self._changed.wait()
        if delay_ns := self._served.batching.queue_delay_us * 1000:
            self._fill(delay_ns)
        return True

    def _fill(self, delay_ns: int) -> None:
        """Waits for enough rows, or until the first request has waited long enough; holds the lock."""
        enough = enough_rows(self._served.max_rows, self._served.batching.preferred_rows)
        while len(self._line) and self._line.rows < enough and not self._is_stopped:
            left_ns = self._line.first.received_ns + delay_ns - time.perf_counter_ns()
            if left_ns <= 0 or not self._changed.wait(left_ns * 1e-9):
                return

    def _leaving(self, now_s: float, unix_s: float) -> list[tuple[list[Item], GatewayError]]:
        """Takes those out of the line whose deadline has passed, and those who have waited too long in an overload."""
        leaving: list[tuple[list[Item], GatewayError]] = []
        if self._line.earliest <= unix_s:
            expired = self._line.remove(lambda item: item.expires_at <= unix_s)
            leaving.append((expired, EXPIRED))
        if self._admission.is_overloaded and len(self._line):
            late = self._line.remove(lambda item: self._admission.is_late(item, now_s))
            leaving.append((late, self._admission.overloaded("the request has waited too long in an overloaded queue")))
        return leaving

    def _tell(self, refused: list[tuple[list[Item], GatewayError]]) -> None:
        for items, error in refused:
            if items:
                self._refuse(self._served, items, error)
