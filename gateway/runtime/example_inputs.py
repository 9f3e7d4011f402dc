"""Example requests as inputs of a model: unchanged, tiled to a number of rows, or mixed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gateway.runtime.session import Array
from gateway.runtime.tensor_contents import from_raw
from registry.examples import Example

MAX_ROWS_MIXED = 64  # of one example


def arrays(example: Example) -> dict[str, Array]:
    """Returns the inputs by name. Raises InvalidRequest that names the input whose contents do not fit its shape."""
    return {tensor.name: from_raw(tensor.name, tensor.datatype, tensor.shape, tensor.contents) for tensor in example.inputs}


def tiled(example: Example, rows: int) -> dict[str, Array] | None:
    """Returns the inputs with ``rows`` rows, the example's own repeated; None if its inputs share no first dimension."""
    own = example.rows
    if not own:
        return None
    return _picked(arrays(example), np.arange(rows) % own)


def different_rows(examples: Iterable[Example]) -> dict[str, Array] | None:
    """
    Returns the different rows (the first ones of each example) that are shaped like those of the first; None if there are
    none.
    """
    with_rows = [example for example in examples if example.rows]
    if not with_rows:
        return None
    alike = [arrays(example) for example in with_rows if row_layout(example) == row_layout(with_rows[0])]
    joined = {name: np.concatenate([one[name][:MAX_ROWS_MIXED] for one in alike]) for name in alike[0]}
    seen: dict[tuple[object, ...], int] = {}
    for row in range(len(next(iter(joined.values())))):
        seen.setdefault(tuple(_comparable(array[row]) for array in joined.values()), row)
    return _picked(joined, np.fromiter(seen.values(), np.int64))


def mixed(pool: dict[str, Array], rows: int, random: np.random.Generator) -> dict[str, Array]:
    """Returns ``rows`` rows of a pool in random order; repeats a row only if there are not enough."""
    count = len(next(iter(pool.values())))
    return _picked(pool, np.resize(random.permutation(count), rows))


def row_layout(example: Example) -> tuple[object, ...]:
    """Returns the shapes and types by which examples can share a batch."""
    return tuple(sorted((tensor.name, tensor.datatype, tensor.shape[1:]) for tensor in example.inputs))


def _picked(inputs: dict[str, Array], rows: Array) -> dict[str, Array]:
    return {name: array[rows] for name, array in inputs.items()}


def _comparable(values: Array) -> object:
    return tuple(values.reshape(-1).tolist()) if values.dtype == np.object_ else values.tobytes()
