"""
The mirror: copies answered requests to the shadow of their route, runs the copies and compares the answers.

Its queue is bounded and drops the newest copies. Its thread has the lowest priority that a thread can give itself.
Errors here are counted and never reach a caller.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from gateway.contract.counts import ShadowCounts
from gateway.errors import GatewayError
from gateway.runtime.scheduling import least_important
from gateway.runtime.session import Array, RunFailed
from gateway.serving.account import count_latency, count_run
from gateway.serving.arm import Arm
from gateway.serving.batch import decode_inputs, join_inputs, split_rows
from gateway.serving.lease import Lease
from gateway.serving.route import CANDIDATE, DEFAULT, Route
from gateway.serving.shadow.comparison import compare
from gateway.serving.stages import Answers, Outputs, Routed

MAX_QUEUED = 256  # copied requests in the queue; the newest beyond it are dropped
_COPIED_ARMS = (DEFAULT, CANDIDATE)  # a caller that pins a version takes no part in the experiment
_log = structlog.get_logger("interlock.mirror")


@dataclass(frozen=True, slots=True)
class ShadowCopy:
    """
    Requests of one run of the primary that the shadow is to run too: those at the positions ``kept``. ``lease`` is the
    shadow's and covers them.
    """

    primary: Outputs
    kept: Sequence[int]
    shadow: Arm
    lease: Lease

    @property
    def requests(self) -> list[Routed]:
        """The copied requests."""
        return [self.primary.requests[index] for index in self.kept]

    @property
    def outputs(self) -> dict[str, Array]:
        """The primary's outputs for the rows of the copied requests, by name."""
        primary, arrays = self.primary, self.primary.arrays
        if len(self.kept) < len(primary.requests):
            is_kept = np.zeros(len(primary.requests), np.bool_)
            is_kept[list(self.kept)] = True
            rows = np.repeat(is_kept, primary.rows)
            arrays = [array[rows] for array in arrays]
        return dict(zip(primary.requests[0].plan.run_outputs, arrays, strict=True))


class Mirror:
    """
    Takes answers from any thread and runs copies in its own. ``route_of`` returns the route in force of a model;
    ``counts_of`` the counters of a pair of versions; ``is_busy`` tells whether the primary's requests have no time to
    spare, as the shadow is the first to give way.
    """

    def __init__(
        self,
        route_of: Callable[[str], Route[Arm] | None],
        counts_of: Callable[[str, int, int], ShadowCounts],
        is_busy: Callable[[Arm], bool],
        *,
        seed: int | None = None,
    ) -> None:
        self._route_of, self._counts_of, self._is_busy = route_of, counts_of, is_busy
        self._random = random.Random(seed).random
        self._queue: deque[ShadowCopy] = deque()
        self._queued = 0  # requests
        self._changed = threading.Condition()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def offer(self, answers: Answers) -> None:
        """
        Queues copies of answered requests, by the shadow's percentage. Drops and counts them if the queue is full, the
        shadow is retired, or the primary is busy. Never blocks for long.
        """
        arm = answers.outputs.requests[0].arm
        route = self._route_of(arm.version.model)
        if route is None or route.shadow is None:
            return
        fraction = route.shadow_fraction
        kept = [
            index
            for index, request in enumerate(answers.outputs.requests)
            if request.arm.name in _COPIED_ARMS and self._random() < fraction
        ]
        if kept:
            self._enqueue(answers, kept, route.shadow, is_busy=self._is_busy(arm))

    def _enqueue(self, answers: Answers, kept: list[int], shadow: Arm, *, is_busy: bool) -> None:
        primary, size = answers.outputs.requests[0].arm.version, len(kept)
        with self._changed:
            has_room = not is_busy and self._queued + size <= MAX_QUEUED
            lease = Lease.take(shadow.version, size) if has_room else None
            if lease is None:
                self._counts_of(primary.model, primary.number, shadow.version.number).dropped += size
                return
            self._queued += size
            self._queue.append(ShadowCopy(answers.outputs, kept, shadow, lease))
            self._changed.notify()

    def stop(self) -> None:
        """Drops what is queued and ends the thread."""
        with self._changed:
            self._is_stopped = True
            for copy in self._queue:
                copy.lease.end()
            self._queue.clear()
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _loop(self) -> None:
        least_important()
        while (copy := self._next()) is not None:
            with copy.lease:
                self._run(copy)
            del copy  # its outputs must not wait here for the next copy

    def _next(self) -> ShadowCopy | None:
        with self._changed:
            while not self._queue and not self._is_stopped:
                self._changed.wait()
            if self._is_stopped:
                return None
            copy = self._queue.popleft()
            self._queued -= len(copy.kept)
            return copy

    def _run(self, copy: ShadowCopy) -> None:
        """Runs and compares a copy. No error leaves here: a shadow can neither fail nor delay the primary."""
        primary, shadow, left = copy.primary.requests[0].arm.version, copy.shadow.version, len(copy.kept)
        pair = self._counts_of(shadow.model, primary.number, shadow.number)
        try:
            for requests, ours in _runs(copy):
                rows = [request.plan.rows for request in requests]
                start = time.perf_counter()
                theirs = shadow_outputs(copy.shadow, requests)
                _count(copy.shadow, len(requests), sum(rows), time.perf_counter() - start)
                compare(pair, primary, shadow, ours, theirs, rows)
                left -= len(requests)
            return
        except (GatewayError, RunFailed) as error:
            _log.debug("shadow_failed", model=shadow.model, version=shadow.number, error=str(error))
        except Exception:
            _log.exception("shadow_error", model=shadow.model, version=shadow.number)
        pair.failed += left
        copy.shadow.count("INTERNAL", left)


def _runs(copy: ShadowCopy) -> Iterator[tuple[list[Routed], dict[str, Array]]]:
    """
    Returns what the shadow runs together, with the primary's outputs for it. The shadow runs the primary's batch only if its
    own rows are independent too; else it runs each request alone, as it would if it served.
    """
    requests, outputs = copy.requests, copy.outputs
    if copy.shadow.version.is_batched or len(requests) == 1:
        yield requests, outputs
        return
    rows = [request.plan.rows for request in requests]
    parts = {name: split_rows(array, rows) for name, array in outputs.items()}
    for index, request in enumerate(requests):
        yield [request], {name: part[index] for name, part in parts.items()}


def _count(shadow: Arm, requests: int, rows: int, elapsed_s: float) -> None:
    shadow.count("OK", requests)
    counts, elapsed_ns = shadow.counts, int(elapsed_s * 1e9)
    count_latency(counts, elapsed_s, requests)
    counts.rows += rows
    counts.run_ns += elapsed_ns * requests
    count_run(counts, rows, elapsed_ns)
    counts.last_inference_ms = int(time.time() * 1000)


def shadow_outputs(shadow: Arm, requests: Sequence[Routed]) -> dict[str, Array]:
    """Returns the shadow's outputs for requests of one run of the primary. Raises InvalidRequest or RunFailed."""
    first = requests[0]
    plan = shadow.plan(first.received.signature)
    for request in requests[1:]:
        if request.received.signature is not first.received.signature:
            shadow.plan(request.received.signature)  # checks it
    is_joined = len(requests) > 1 or first.inputs is not None
    inputs = join_inputs(requests) if is_joined else decode_inputs(first.received, plan)
    arrays = shadow.version.run(plan.run_outputs, inputs, requests=len(requests), ids=first.received.id_field)
    return dict(zip(plan.run_outputs, arrays, strict=True))
