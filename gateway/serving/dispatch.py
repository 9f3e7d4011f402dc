"""Dispatch: forms batches of one version's requests, leases the version, and has the batches run here or in its own thread."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from gateway.serving.batch import grouped
from gateway.serving.lane.call import Lane
from gateway.serving.lease import Lease
from gateway.serving.overload.version_thread import VersionThread
from gateway.serving.pipeline import Pipeline
from gateway.serving.refusals import Refusals, fence_of
from gateway.serving.stages import Batch, Routed
from gateway.versions.loaded import LoadedVersion


class Dispatcher:
    """Owned by the lane's thread; `is_overloaded` may be called by any thread."""

    def __init__(self, lane: Lane, pipeline: Pipeline, refusals: Refusals) -> None:
        self._lane, self._pipeline, self._refusals = lane, pipeline, refusals
        self._threads: dict[LoadedVersion, VersionThread] = {}  # of versions whose runs are too long for the lane's thread

    def dispatch(self, version: LoadedVersion, requests: list[Routed]) -> Sequence[Routed]:
        """
        Runs the requests, or queues them if the version has a thread of its own. Returns the requests that have to be
        routed again by the newer table, because the version was retired meanwhile.
        """
        if version.pace.is_inline:
            retired: list[Routed] = []
            batches = [requests] if len(requests) == 1 else grouped(requests, version.max_rows, version.batching.preferred_rows)
            for batch in batches:
                lease = Lease.take(version, len(batch))
                if lease is None:
                    retired += batch
                else:
                    self._pipeline.process(Batch(batch, lease))
            return retired
        if version.fenced_until and (fenced := fence_of(version, time.time())) is not None:
            for request in requests:
                self._refusals.refuse(request.received, request.arm, fenced)
            return ()
        lease = Lease.take(version, len(requests))
        if lease is None:
            return requests
        self._thread_of(version).offer(requests, lease, self._lane.watch)
        return ()

    def is_overloaded(self, version: LoadedVersion) -> bool:
        """Whether more requests arrive for a version's queue than it can answer."""
        thread = self._threads.get(version)
        return thread is not None and thread.is_overloaded

    def queued(self, version: LoadedVersion) -> int:
        """Returns the requests in a version's queue."""
        thread = self._threads.get(version)
        return thread.queued if thread is not None else 0

    def _thread_of(self, version: LoadedVersion) -> VersionThread:
        thread = self._threads.get(version)
        if thread is None:
            thread = self._threads[version] = VersionThread(version, self._pipeline, self._refusals)
            version.before_close(partial(self._end_thread, version))
        return thread

    def _end_thread(self, version: LoadedVersion) -> None:
        self._threads.pop(version).stop()
