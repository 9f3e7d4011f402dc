"""
One loaded version as the request path holds it: its session, its leases, its counters, what is cached per request layout.

`lifecycle` decides when it comes and goes (`Held`); nothing here knows about other versions or about routes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.contract.counts import ArmCounts
from gateway.contract.desired import DesiredVersion
from gateway.runtime.process_memory import Resident, freed_is_given_back, give_back, resident
from gateway.runtime.session import Session
from gateway.serving.binding import Binding, bind
from gateway.serving.oip.codec import MAX_LAYOUTS, Layout, raw_frame, response_head
from gateway.serving.overload.run_times import RunTimes
from gateway.versions.warm_up import Rehearsal, WarmUp, emitted_sizes

if TYPE_CHECKING:
    from gateway.serving.overload.runner import Runner

INLINE_RUN_S = 300e-6  # a batch that runs longer would stop the lane for every other model
SLOW_RUN_NS = 5_000_000
SLOW_RUNS = 3
MAX_TEMPLATES = 4096
LARGE_BYTES = 16 * 1024**2  # of a version; below this giving its memory back is not worth the heap's lock
Shapes = tuple[tuple[int, ...], ...]


class Target:
    """A version in the role of one arm: what a route's bounds point at. ``counts`` has one writing thread per field."""

    __slots__ = ("_templates", "arm", "counts", "served")

    def __init__(self, served: Served, arm: str, counts: ArmCounts) -> None:
        self.served = served
        self.arm = arm
        self.counts = counts
        self._templates: dict[tuple[tuple[str, ...], Shapes, tuple[int, ...]], bytes] = {}

    def template(self, outputs: tuple[str, ...], shapes: Shapes, sizes: tuple[int, ...]) -> bytes:
        """
        A response with these outputs in these shapes, for bytes formatting with: the head of the prediction id, its
        counter, each output's raw contents (with their frame where ``sizes`` is -1), the encoded `id` field.
        """
        key = (outputs, shapes, sizes)
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()
            template = self._templates[key] = self._new_template(outputs, shapes, sizes)
        return template

    def _new_template(self, outputs: tuple[str, ...], shapes: Shapes, sizes: tuple[int, ...]) -> bytes:
        served = self.served
        described = tuple((name, served.datatypes[name], shape) for name, shape in zip(outputs, shapes, strict=True))
        head = response_head(served.model, served.number, self.arm, described)
        frames = (b"" if size < 0 else raw_frame(size) for size in sizes)
        contents = (frame.replace(b"%", b"%%") + b"%b" for frame in frames)
        return b"".join((head.replace(b"%", b"%%"), b"%b%012x", *contents, b"%b"))

    def count(self, code: str, requests: int = 1) -> None:
        """Counts requests that ended with this code."""
        codes = self.counts.requests
        codes[code] = codes.get(code, 0) + requests


