"""
Warm-up: runs a version on every batch size that requests will form, and times it.

Inputs come from example requests if there are any. Registered examples ran at registration and must run again. Recorded
ones come from live traffic of other versions, so a failure of one proves nothing. Without examples, inputs are made up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.errors import InvalidRequest
from gateway.runtime.example_inputs import arrays, row_layout, tiled
from gateway.runtime.session import Array, RunFailed, Session, SessionCrashed
from gateway.runtime.synthetic import has_free_dimensions, runnable_inputs
from registry.examples import Example
from registry.signature import Signature

REPEATS = 3  # timed runs per batch size, of which the shortest counts
BUDGET_S = 2.0  # seconds after which no further batch size is run: a start must not wait for long
MAX_BATCH_BYTES = 256 << 20  # bytes of one warm-up batch: it must not take the memory that requests need


class LoadFailed(Exception):
    """A version cannot be loaded or warmed up. ``reason`` tells the operator what is wrong with what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """
    The examples that a version is warmed up with. Without any, inputs are made up. ``forget(example)`` is called for a
    recorded one that has ended the version's process.
    """

    registered: tuple[Example, ...] = ()
    recorded: tuple[Example, ...] = ()
    forget: Callable[[Example], None] = lambda example: None


NO_REHEARSAL = Rehearsal()


@dataclass(frozen=True, slots=True)
class Warmth:
    """The (rows, seconds) of every size that was run, ascending; ``is_complete`` when no size was left out."""

    runs: tuple[tuple[int, float], ...]
    is_complete: bool


def emitted_sizes(max_rows: int, preferred_rows: Sequence[int]) -> list[int]:
    """Returns the batch sizes to warm up, ascending: powers of two, the largest batch, and the preferred sizes."""
    sizes = {1, max_rows, *(rows for rows in preferred_rows if rows <= max_rows)}
    rows = 2
    while rows < max_rows:
        sizes.add(rows)
        rows *= 2
    return sorted(sizes)


class WarmUp:
    """One warm-up of a version; errors call it ``name``. ``is_batched``: the rows of an example may form other sizes."""

    def __init__(self, name: str, session: Session, signature: Signature, rehearsal: Rehearsal, *, is_batched: bool) -> None:
        self._name = name
        self._session, self._signature = session, signature
        self._outputs = tuple(spec.name for spec in signature.outputs)
        self._is_batched = is_batched
        self._examples, self._forget = self._one_of_each_layout(rehearsal), rehearsal.forget
        self._ends_at = time.monotonic() + BUDGET_S

    def run(self, sizes: Sequence[int]) -> Warmth:
        """Runs the sizes in turn until BUDGET_S is spent. Raises LoadFailed when the model does not run."""
        runs: list[tuple[int, float]] = []
        for rows in sizes:
            run_s = self._slowest(rows)
            if run_s is None:
                return Warmth(tuple(runs), is_complete=False)
            runs.append((rows, run_s))
        return Warmth(tuple(runs), is_complete=True)

    def _one_of_each_layout(self, rehearsal: Rehearsal) -> list[tuple[Example, bool]]:
        """Returns one example per request layout, each with whether it must run: registered examples come first."""
        chosen: dict[tuple[object, ...], tuple[Example, bool]] = {}
        for examples, is_registered in ((rehearsal.registered, True), (rehearsal.recorded, False)):
            for example in examples:
                rows = None if self._is_batched and example.rows else tuple(t.shape for t in example.inputs)
                chosen.setdefault((rows, row_layout(example)), (example, is_registered))
        return list(chosen.values())

    def _slowest(self, rows: int) -> float | None:
        """Returns the seconds of the slowest example; None when memory or time is short, or no input is known to run."""
        slowest_s: float | None = None
        for example, is_registered in list(self._examples):
            if example.rows and example.size_bytes * rows > MAX_BATCH_BYTES * example.rows:
                return None
            try:
                inputs = self._inputs(example, rows)
                if inputs is None:
                    continue
                run_s = self._timed(inputs)
            except (RunFailed, InvalidRequest) as error:
                if not is_registered:
                    if isinstance(error, SessionCrashed):
                        self._examples.remove((example, is_registered))
                        self._forget(example)
                    continue
                shown = f"{rows if self._is_batched else example.rows} rows of example {example.name!r}"
                raise LoadFailed(f"{self._name}: warm-up with {shown} failed: {error}") from None
            if run_s is None:
                return None
            slowest_s = max(slowest_s or 0.0, run_s)
        return self._made_up(rows) if slowest_s is None else slowest_s

    def _inputs(self, example: Example, rows: int) -> dict[str, Array] | None:
        """Returns an example with this many rows; None if its rows are unknown and it already ran as it is."""
        if self._is_batched and example.rows:
            return tiled(example, rows)
        return arrays(example) if rows == 1 else None

    def _made_up(self, rows: int) -> float | None:
        """
        Times made-up inputs. If a model has variable dimensions beside the batch, made-up sizes may be invalid, so a failure
        proves nothing. A model of fixed shapes that refuses every made-up input has failed.
        """
        inputs = runnable_inputs(self._session, rows)
        if inputs is not None:
            return self._timed(inputs, is_warm=True)
        if has_free_dimensions(self._signature):
            return None
        raise LoadFailed(f"{self._name}: warm-up with {rows} rows failed on every made-up input")

    def _timed(self, inputs: dict[str, Array], *, is_warm: bool = False) -> float | None:
        """
        Returns the shortest of REPEATS runs after a first one, as a busy machine makes runs longer and never shorter; None
        when BUDGET_S is spent.
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
