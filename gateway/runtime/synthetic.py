"""
Generated inputs for a signature, for models that have no examples.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from gateway.runtime.session import Array, RunFailed, Session
from gateway.runtime.tensor_contents import DTYPES, bfloat16_values
from registry.signature import Signature, TensorSpec

FREE_SIZES = (1, 3, 2, 4, 8, 16, 32)  # tried in turn for variable dimensions other than the first
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-4
MAX_INTEGER = 3  # integers are often indices: small ones are the safest


def runnable_inputs(
    session: Session,
    rows: int,
    random: np.random.Generator | None = None,
    optional: Collection[str] = (),
    *,
    failures: list[str] | None = None,
) -> dict[str, Array] | None:
    """
    Returns inputs with ``rows`` rows that the model runs on, random if ``random`` is given; None if none were found. Of the
    optional inputs, they have those that ``optional`` names. What the runtime says of others is added to ``failures``.
    """
    outputs = [spec.name for spec in session.signature.outputs]
    for inputs in _attempts(session.signature, rows, random, optional):
        try:
            session.run(outputs, inputs)
        except RunFailed as error:
            if failures is not None:
                failures.append(str(error))
            continue
        return inputs
    return None


def _attempts(
    signature: Signature, rows: int, random: np.random.Generator | None, optional: Collection[str]
) -> Iterator[dict[str, Array]]:
    needed = [spec for spec in signature.inputs if not spec.is_optional or spec.name in optional]
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
