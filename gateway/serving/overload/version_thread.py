"""
The thread of a version that is too slow to run in the lane's thread, with its own bounded queue: a slow model delays no other.

After every batch the queue decides anew, so an urgent request waits for one run at most. A request whose deadline passes
or whose caller is gone leaves the queue at once and is never run. A run without callers is stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from gateway.errors import CallerGone, GatewayError
from gateway.runtime.halt import Halt
from gateway.runtime.scheduling import behind_the_short
from gateway.serving.batch import batch_rows, enough_rows
from gateway.serving.lane.call import Call
from gateway.serving.lease import Lease
from gateway.serving.overload.admission import HOPELESS, Admission
from gateway.serving.overload.queue import RequestQueue
from gateway.serving.pipeline import Pipeline
from gateway.serving.refusals import EXPIRED, Refusals
from gateway.serving.stages import Batch, Routed
from gateway.versions.loaded import LoadedVersion

Refused = list[tuple[list[Routed], GatewayError]]


class VersionThread:
    """
    Queues requests of one version and runs them in batches.

    ``_lease`` covers the requests in the queue: one that leaves takes its share with it, into a batch or a refusal.
    """

    def __init__(self, version: LoadedVersion, pipeline: Pipeline, refusals: Refusals) -> None:
        self._version, self._pipeline, self._refusals = version, pipeline, refusals
        run_times = version.pace.run_times
        self._queue = RequestQueue(run_times, is_batched=version.is_batched)
        name = f"{version.model} v{version.number}"
        self._admission = Admission(name, version.batching, run_times, self._queue)
        self._lease = Lease(version)
        self._running: tuple[list[Routed], Halt] | None = None
        self._changed = threading.Condition()  # reentrant: `offer` may find a caller gone while it queues the request
        self._is_stopped = False
        self._thread = threading.Thread(target=self._loop, name=f"run {name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<thread of {self._version!r}, {len(self._queue)} queued{' overloaded' if self.is_overloaded else ''}>"

    @property
    def is_overloaded(self) -> bool:
        """Whether requests are refused because more arrive than can be answered."""
        return self._admission.is_overloaded

    @property
    def queued(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def offer(self, requests: list[Routed], lease: Lease, watch: Callable[[list[Call], Callable[[Call], None]], None]) -> None:
        """
        Queues requests or refuses them, and takes over their lease. ``watch(calls, gone)`` is called for those that are
        queued, before the thread can take them: a call that is answered can no longer be watched.
        """
        now_s = time.monotonic()
        with self._changed:
            self._lease.join(lease)
            refused = self._leaving(now_s)
            accepted: dict[Routed, Call] = {}
            for request in requests:
                error = self._admission.refusal(request, now_s)
                if error is not None:
                    refused.append(([request], error))
                    continue
                self._queue.add(request)
                accepted[request] = request.received.call
                if (displaced := self._admission.displaced()) is not None:
                    accepted.pop(displaced, None)
                    refused.append(([displaced], self._admission.overloaded("more important requests have come")))
            if accepted:
                watch([*accepted.values()], self.gone)
                self._changed.notify()
        self._refuse(refused)

    def gone(self, call: Call) -> None:
        """
        A caller has cancelled or disconnected: its request leaves the queue, or its run is stopped if no other caller is
        in it.
        """
        with self._changed:
            left = self._queue.remove_call(call)
            if not left and self._running is not None:
                batch, halt = self._running
                if all(request.received.call.is_gone for request in batch):
                    halt.now()
        self._refuse([(left, CallerGone("the caller has cancelled"))])

    def stop(self) -> None:
        """Runs what is queued, then ends the thread."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _loop(self) -> None:
        behind_the_short()
        while self._has_next():
            batch = self._next_batch()
            if batch is None:
                continue
            self._pipeline.process(batch)
            with self._changed:
                self._running = None
                self._admission.ended(batch.requests, time.monotonic())
            del batch  # its requests must not wait here for the next batch

    def _has_next(self) -> bool:
        """Waits until a batch is due; False when nothing will come any more."""
        with self._changed:
            while not len(self._queue):
                if self._is_stopped:
                    return False
                self._changed.wait()
            if delay_ns := self._version.batching.queue_delay_us * 1000:
                self._fill(delay_ns)
            return True

    def _fill(self, delay_ns: int) -> None:
        """Waits for enough rows, or until the first request has waited for the queue delay; holds the lock."""
        enough = enough_rows(self._version.max_rows, self._version.batching.preferred_rows)
        while len(self._queue) and self._queue.rows < enough and not self._is_stopped:
            left_ns = self._queue.first.received.received_ns + delay_ns - time.perf_counter_ns()
            if left_ns <= 0 or not self._changed.wait(left_ns * 1e-9):
                return

    def _next_batch(self) -> Batch | None:
        """Takes the next batch from the queue, and refuses requests that cannot be answered; None when none is left."""
        version, batch = self._version, None
        with self._changed:
            now_s = time.monotonic()
            refused = self._leaving(now_s)
            while len(self._queue) and self._admission.is_hopeless(self._queue.first, now_s):
                refused.append((self._queue.take(1), HOPELESS))
            if len(self._queue):
                limit = batch_rows(self._queue.rows, version.max_rows, version.batching.preferred_rows)
                requests = self._queue.take(limit)
                halt = Halt()
                batch = Batch(requests, self._lease.split(len(requests)), halt)
                self._admission.began(requests, now_s)
                self._running = requests, halt
        self._refuse(refused)
        return batch

    def _leaving(self, now_s: float) -> Refused:
        """Removes requests whose deadline has passed, and those that waited too long in an overload."""
        leaving: Refused = []
        if self._queue.earliest <= now_s:
            expired = self._queue.remove(lambda request: request.received.expires_at <= now_s)
            leaving.append((expired, EXPIRED))
        if self._admission.is_overloaded and len(self._queue):
            late = self._queue.remove(lambda request: self._admission.is_late(request, now_s))
            leaving.append((late, self._admission.overloaded("the request has waited too long in an overloaded queue")))
        return leaving

    def _refuse(self, refused: Refused) -> None:
        """Answers requests that have left the queue with their errors, and ends their share of the lease."""
        for requests, error in refused:
            if requests:
                with self._changed:
                    lease = self._lease.split(len(requests))
                with lease:
                    for request in requests:
                        self._refusals.refuse(request.received, request.arm, error)
