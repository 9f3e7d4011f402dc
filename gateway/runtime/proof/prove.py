"""Proves that the rows of a model are independent: reads the graph, observes runs with several numbers of rows, walks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.runtime.onnx import ObservingSession
from gateway.runtime.proof.forms import Plain, Rows, Tensor, fixed_dims
from gateway.runtime.proof.observation import observe
from gateway.runtime.proof.onnx_graph import observable, read_graph
from gateway.runtime.proof.sizes import ROWS, Size, symbol
from gateway.runtime.proof.walk import Refuted, ends_with_rows, sized_by_data, tables, walk
from gateway.runtime.session import Array, LoadRefused, RunFailed
from registry.signature import Signature

OBSERVED_ROWS = (2, 3, 5)
Inputs = Callable[[int], Mapping[str, Array] | None]  # inputs with so many rows that the model runs on; None: none found


@dataclass(frozen=True, slots=True)
class Proof:
    """
    The result. ``reason`` says why the rows are not proved to be independent; empty if they are. ``carriers`` are the
    tensors that carry rows, by name; ``sizes`` are the bytes that a few rows of them take.
    """

    reason: str = ""
    carriers: Mapping[str, Rows] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)


class Prover:
    """Proves a model for one set of inputs at a time: with some of the optional inputs, or without. Runs in a sandbox."""

    def __init__(self, path: Path, signature: Signature) -> None:
        self._signature = signature
        read = read_graph(path)
        self.graph = read.graph
        self._session: ObservingSession | None = None
        self.tables: tuple[int, ...] = ()  # lengths of the tables that rows index, as found by the last proof
        self._problem = ""
        content, _ = observable(read)
        try:
            self._session = ObservingSession(content, path.parent)
        except LoadRefused as error:
            self._problem = f"its intermediate tensors cannot be observed: {error}"

    @property
    def session(self) -> ObservingSession | None:
        """The session that gives every tensor; None if the runtime refused it."""
        return self._session

    @property
    def sized_by_data(self) -> str:
        """The node that gives as many rows as the data say, in words; empty if there is none."""
        return sized_by_data(self.graph)

    def prove(self, inputs: Inputs) -> Proof:
        """Returns the proof for requests with these inputs."""
        if self._session is None:
            return Proof(self._problem)
        before: Mapping[str, Tensor] = {}
        for rows in OBSERVED_ROWS:
            given = inputs(rows)
            if given is None:
                return Proof(f"no input of {rows} rows was found that the model runs on")
            try:
                seen = observe(self._session, self.graph, given, rows)
                known = walk(self.graph, _tensors(self._signature, given), seen)
            except (Refuted, RunFailed) as error:
                return Proof(str(error))
            problem = ends_with_rows(known, self.graph) or _disagreement(before, known)
            if problem:
                return Proof(problem)
            before = known
        self.tables = tables(self.graph, known)
        return Proof("", {name: tensor for name, tensor in known.items() if isinstance(tensor, Rows)}, seen.sizes)


def _disagreement(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> str:
    """Returns which tensor's form was not the same with another number of rows: then a rule is wrong."""
    for name, tensor in before.items():
        if isinstance(tensor, Rows) and tensor != now[name]:
            return f"tensor {name!r} changes its form with the number of rows"
    return ""


def _tensors(signature: Signature, given: Mapping[str, Array]) -> dict[str, Tensor]:
    """Returns what is known of the inputs beforehand: their first axis carries rows if it is variable."""
    known: dict[str, Tensor] = {}
    for spec in signature.inputs:
        if spec.name not in given:
            continue
        if not spec.shape:
            known[spec.name] = Plain(fixed_dims(given[spec.name].shape))
            continue
        dims = [Size(dim) if dim >= 0 else symbol(f"{spec.name}:{axis}") for axis, dim in enumerate(spec.shape)]
        if spec.shape[0] < 0:
            dims[0] = ROWS
        known[spec.name] = Rows(tuple(dims), 0) if spec.shape[0] < 0 else Plain(tuple(dims))
    return known
