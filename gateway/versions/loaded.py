"""A loaded version: a version in this worker's memory, with its session, its leases, its memory and its pace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.contract.desired import DesiredVersion
from gateway.contract.run_notes import RunNotes
from gateway.runtime.halt import Halt
from gateway.runtime.isolated.isolated_session import IsolatedSession
from gateway.runtime.process_memory import Resident, freed_is_given_back, give_back, resident
from gateway.runtime.session import Array, Session
from gateway.versions.pace import MAX_INLINE_INPUTS, Pace
from gateway.versions.warm_up import NO_REHEARSAL, Rehearsal, WarmUp, emitted_sizes
from registry.batching import is_batched

NOBODYS_NOTES = RunNotes()
LARGE_BYTES = 16 * 1024**2  # memory of a version; below it, giving memory back is not worth the heap's lock


class Loader(Protocol):
    """Loads versions. Implemented by `gateway.versions.onnx_loader.OnnxLoader`."""

    def load(self, model: str, desired: DesiredVersion) -> LoadedVersion:
        """Returns the version, loaded but not warm. Blocks. Raises LoadFailed."""
        ...


class LoadedVersion:
    """
    One version in memory. Requests use it under a lease; `gateway.serving.lease` alone calls `acquire_leases` and
    `release_leases`. `retire` and `reinstate` never block; `warm_up`, `settle` and `close` do.

    ``is_batched``: requests may share a run; ``max_rows`` bounds a batch; ``batched_inputs`` are the sets of optional inputs
    with which requests may share one; ``batch_failure`` says why the version is not batched any more. ``datatypes`` are those
    of all tensors by name. ``private_bytes`` and ``mapped_bytes`` are known after `settle`. ``example_due_ns``: when inputs of
    a request are remembered again, in nanoseconds of the performance counter (`gateway.versions.recent_inputs`).
    ``fenced_until``: until when (Unix seconds) calls are refused because it crashes. ``notes`` tell what runs if this process
    dies of it.
    """

    def __init__(
        self,
        model: str,
        desired: DesiredVersion,
        session: Session,
        rehearsal: Rehearsal = NO_REHEARSAL,
        notes: RunNotes = NOBODYS_NOTES,
    ) -> None:
        self.model = model
        self.number = desired.number
        self.signature = desired.signature
        self.prediction = desired.prediction
        self.batching = desired.batching
        self.session = session
        self.is_batched = is_batched(desired.batching, is_batchable=desired.is_batchable, can_split=desired.can_split)
        self.batched_inputs = frozenset(desired.batched_inputs)
        self.batch_failure = ""
        self.max_rows = desired.batching.max_rows if self.is_batched else 1
        self.pace = Pace(self.max_rows, is_batched=self.is_batched)
        self.datatypes = {spec.name: spec.datatype for spec in (*self.signature.outputs, *self.signature.inputs)}
        self.private_bytes = self.mapped_bytes = 0
        self.memory_before = Resident()  # of the process, before this version was loaded
        self.example_due_ns = 0
        self.fenced_until = 0.0
        self._rehearsal = rehearsal
        # A child's memory and death are its own. Its runs wait while it is started again, never in the lane's thread.
        self._isolated = session if isinstance(session, IsolatedSession) else None
        self._notes, self._mark = notes, 0 if self._isolated else notes.enter(model, desired.number)
        self._lock = threading.Lock()
        self._leases = 0
        self._is_retired = False
        self._before_close: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<{self.model} v{self.number} leases={self._leases}{' retired' if self._is_retired else ''}>"

    # ---- leases -----------------------------------------------------------------------------------------------------

    def acquire_leases(self, leases: int) -> bool:
        """Takes leases; False when the version is retired: the caller then resolves by the newer snapshot."""
        with self._lock:
            if self._is_retired:
                return False
            self._leases += leases
            return True

    def release_leases(self, leases: int) -> None:
        """Ends leases that were taken."""
        with self._lock:
            self._leases -= leases

    @property
    def in_flight(self) -> int:
        """Leases taken and not ended."""
        return self._leases

    def retire(self) -> None:
        """Refuses new leases from now on: a reader with an old snapshot has to read the new one."""
        with self._lock:
            self._is_retired = True

    def reinstate(self) -> None:
        """Gives leases again."""
        with self._lock:
            self._is_retired = False

    # ---- running ----------------------------------------------------------------------------------------------------

    def run(
        self,
        outputs: Sequence[str],
        inputs: Mapping[str, Array],
        until: float | None = None,
        halt: Halt | None = None,
        *,
        requests: int = 1,
        ids: bytes = b"",
    ) -> list[Array]:
        """Runs it as `Session.run` does, for so many requests with their encoded ``ids``; notes that. Raises as it does."""
        notes = self._notes
        notes.begin(self._mark, requests, ids)
        try:
            return self.session.run(outputs, inputs, until, halt)
        finally:
            notes.end()

    def stop_batching(self, reason: str) -> None:
        """Has every request run alone from now on: the outputs of a batch could not be split."""
        self.batch_failure = self.batch_failure or reason
        self.is_batched, self.max_rows = False, 1

    # ---- from load to unload ----------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Runs every batch size that will be formed, and learns the pace. Raises LoadFailed."""
        rehearsal, self._rehearsal = self._rehearsal, NO_REHEARSAL  # its examples are not needed again
        warm_up = WarmUp(f"{self.model} v{self.number}", self.session, self.signature, rehearsal, is_batched=self.is_batched)
        self._notes.begin(self._mark)
        try:
            warmth = warm_up.run(emitted_sizes(self.max_rows, self.batching.preferred_rows))
        finally:
            self._notes.end()
        is_short = not self.batching.queue_delay_us and len(self.signature.inputs) <= MAX_INLINE_INPUTS
        may_be_inline = warmth.is_complete and is_short and self._isolated is None
        self.pace.learn_warm_up(warmth.runs, may_be_inline=may_be_inline)

    def settle(self) -> None:
        """Gives back what loading left over, and measures the memory that the version takes. Called once, after warm-up."""
        taken = self._isolated.resident() if self._isolated else resident().since(self.memory_before)
        if self._isolated is None and taken.private_bytes + taken.mapped_bytes >= LARGE_BYTES:
            give_back()  # loading copies weights for a moment, and malloc would keep that memory
            taken = resident().since(self.memory_before)
        self.private_bytes, self.mapped_bytes = taken.private_bytes, taken.mapped_bytes

    def before_close(self, callback: Callable[[], None]) -> None:
        """Has `close` call this first: for what serves this version and has to end with it."""
        self._before_close.append(callback)

    def close(self) -> None:
        """Frees the session. Only called when the version is retired or was never published, and without leases."""
        callbacks, self._before_close = self._before_close, []
        for callback in callbacks:
            callback()
        with freed_is_given_back():
            self.session.close()
        self._notes.leave(self._mark)
        if self.private_bytes + self.mapped_bytes >= LARGE_BYTES:
            give_back()
