"""
The pipeline: takes a batch through run, answer and account, and offers it to the shadow.

The lane's thread calls it for short models, a version's own thread for the others. Several threads may be here at once,
each with another version.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from gateway.errors import CallerGone, DeadlinePassed, InvalidRequest
from gateway.runtime.session import RunFailed, RunStopped
from gateway.serving.account import Accounting
from gateway.serving.answer import encode, send
from gateway.serving.lane.call import Lane
from gateway.serving.prediction_records import PredictionIds
from gateway.serving.refusals import EXPIRED, Refusals
from gateway.serving.run import BatchNotSplit, caller_error, run_batch
from gateway.serving.stages import Answers, Batch, Routed
from gateway.versions.loaded import LoadedVersion

STOPPED_GONE = CallerGone("the caller was gone while the model ran; it was stopped")
STOPPED_LATE = DeadlinePassed("the deadline passed while the model ran; it was stopped")
_log = structlog.get_logger("interlock.serving")


class Pipeline:
    """``mirror(answers)`` offers answered requests to their shadow, if their route has one."""

    def __init__(
        self,
        lane: Lane,
        ids: PredictionIds,
        refusals: Refusals,
        accounting: Accounting,
        mirror: Callable[[Answers], None],
    ) -> None:
        self._lane, self._ids, self._refusals = lane, ids, refusals
        self._accounting, self._mirror = accounting, mirror

    def process(self, batch: Batch) -> None:
        """
        Answers every request of the batch exactly once, ends its lease, then accounts for it. Raises nothing: a mistake
        after the answers must end neither the lane's thread nor a version's own.
        """
        version = batch.lease.version
        try:
            with batch.lease:
                answered = self._answer(batch)
        except Exception as error:
            _log.error("batch_not_answered", model=version.model, version=version.number, exc_info=error)
            return
        for answers in answered:
            try:
                self._accounting.account(answers)
                self._mirror(answers)
            except Exception as error:
                _log.error("batch_not_accounted", model=version.model, version=version.number, exc_info=error)

    def _answer(self, batch: Batch) -> list[Answers]:
        """Answers the requests with one run, or each with its own if that run fails. Returns the answers of every run."""
        taken_ns, requests = time.perf_counter_ns(), batch.requests
        expiries, now = [request.received.expires_at for request in requests], time.monotonic()
        if min(expiries) <= now:
            requests = self._unexpired(requests, now)
            if not requests:
                return []
        try:
            outputs = run_batch(requests, batch.halt, max(expiries), taken_ns)
            answers = encode(outputs, self._ids)
        except RunStopped:
            for request in requests:
                self._refuse(request, STOPPED_GONE if request.received.call.is_gone else STOPPED_LATE)
            return []
        except (RunFailed, InvalidRequest) as error:
            if isinstance(error, BatchNotSplit):
                _stop_batching(batch.lease.version, error)
            if len(requests) > 1:  # one caller's data must not fail the others' requests: each runs alone
                alone = (Batch([request], batch.lease) for request in requests)
                return [answers for one in alone for answers in self._answer(one)]
            self._refuse(requests[0], caller_error(batch.lease.version, error))
            return []
        except Exception as error:  # a mistake of ours: nothing was sent, so every caller gets an error
            for request in requests:
                self._refuse(request, error)
            return []
        send(self._lane, answers)
        return [answers]

    def _unexpired(self, requests: list[Routed], now: float) -> list[Routed]:
        """Returns the requests whose deadline is ahead, and refuses the others."""
        for request in requests:
            if request.received.expires_at <= now:
                self._refuse(request, EXPIRED)
        return [request for request in requests if request.received.expires_at > now]

    def _refuse(self, request: Routed, error: Exception) -> None:
        self._refusals.refuse(request.received, request.arm, error)


def _stop_batching(version: LoadedVersion, error: BatchNotSplit) -> None:
    if not version.batch_failure:
        _log.error("batching_stopped", model=version.model, version=version.number, reason=str(error))
    version.stop_batching(str(error))