class Served:
    """See the module. Implements `lifecycle.ports.Held`."""

    def __init__(
        self, model: str, desired: DesiredVersion, session: Session, counts_of: Callable[[str, int, str], ArmCounts]
    ) -> None:
        self.model = model
        self.number = desired.number
        self.signature = desired.signature
        self.session = session
        self.prediction = desired.prediction
        self.batching = desired.batching
        is_wanted = desired.batching.mode == "on" or (desired.batching.mode == "auto" and desired.is_batchable)
        self.is_batched = is_wanted and desired.batching.max_rows > 1
        self.max_rows = desired.batching.max_rows if self.is_batched else 1
        self.is_inline = False  # until warm-up has measured it
        self.run_times = RunTimes(self.max_rows)
        self.private_bytes = self.mapped_bytes = 0
        self.before = Resident()  # what the process took before this was loaded
        self.datatypes = {spec.name: spec.datatype for spec in (*self.signature.outputs, *self.signature.inputs)}
        self.bindings: dict[Layout, Binding] = {}
        self._counts_of = counts_of
        self._targets: dict[str, Target] = {}
        self._lock = threading.Lock()
        self._leases = 0
        self._is_retired = False
        self._slow_runs = 0
        self.is_doubted = False  # has run long by the clock: from then on processor time tells
        self.rehearsal = Rehearsal()  # what it is to be warmed up with
        self.example_due_ns = 0  # when a request's inputs are remembered again, on the performance counter
        self.runner: Runner | None = None  # made by the lane's thread for a version that does not run inline

    def __repr__(self) -> str:
        return f"<{self.model} v{self.number} leases={self._leases}{' retired' if self._is_retired else ''}>"

    # ---- leases -----------------------------------------------------------------------------------------------------

    def acquire(self, leases: int) -> bool:
        """Takes leases, or answers False when the version is retired: the caller then reads the newer snapshot."""
        with self._lock:
            if self._is_retired:
                return False
            self._leases += leases
            return True

    def release(self, leases: int) -> None:
        """Gives leases back; every lease taken is released, whatever became of the request."""
        with self._lock:
            self._leases -= leases

    @property
    def in_flight(self) -> int:
        """Leases not released."""
        return self._leases

    def retire(self) -> None:
        """See Held."""
        with self._lock:
            self._is_retired = True

    def reinstate(self) -> None:
        """See Held."""
        with self._lock:
            self._is_retired = False

    def close(self) -> None:
        """See Held."""
        runner, self.runner = self.runner, None
        if runner is not None:
            runner.stop()
        self.bindings.clear()
        self._targets.clear()  # like the runner they point back here, and the garbage collector runs seldom
        with freed_is_given_back():
            self.session.close()
        if self.private_bytes + self.mapped_bytes >= LARGE_BYTES:
            give_back()

    def settle(self) -> None:
        """See Held."""
        taken = resident().since(self.before)
        if taken.private_bytes + taken.mapped_bytes >= LARGE_BYTES:
            give_back()  # loading takes copies of weights for a moment, and malloc would keep them
            taken = resident().since(self.before)
        self.private_bytes, self.mapped_bytes = taken.private_bytes, taken.mapped_bytes

    # ---- what is cached ---------------------------------------------------------------------------------------------

    def target(self, arm: str) -> Target:
        """This version in the role of an arm."""
        target = self._targets.get(arm)
        if target is None:
            target = self._targets[arm] = Target(self, arm, self._counts_of(self.model, self.number, arm))
        return target

    def bind(self, layout: Layout) -> Binding:
        """How requests of a layout are run here; kept for layouts that repeat. Raises InvalidRequest."""
        binding = bind(layout, self.signature, self.prediction, is_batched=self.is_batched, max_rows=self.max_rows)
        if not layout.is_typed:
            if len(self.bindings) >= MAX_LAYOUTS:
                self.bindings.clear()
            self.bindings[layout] = binding
        return binding

    # ---- warm-up ----------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Runs every batch size that will be emitted, and measures whether the largest is short enough to run inline."""
        name = f"{self.model} v{self.number}"
        rehearsal, self.rehearsal = self.rehearsal, Rehearsal()  # what it holds is not needed again
        warm_up = WarmUp(name, self.session, self.signature, rehearsal, is_batched=self.is_batched)
        warmth = warm_up.run(emitted_sizes(self.max_rows, self.batching.preferred_rows))
        for rows, run_s in warmth.runs:
            self.run_times.learn(rows, run_s)
        if warmth.is_complete:
            self.is_inline = warmth.runs[-1][1] <= INLINE_RUN_S and not self.batching.queue_delay_us

    def ran(self, rows: list[int], run_ns: int, processor_ns: int) -> None:
        """
        Learns how long a run took for the rows of its requests, and, where it `is_doubted`, its thread's processor time. A
        model that is slow on real inputs, although it was short at warm-up, does not run inline any more: it would stop the
        lane for every other model. The clock alone proves nothing, as the kernel may have run another thread meanwhile.
        """
        if not self.is_inline:
            self.run_times.learn(sum(rows) if self.is_batched else 1, run_ns * 1e-9)
        elif processor_ns > SLOW_RUN_NS:
            self._slow_runs += 1
            self.is_inline = self._slow_runs < SLOW_RUNS
        elif run_ns > SLOW_RUN_NS:
            self.is_doubted = True
