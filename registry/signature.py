"""The signature of a model: its inputs and outputs, in the Open Inference Protocol's terms. Pure values; reads no files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """
    One tensor of a signature. ``shape`` has -1 where a dimension is variable; ``()`` is a scalar. Where the model does
    not even say how many dimensions there are, ``is_ranked`` is False and ``shape`` is ``()``: any shape is right.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    is_optional: bool = False
    is_ranked: bool = True

    def __str__(self) -> str:
        if not self.is_ranked:
            return f"{self.name}: {self.datatype} of any rank"
        return f"{self.name}: {self.datatype} [{', '.join('?' if d < 0 else str(d) for d in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, in the order of its file."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def incompatibilities(serving: Signature, new: Signature) -> tuple[str, ...]:
    """
    Returns why callers of ``serving`` would break on ``new``; empty if they would not.

    A caller of ``serving`` sends its required inputs and reads any of its outputs. So every input that it may send must
    exist with the same datatype and a shape that accepts at least what was accepted, no further input may be required, and
    every output must still be there with the same datatype and no wider shape.
    """
    problems = [*_input_problems(serving, new), *_output_problems(serving, new)]
    return tuple(problems)


def _input_problems(serving: Signature, new: Signature) -> list[str]:
    problems = []
    accepted = {spec.name: spec for spec in new.inputs}
    for old in serving.inputs:
        spec = accepted.get(old.name)
        if spec is None:
            problems.append(f"input {old.name!r} is gone")
        elif spec.datatype != old.datatype:
            problems.append(f"input {old.name!r} takes {spec.datatype}, was {old.datatype}")
        elif not _covers(spec, old):
            problems.append(f"input {old.name!r} takes shape {_shape(spec)}, was {_shape(old)}")
        elif old.is_optional and not spec.is_optional:
            problems.append(f"input {old.name!r} is now required")
    known = {spec.name for spec in serving.inputs}
    problems += [
        f"input {spec.name!r} is new and required" for spec in new.inputs if spec.name not in known and not spec.is_optional
    ]
    return problems


def _output_problems(serving: Signature, new: Signature) -> list[str]:
    problems = []
    given = {spec.name: spec for spec in new.outputs}
    for old in serving.outputs:
        spec = given.get(old.name)
        if spec is None:
            problems.append(f"output {old.name!r} is gone")
        elif spec.datatype != old.datatype:
            problems.append(f"output {old.name!r} gives {spec.datatype}, was {old.datatype}")
        elif not _covers(old, spec):
            problems.append(f"output {old.name!r} gives shape {_shape(spec)}, was {_shape(old)}")
    return problems


def _covers(wide: TensorSpec, narrow: TensorSpec) -> bool:
    if not wide.is_ranked:
        return True
    if not narrow.is_ranked or len(wide.shape) != len(narrow.shape):
        return False
    return all(w in (-1, n) for w, n in zip(wide.shape, narrow.shape, strict=True))


def _shape(spec: TensorSpec) -> str:
    return str(list(spec.shape)) if spec.is_ranked else "of any rank"
