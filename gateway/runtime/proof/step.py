"""One step of the proof: an operator with what is known of its inputs, and the forms that results take. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.runtime.proof.forms import Dims, NotProved, Plain, Rows, Tensor, fixed_dims, with_rows
from gateway.runtime.proof.graph import Node
from gateway.runtime.proof.sizes import ROWS_SYMBOL, Element, Size, symbol


@dataclass(frozen=True, slots=True)
class OperatorStep:
    """
    A node, its inputs (None where one is left out), and the shapes of its outputs in a run with some number of rows;
    ``seen`` lacks those that were not observed (in subgraphs).
    """

    node: Node
    inputs: tuple[Tensor | None, ...]
    seen: Mapping[str, tuple[int, ...]]

    # ---- attributes and inputs --------------------------------------------------------------------------------------

    def attribute(self, name: str, default: Any = None) -> Any:
        """Returns an attribute, or the default if the node does not set it."""
        return self.node.attributes.get(name, default)

    def input(self, index: int) -> Tensor | None:
        """Returns an input; None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def given(self, index: int) -> Tensor:
        """Returns an input that must not be left out. Raises NotProved."""
        tensor = self.input(index)
        if tensor is None:
            raise NotProved("lacks an input")
        return tensor

    def rows(self, index: int = 0) -> Rows:
        """Returns an input that has to carry rows. Raises NotProved."""
        tensor = self.input(index)
        if not isinstance(tensor, Rows):
            raise NotProved("mixes rows: it takes them where something for all of them belongs")
        return tensor

    def plain(self, index: int) -> Plain | None:
        """Returns an input that must not carry rows; None if it is left out. Raises NotProved."""
        tensor = self.input(index)
        if isinstance(tensor, Rows):
            raise NotProved(f"mixes rows: it takes them as input {index}, which is for all of them")
        return tensor

    def only_first_has_rows(self) -> Rows:
        """Returns the first input, which alone carries rows. Raises NotProved if others do."""
        for index in range(1, len(self.inputs)):
            self.plain(index)
        return self.rows(0)

    def sizes(self, index: int) -> list[Element] | None:
        """Returns the whole numbers in an input, in order; None if it is left out. Raises NotProved."""
        tensor = self.plain(index)
        return None if tensor is None else tensor.sizes()

    def lengths(self, index: int) -> Dims:
        """Returns the whole numbers in an input, each known as a size. Raises NotProved."""
        return as_dims(self.sizes(index) or [])

    def numbers(self, index: int) -> list[int] | None:
        """Returns the constants in an input; None if it is left out. Raises NotProved."""
        sizes = self.sizes(index)
        if sizes is None:
            return None
        if not all(size is not None and size.is_constant for size in sizes):
            raise NotProved("takes axes or sizes that are not constants")
        return [size.factor for size in sizes if size is not None]

    def axes(self, name: str, index: int, since: int) -> list[int] | None:
        """Returns axes that were an attribute before operator set ``since`` and are an input from then on; None: not given."""
        if self.node.version < since:
            found = self.attribute(name)
            return None if found is None else list(found)
        return self.numbers(index)

    @property
    def is_fixed(self) -> bool:
        """Whether every size in the inputs is a constant, but for the number of rows."""
        return all(_is_fixed(tensor) for tensor in self.inputs if tensor is not None)

    # ---- results ----------------------------------------------------------------------------------------------------

    def shape(self, output: int = 0) -> tuple[int, ...]:
        """Returns the observed shape of an output. Raises NotProved if it was not observed."""
        shape = self.seen.get(self.node.outputs[output])
        if shape is None:
            raise NotProved("gives a tensor whose shape is not known beforehand")
        return shape

    def dims(self, output: int = 0) -> Dims:
        """Returns dimensions that do not grow with the rows: constants where every input's are, else symbols."""
        shape = self.shape(output)
        if self.is_fixed:
            return fixed_dims(shape)
        return tuple(symbol(f"{self.node.outputs[output]}:{axis}") for axis in range(len(shape)))

    def result(self, axis: int, block: Size, output: int = 0) -> Rows:
        """Returns an output that carries rows on ``axis``, its other dimensions as observed."""
        dims = list(self.dims(output))
        if not 0 <= axis < len(dims):
            raise NotProved("gives a tensor without an axis for the rows")
        dims[axis] = with_rows(block)
        return Rows(tuple(dims), axis)

    def results(self, axis: int, block: Size) -> tuple[Tensor, ...]:
        """Returns every output with rows on the same axis."""
        return tuple(self.result(axis, block, index) if name else Plain(()) for index, name in enumerate(self.node.outputs))


Rule = Callable[[OperatorStep], Sequence[Tensor]]


def _is_fixed(tensor: Tensor) -> bool:
    if isinstance(tensor, Rows):
        return all(dim.is_constant for axis, dim in enumerate(tensor.dims) if axis != tensor.axis) and tensor.block.is_constant
    if tensor.is_constant:
        return True
    return tensor.elements is not None and all(
        one is not None and not set(one.symbols) - {ROWS_SYMBOL} for one in tensor.elements.flat
    )


def as_dims(sizes: Sequence[Element]) -> Dims:
    """Returns the sizes as dimensions. Raises NotProved if one depends on the number of rows in an unknown way."""
    known = tuple(size for size in sizes if size is not None)
    if len(known) < len(sizes):
        raise NotProved("takes a shape that depends on the number of rows in an unknown way")
    return known


def axis_of(axis: int, rank: int) -> int:
    """Returns an axis counted from the front."""
    return axis + rank if axis < 0 else axis


def refuse_axis(rows: Rows, axes: Sequence[int], what: str) -> None:
    """Raises NotProved if one of the axes (from the front or the back) carries the rows."""
    if rows.axis in {axis_of(axis, rows.rank) for axis in axes}:
        raise NotProved(what)


def before(rows: Rows, axis: int, what: str) -> None:
    """Raises NotProved unless the rows' axis lies before ``axis``."""
    if rows.axis >= axis_of(axis, rows.rank):
        raise NotProved(what)
