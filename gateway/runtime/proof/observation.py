"""Runs a model with every intermediate tensor as an output, and keeps their shapes and the values of small constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.runtime.onnx import ObservingSession
from gateway.runtime.proof.graph import Constant, Graph, needed, reads
from gateway.runtime.proof.onnx_graph import MAX_VALUES
from gateway.runtime.proof.walk import Observation
from gateway.runtime.session import Array

_FIRST_TENSORS = 8  # fetched by the first run; more as long as they are small
_MAX_BYTES = 64 << 20  # of tensors that one run fetches


def observe(session: ObservingSession, graph: Graph, inputs: Mapping[str, Array], rows: int) -> Observation:
    """Returns what a run on inputs with ``rows`` rows shows. Raises RunFailed."""
    fixed = constants(graph, inputs)
    shapes: dict[str, tuple[int, ...]] = {}
    values: dict[str, Constant] = {}
    sizes: dict[str, int] = {}
    for name, array in fetched(session, session.names, inputs):
        shapes[name], sizes[name] = array.shape, array.nbytes
        if name in fixed:
            values[name] = Constant(array.shape, array if array.size <= MAX_VALUES and array.dtype != object else None)
    return Observation(rows, shapes, values, sizes)


def fetched(session: ObservingSession, names: Sequence[str], inputs: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Yields tensors by name, from as many runs as it takes not to hold them all at once. Raises RunFailed."""
    start, count = 0, _FIRST_TENSORS
    while start < len(names):
        some = names[start : start + count]
        arrays = session.run(some, inputs)
        yield from zip(some, arrays, strict=True)
        start += count
        largest = max(array.nbytes for array in arrays)
        count = max(1, min(8 * count, _MAX_BYTES // max(1, largest)))


def constants(graph: Graph, inputs: Mapping[str, Array]) -> set[str]:
    """Returns the tensors that depend on none of the inputs that are given."""
    known = {name for name in graph.constants if name not in inputs}
    for node in needed(graph):
        if reads(node) <= known:
            known.update(node.outputs)
    return known
