"""
Example requests of a version: their values, the file that keeps them, and whether they fit a signature. Pure.

They show what a model really takes, where generated inputs only guess. They are run at registration and at every warm-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from registry.errors import InvalidValue
from registry.names import check_text
from registry.signature import Signature, TensorSpec

FILE_NAME = "examples.msgpack"
MAX_EXAMPLES = 16
MAX_BYTES = 16 << 20  # contents of all examples of a version together


@dataclass(frozen=True, slots=True)
class ExampleTensor:
    """One input. ``contents`` are the Open Inference Protocol's raw contents."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    contents: bytes

    def __str__(self) -> str:
        return f"{self.datatype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Example:
    """The inputs of one request. ``name`` is for people: the file that it came from, or empty."""

    inputs: tuple[ExampleTensor, ...]
    name: str = ""

    @property
    def size_bytes(self) -> int:
        """Returns the bytes of all contents."""
        return sum(len(tensor.contents) for tensor in self.inputs)

    @property
    def rows(self) -> int:
        """Returns the first dimension that all inputs share; 0 if they have none or do not agree."""
        firsts = {tensor.shape[0] if tensor.shape else 0 for tensor in self.inputs}
        return firsts.pop() if len(firsts) == 1 else 0


def title(index: int, example: Example) -> str:
    """Returns the words by which messages name an example; ``index`` counts from 0."""
    return f"examples[{index}] ({example.name})" if example.name else f"examples[{index}]"


def check_bounds(examples: Sequence[Example]) -> None:
    """Raises InvalidValue for more examples or bytes than a version may have, and for a name that is no text."""
    if len(examples) > MAX_EXAMPLES:
        raise InvalidValue(f"examples: expected at most {MAX_EXAMPLES}, got more", field="examples")
    if sum(example.size_bytes for example in examples) > MAX_BYTES:
        raise InvalidValue(f"examples: expected at most {MAX_BYTES} bytes in all, got more", field="examples")
    for index, example in enumerate(examples):
        check_text(f"examples[{index}].name", example.name)


def check_examples(examples: Sequence[Example], signature: Signature) -> None:
    """Raises InvalidValue that names the example and the input that does not fit the signature."""
    for index, example in enumerate(examples):
        problem = misfit(example, signature)
        if problem:
            raise InvalidValue(f"{title(index, example)}: {problem}", field=f"examples[{index}]")


def misfit(example: Example, signature: Signature) -> str:
    """Returns in words why an example does not fit the inputs of a signature; empty if it does. Does not read contents."""
    given = {tensor.name: tensor for tensor in example.inputs}
    if len(given) != len(example.inputs):
        return "an input is named twice"
    known = {spec.name: spec for spec in signature.inputs}
    if unknown := [name for name in given if name not in known]:
        return f"input {unknown[0]!r}: unknown, the model takes {', '.join(known)}"
    for name, spec in known.items():
        tensor = given.get(name)
        if tensor is None:
            if not spec.is_optional:
                return f"input {name!r}: missing, expected {spec}"
        elif tensor.datatype != spec.datatype or not _fits(tensor.shape, spec):
            return f"input {name!r}: expected {spec}, got {tensor}"
    return ""


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    if any(dim < 0 for dim in shape):
        return False
    if not spec.is_ranked:
        return True
    return len(shape) == len(spec.shape) and all(want in (-1, got) for got, want in zip(shape, spec.shape, strict=True))


def to_file(examples: Iterable[Example]) -> bytes:
    """Returns the examples as the content of one file."""
    return msgspec.msgpack.encode(tuple(examples))


def from_file(content: bytes) -> tuple[Example, ...]:
    """Returns the examples of a file. Raises InvalidValue if it holds none."""
    try:
        return msgspec.msgpack.decode(content, type=tuple[Example, ...])
    except msgspec.MsgspecError as error:
        raise InvalidValue(f"examples: the file cannot be read: {error}", field="examples") from None
