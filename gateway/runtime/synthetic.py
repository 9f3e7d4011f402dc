"""
Generated inputs for a signature, and the evidence they give: that a model runs, and that the rows of a batch are
independent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from gateway.runtime.example_inputs import different_rows, mixed
from gateway.runtime.session import Array, RunFailed, Session
from gateway.runtime.tensor_contents import DTYPES, bfloat16_values
from registry.examples import Example
from registry.signature import Signature, TensorSpec

FREE_SIZES = (1, 3, 2, 4, 8, 16, 32)  # tried in turn for variable dimensions other than the first
CHECKED_ROWS = (2, 3, 5, 8)
CHECK_BUDGET_S = 5.0  # a slow model is checked on smaller batches only
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-4
MAX_INTEGER = 3  # integers are often indices: small ones are the safest


def runnable_inputs(
    session: Session, rows: int, random: np.random.Generator | None = None, *, failures: list[str] | None = None
) -> dict[str, Array] | None:
    """
    Returns inputs with ``rows`` rows that the model runs on, random if ``random`` is given; None if none were found. What
    the runtime says of others is added to ``failures``.
    """
    outputs = [spec.name for spec in session.signature.outputs]
    for inputs in _attempts(session.signature, rows, random):
        try:
            session.run(outputs, inputs)
        except RunFailed as error:
            if failures is not None:
                failures.append(str(error))
            continue
        return inputs
    return None


def _attempts(signature: Signature, rows: int, random: np.random.Generator | None) -> Iterator[dict[str, Array]]:
    needed = [spec for spec in signature.inputs if not spec.is_optional]
    sizes = FREE_SIZES if has_free_dimensions(signature) else FREE_SIZES[:1]
    for free in sizes:
        if random is None:
            yield {spec.name: _filled(spec, rows, free, 0) for spec in needed}
            yield {spec.name: _filled(spec, rows, free, 1) for spec in needed}
        else:
            yield {spec.name: _random(spec, rows, free, random) for spec in needed}


def has_free_dimensions(signature: Signature) -> bool:
    """Whether an input has a variable dimension besides its first."""
    return any(dim < 0 for spec in signature.inputs for dim in spec.shape[1:])


def _shape(spec: TensorSpec, rows: int, free: int) -> list[int]:
    shape = [dim if dim >= 0 else free for dim in spec.shape]
    if spec.shape and spec.shape[0] < 0:
        shape[0] = rows
    return shape


def _filled(spec: TensorSpec, rows: int, free: int, value: int) -> Array:
    shape = _shape(spec, rows, free)
    if spec.datatype == "BYTES":
        return np.full(shape, str(value), np.object_)
    return np.full(shape, value, DTYPES[spec.datatype])


def _random(spec: TensorSpec, rows: int, free: int, random: np.random.Generator) -> Array:
    shape = _shape(spec, rows, free)
    if spec.datatype == "BYTES":
        return random.integers(0, MAX_INTEGER, shape).astype("U").astype(np.object_)
    if spec.datatype == "BF16":  # the upper half of a float32's bits
        return (random.normal(size=shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if spec.datatype.startswith("FP"):
        return random.normal(size=shape).astype(DTYPES[spec.datatype])
    return random.integers(0, 2 if spec.datatype == "BOOL" else MAX_INTEGER, shape).astype(DTYPES[spec.datatype])


def row_independence(session: Session, seed: int = 0, examples: Sequence[Example] = ()) -> tuple[bool, str]:
    """
    Returns whether the rows of a batch were shown to be independent, and the evidence.

    A variable first axis does not prove it: a reduction or a softmax over it mixes callers. Shown means that several random
    batches gave, row by row, the same as the rows alone. If random inputs do not run, rows of the examples are mixed.
    """
    problem = _without_rows(session.signature)
    if problem:
        return False, problem
    random = np.random.default_rng(seed)
    began = time.monotonic()
    pool: dict[str, Array] | None = None
    for rows in CHECKED_ROWS:
        inputs = runnable_inputs(session, rows, random) if pool is None else None
        if inputs is None:
            pool = pool or _pool(examples)
            if pool is None:
                return False, f"no random input of {rows} rows was found that the model runs on{_too_few(examples)}"
            inputs = mixed(pool, rows, random)
        problem = _difference(session, inputs, rows)
        if problem:
            return False, problem
        kind = "random batches" if pool is None else "batches of examples"
        if rows != CHECKED_ROWS[0] and time.monotonic() - began > CHECK_BUDGET_S:  # several batches at the least
            return True, f"rows of {kind} of up to {rows} equal the rows alone; larger ones took too long to check"
    return True, f"rows of {len(CHECKED_ROWS)} {kind} of up to {max(CHECKED_ROWS)} equal the rows alone"


def _without_rows(signature: Signature) -> str:
    required = [spec for spec in signature.inputs if not spec.is_optional]
    for kind, specs in (("input", required), ("output", signature.outputs)):
        for spec in specs:
            if not spec.shape or spec.shape[0] >= 0:
                return f"{kind} {spec.name!r} has no variable first axis"
    return "" if required else "the model takes no input"


def _pool(examples: Sequence[Example]) -> dict[str, Array] | None:
    """Rows of the examples that can show something: two that differ, at the least."""
    pool = different_rows(examples)
    return pool if pool is not None and len(next(iter(pool.values()))) > 1 else None


def _too_few(examples: Sequence[Example]) -> str:
    return ", and the examples have no two different rows of one shape" if examples else ""


def _difference(session: Session, inputs: dict[str, Array], rows: int) -> str:
    names = [spec.name for spec in session.signature.outputs]
    try:
        batch = session.run(names, inputs)
    except RunFailed as error:
        return f"{rows} rows together fail: {error}"
    for name, array in zip(names, batch, strict=True):
        if not array.ndim or len(array) != rows:
            return f"output {name!r} of {rows} rows has shape {list(array.shape)}"
    for row in range(rows):
        try:
            alone = session.run(names, {name: array[row : row + 1] for name, array in inputs.items()})
        except RunFailed as error:
            return f"a row alone fails: {error}"
        for spec, together, single in zip(session.signature.outputs, batch, alone, strict=True):
            if not is_same(spec.datatype, together[row : row + 1], single):
                return f"output {spec.name!r} of a row depends on the other rows of its batch"
    return ""


def is_same(datatype: str, left: Array, right: Array) -> bool:
    """Whether two answers are equal within RELATIVE_TOLERANCE and ABSOLUTE_TOLERANCE, 30 times as much for half precision."""
    if left.shape != right.shape:
        return False
    if datatype == "BF16":
        left, right = bfloat16_values(left), bfloat16_values(right)
    if datatype in ("BF16", "FP16", "FP32", "FP64"):
        loose = 30.0 if datatype in ("BF16", "FP16") else 1.0
        return bool(np.allclose(left, right, rtol=loose * RELATIVE_TOLERANCE, atol=loose * ABSOLUTE_TOLERANCE, equal_nan=True))
    return bool(np.array_equal(left, right))
