"""
The witness: tries to contradict a proof with real runs.

It keeps one row and the number of rows, and changes the row's neighbours: to values of unlike magnitude, not-a-number,
infinity, zeros, the last places of tables, rows of examples. Since every run is of the same shape, the runtime computes the
row in the same way each time, so a difference is the neighbours' influence and no rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from gateway.runtime.proof.observation import fetched
from gateway.runtime.proof.prove import Proof, Prover
from gateway.runtime.session import Array, RunFailed, Session

WITNESS_ROWS = 4
BUDGET_S = 5.0  # of processor time for the runs of one set of inputs; the most telling neighbours come first
TOLERANCE = 1e-5  # of the largest number in a row
_COMPARED_BYTES = 64 << 20  # of intermediate tensors that are compared
_LONG_TEXT = "a text that is longer than most texts of the kind " * 20


def contradiction(
    session: Session,
    prover: Prover,
    proof: Proof,
    given: Mapping[str, Array],
    pool: Mapping[str, Array] | None = None,
) -> str:
    """
    Returns which tensor of a row is influenced by the row's neighbours; empty if no run shows any. ``given`` are inputs with
    `WITNESS_ROWS` rows that the model runs on, ``pool`` are rows of examples.
    """
    began = time.process_time()
    names = _compared(proof, prover)
    outputs = [spec.name for spec in session.signature.outputs]
    carriers = [name for name in given if name in (proof.carriers or given)]

    def run(inputs: Mapping[str, Array], row: int) -> dict[str, Array]:
        results = zip(outputs, session.run(outputs, inputs), strict=True)
        parts = {f"output {name!r}": array[row : row + 1] for name, array in results}
        if prover.session is not None and names:
            for name, array in fetched(prover.session, names, inputs):
                parts[f"tensor {name!r}"] = _part(array, (proof.carriers or {})[name].axis, row)
        return parts

    first = {row: run(given, row) for row in (0, WITNESS_ROWS - 1)}
    for index, neighbours in enumerate(_neighbours(given, carriers, prover.tables, pool)):
        row = 0 if index % 2 else WITNESS_ROWS - 1
        inputs = dict(given)
        for name, values in neighbours.items():
            inputs[name] = values.copy()
            inputs[name][row] = given[name][row]
        try:
            parts = run(inputs, row)
        except RunFailed:
            continue  # the runtime refuses such a neighbour: then each request runs alone
        for name, part in parts.items():
            if not is_equal(first[row][name], part):
                return f"{name} of a row depends on the other rows of its batch"
        if time.process_time() - began > BUDGET_S:
            break
    return ""


def _compared(proof: Proof, prover: Prover) -> list[str]:
    """Returns the intermediate tensors to compare: those that carry rows, up to `_COMPARED_BYTES` in all."""
    chosen, left = [], _COMPARED_BYTES
    for name in prover.session.names if prover.session is not None else ():
        size = proof.sizes.get(name, 0)
        if proof.carriers and name in proof.carriers and size <= left:
            chosen.append(name)
            left -= size
    return chosen


def _part(array: Array, axis: int, row: int) -> Array:
    block = array.shape[axis] // WITNESS_ROWS
    part: Array = np.take(array, range(row * block, (row + 1) * block), axis=axis)
    return part


def is_equal(left: Array, right: Array) -> bool:
    """Whether two results of one row are equal, but for `TOLERANCE` of its largest finite number."""
    if left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return bool(np.array_equal(left, right))
    if np.array_equal(left, right, equal_nan=True):
        return True
    finite = np.isfinite(left)
    if not np.array_equal(finite, np.isfinite(right)) or not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        return False
    wide, other = left[finite].astype(np.float64), right[finite].astype(np.float64)
    return bool(np.abs(wide - other).max(initial=0.0) <= TOLERANCE * np.abs(wide).max(initial=0.0))


# ---- neighbours -------------------------------------------------------------------------------------------------------


def _neighbours(
    given: Mapping[str, Array], carriers: Sequence[str], tables: Sequence[int], pool: Mapping[str, Array] | None
) -> Iterator[dict[str, Array]]:
    """Yields other values for the inputs that carry rows, the most telling first."""
    makers: list[Callable[[Array], Array]] = [
        lambda values: _filled(values, 1e6, 1000, text=_LONG_TEXT),
        lambda values: _filled(values, np.nan, 0, text=""),
        lambda values: _filled(values, 0.0, 0, text="0"),
        _unlike,
        lambda values: _scaled(values, 1e-6),
        lambda values: _filled(values, np.inf, 1, text="1"),
        lambda values: _filled(values, -np.inf, 1, text="-1"),
        lambda values: _scaled(values, -1e3),
        *(lambda values, last=length - 1: _filled(values, 1.0, last, text=str(last)) for length in sorted(set(tables))),
    ]
    for make in makers:
        yield {name: make(given[name]) for name in carriers}
    if pool is not None and all(name in pool and pool[name].shape[1:] == given[name].shape[1:] for name in carriers):
        count = len(pool[carriers[0]])
        for start in range(0, min(count, 2 * WITNESS_ROWS), WITNESS_ROWS):
            places = (start + np.arange(WITNESS_ROWS)) % count
            yield {name: pool[name][places] for name in carriers}


def _filled(values: Array, number: float, whole: int, *, text: str) -> Array:
    """Returns an array of this shape and type: the number in floats, the whole number in others, the text in texts."""
    if values.dtype == np.object_:
        return np.full(values.shape, text, np.object_)
    if values.dtype.kind == "b":
        return np.full(values.shape, bool(whole))
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.full(values.shape, number).astype(values.dtype)
    return np.full(values.shape, min(whole, np.iinfo(values.dtype).max), values.dtype)


def _scaled(values: Array, factor: float) -> Array:
    if values.dtype.kind != "f":
        return np.roll(values, 1, axis=0)
    with np.errstate(over="ignore"):
        return (values.astype(np.float64) * factor).astype(values.dtype)


def _unlike(values: Array) -> Array:
    """Returns rows of magnitudes from 10⁻⁶ to 10⁶."""
    if values.dtype.kind != "f" or values.ndim < 1:
        return np.flip(values, axis=0).copy()
    scales = np.logspace(-6, 6, len(values)).reshape(-1, *[1] * (values.ndim - 1))
    with np.errstate(over="ignore"):
        return (np.where(values == 0, 1.0, values).astype(np.float64) * scales).astype(values.dtype)
