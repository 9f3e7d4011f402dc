"""
Warm-up: a version is run on every batch size that it will be given, and timed.

Inputs are those of example requests where there are any: registered ones ran at registration and have to run again;
recorded ones come from live traffic of other versions, and one that fails here proves nothing. Else inputs are made up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.errors import InvalidRequest
from gateway.runtime.examples import arrays, row_layout, tiled
from gateway.runtime.session import Array, RunFailed, Session
from gateway.runtime.synthetic import has_free_dimensions, runnable_inputs
from gateway.versions.ports import LoadFailed
from registry.examples import Example
from registry.signature import Signature

REPEATS = 3
BUDGET_S = 2.0  # nothing larger is warmed up after that
MAX_BATCH_BYTES = 256 << 20  # of an example's rows; a warm-up must not take the memory that requests need


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a version is warmed up with; nothing: made-up inputs."""

    registered: tuple[Example, ...] = ()
    recorded: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Warmth:
    """What a run of so many rows took, in seconds; ``is_complete`` when every size was run."""

    runs: tuple[tuple[int, float], ...]
    is_complete: bool


def emitted_sizes(max_rows: int, preferred_rows: Sequence[int]) -> list[int]:
    """Batch sizes that stand for all that will be emitted: those that doubling reaches, the largest, the preferred ones."""
    sizes = {1, max_rows, *(rows for rows in preferred_rows if rows <= max_rows)}
    rows = 2
    while rows < max_rows:
        sizes.add(rows)
        rows *= 2
    return sorted(sizes)


class WarmUp:
    """One warm-up of the version called ``name``. ``is_batched``: rows of a request are run in batches of other sizes."""

    def __init__(self, name: str, session: Session, signature: Signature, rehearsal: Rehearsal, *, is_batched: bool) -> None:
        self._name = name
        self._session, self._signature = session, signature
        self._outputs = tuple(spec.name for spec in signature.outputs)
        self._is_batched = is_batched
        self._examples = self._one_of_each_layout(rehearsal)
        self._ends_at = time.monotonic() + BUDGET_S

    def run(self, sizes: Sequence[int]) -> Warmth:
        """Runs the sizes in turn until the budget is spent. Raises LoadFailed when the model does not run."""
        runs: list[tuple[int, float]] = []
        for rows in sizes:
            run_s = self._slowest(rows)
            if run_s is None:
                return Warmth(tuple(runs), is_complete=False)
            runs.append((rows, run_s))
        return Warmth(tuple(runs), is_complete=True)

    def _one_of_each_layout(self, rehearsal: Rehearsal) -> list[tuple[Example, bool]]:
        """The examples to run, each with whether it has to run: the registered ones come first."""
        chosen: dict[tuple[object, ...], tuple[Example, bool]] = {}
        for examples, is_registered in ((rehearsal.registered, True), (rehearsal.recorded, False)):
            for example in examples:
                rows = None if self._is_batched and example.rows else tuple(t.shape for t in example.inputs)
                chosen.setdefault((rows, row_layout(example)), (example, is_registered))
        return list(chosen.values())

    def _slowest(self, rows: int) -> float | None:
        """Seconds of the slowest run of so many rows; None when there is no room or time left, or nothing is known to run."""
        slowest_s: float | None = None
        for example, is_registered in self._examples:
            if example.rows and example.size_bytes * rows > MAX_BATCH_BYTES * example.rows:
                return None
            try:
                inputs = self._inputs(example, rows)
                if inputs is None:
                    continue
                run_s = self._timed(inputs)
            except (RunFailed, InvalidRequest) as error:
                if not is_registered:
                    continue
                shown = f"{rows if self._is_batched else example.rows} rows of example {example.name!r}"
                raise LoadFailed(f"{self._name}: warm-up with {shown} failed: {error}") from None
            if run_s is None:
                return None
            slowest_s = max(slowest_s or 0.0, run_s)
        return self._made_up(rows) if slowest_s is None else slowest_s

    def _inputs(self, example: Example, rows: int) -> dict[str, Array] | None:
        """An example with so many rows; None where its rows cannot be told and it was run as it is before."""
        if self._is_batched and example.rows:
            return tiled(example, rows)
        return arrays(example) if rows == 1 else None

    def _made_up(self, rows: int) -> float | None:
        """
        Where a model has variable dimensions beside the batch, made-up sizes may be no valid input: such a failure proves
        nothing. A model of fixed shapes that takes no made-up input has failed.
        """
        inputs = runnable_inputs(self._session, rows)
        if inputs is not None:
            return self._timed(inputs, is_warm=True)
        if has_free_dimensions(self._signature):
            return None
        raise LoadFailed(f"{self._name}: warm-up with {rows} rows failed on every made-up input")

    def _timed(self, inputs: dict[str, Array], *, is_warm: bool = False) -> float | None:
        """
        The least seconds of a few runs after a first one, since a busy machine makes runs longer and never shorter; None when
        the budget is spent by then.
        """
        if not is_warm:
            self._session.run(self._outputs, inputs)
        if time.monotonic() > self._ends_at:
            return None
        return min(self._run_s(inputs) for _ in range(REPEATS))

    def _run_s(self, inputs: dict[str, Array]) -> float:
        began = time.perf_counter()
        self._session.run(self._outputs, inputs)
        return time.perf_counter() - began
