"""The verdict on a model's rows: proved to be independent and not contradicted by any run, or why not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from gateway.runtime.example_inputs import different_rows, mixed
from gateway.runtime.proof.prove import Inputs, Prover
from gateway.runtime.proof.witness import WITNESS_ROWS, contradiction
from gateway.runtime.session import Array, RunFailed, Session
from gateway.runtime.synthetic import is_same, runnable_inputs
from registry.examples import Example
from registry.signature import Signature
from registry.versions import RowProof

COMPARED_ROWS = (2, 3, 5, 8)
BUDGET_S = 3.0  # a slow model's rows are compared in smaller batches only
MAX_OPTIONAL = 3  # optional inputs of which every combination is proved; of more, each alone and all together
_PROVED = "the rows are proved to be independent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    ``batched_inputs`` are the sets of optional inputs with which requests may share a batch, if all carry the same set;
    requests without any may if ``proof`` is PROVED.
    """

    proof: RowProof
    reason: str
    batched_inputs: tuple[tuple[str, ...], ...] = ()


def row_verdict(path: Path, session: Session, examples: Sequence[Example] = (), seed: int = 0) -> Verdict:
    """Returns the verdict on the ONNX file that ``session`` has loaded. Takes seconds, and runs the model: for a sandbox."""
    problem = _without_rows(session.signature)
    if problem:
        return Verdict(RowProof.NOT_PROVED, problem)
    trials = _Trials(path, session, examples, seed)
    problem = trials.problem(())
    if problem:
        by_data = trials.prover.sized_by_data
        return Verdict(RowProof.IMPOSSIBLE, by_data) if by_data else Verdict(RowProof.NOT_PROVED, problem)
    batched = tuple(names for names in _optional_sets(session.signature) if not trials.problem(names))
    return Verdict(RowProof.PROVED, _PROVED, batched)


def _without_rows(signature: Signature) -> str:
    required = [spec for spec in signature.inputs if not spec.is_optional]
    for kind, specs in (("input", required), ("output", signature.outputs)):
        for spec in specs:
            if not spec.shape or spec.shape[0] >= 0:
                return f"{kind} {spec.name!r} has no variable first axis"
    return "" if required else "the model takes no input"


def _optional_sets(signature: Signature) -> Iterable[tuple[str, ...]]:
    """Yields the sets of optional inputs to prove, each in alphabetical order."""
    names = sorted(spec.name for spec in signature.inputs if spec.is_optional and spec.shape and spec.shape[0] < 0)
    if len(names) <= MAX_OPTIONAL:
        for count in range(1, len(names) + 1):
            yield from combinations(names, count)
    else:
        yield from ((name,) for name in names)
        yield tuple(names)


class _Trials:
    """Proof and contradiction for one set of optional inputs after the other."""

    def __init__(self, path: Path, session: Session, examples: Sequence[Example], seed: int) -> None:
        self._session, self._examples = session, examples
        self._random = np.random.default_rng(seed)
        self._required = {spec.name for spec in session.signature.inputs if not spec.is_optional}
        self.prover = Prover(path, session.signature)

    def problem(self, optional: tuple[str, ...]) -> str:
        """Returns why requests with these optional inputs must not share a batch; empty if they may."""
        pool = self._pool(optional)

        def inputs(rows: int) -> Mapping[str, Array] | None:
            made = runnable_inputs(self._session, rows, self._random, optional)
            if made is None and pool is not None:
                made = mixed(pool, rows, self._random)
            return made

        proof = self.prover.prove(inputs)
        if proof.reason:
            return proof.reason + (_too_few(self._examples) if pool is None else "")
        given = inputs(WITNESS_ROWS)
        if given is None:
            return f"no input of {WITNESS_ROWS} rows was found that the model runs on"
        try:
            return self._compared(inputs) or contradiction(self._session, self.prover, proof, given, pool)
        except RunFailed as error:
            return f"{WITNESS_ROWS} rows together fail: {error}"

    def _pool(self, optional: tuple[str, ...]) -> dict[str, Array] | None:
        """Returns different rows of the examples with just these inputs: two at the least."""
        names = self._required.union(optional)
        alike = [example for example in self._examples if {tensor.name for tensor in example.inputs} == names]
        pool = different_rows(alike)
        return pool if pool is not None and len(next(iter(pool.values()))) > 1 else None

    def _compared(self, inputs: Inputs) -> str:
        """Returns which output of a row alone is not the same in a batch; empty if all are."""
        began = time.monotonic()
        for rows in COMPARED_ROWS:
            given = inputs(rows)
            problem = "no input was found" if given is None else difference(self._session, given, rows)
            if problem:
                return problem
            if time.monotonic() - began > BUDGET_S:
                break
        return ""


def _too_few(examples: Sequence[Example]) -> str:
    return ", and the examples have no two different rows of one shape" if examples else ""


def difference(session: Session, inputs: Mapping[str, Array], rows: int) -> str:
    """Returns which output of a row alone is not the same as in a batch of ``rows`` rows; empty if all are."""
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
