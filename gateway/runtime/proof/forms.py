"""What is known of a tensor during the proof: it carries the rows on one axis, or it has nothing to do with them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.runtime.proof.sizes import ROWS, ROWS_SYMBOL, Element, Size

Dims = tuple[Size, ...]
MAX_ELEMENTS = 4096  # of a tensor whose elements are followed one by one


class NotProved(Exception):
    """The rows could not be followed through an operator. The text says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Rows:
    """
    A tensor that carries rows: row ``r`` owns the indices ``[r × block, (r + 1) × block)`` of ``axis``, and what it holds
    there depends on row ``r`` of the inputs only. ``dims[axis]`` is ``block × ROWS``, and no other dimension grows with the
    rows: else a row would hold as much as depends on their number. Raises NotProved.
    """

    dims: Dims
    axis: int

    def __post_init__(self) -> None:
        if any(dim.has_rows for axis, dim in enumerate(self.dims) if axis != self.axis):
            raise NotProved("makes a tensor that grows with the square of the number of rows")

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.dims)

    @property
    def block(self) -> Size:
        """The indices of ``axis`` that a row owns."""
        return without_rows(self.dims[self.axis])

    @property
    def from_right(self) -> int:
        """The axis, counted from the last one as -1: broadcasting aligns there."""
        return self.axis - self.rank


@dataclass(frozen=True, slots=True)
class Plain:
    """
    A tensor that no row of the inputs reaches. ``elements`` are known of small tensors of whole numbers: an array of
    `Size`, with None where the number depends on the number of rows in an unknown way. ``value`` is what a constant holds,
    if it is small. ``is_constant``: it depends on no input, not even on a length.
    """

    dims: Dims
    elements: NDArray[Any] | None = None
    value: NDArray[Any] | None = None
    is_constant: bool = False

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.dims)

    @property
    def depends_on_rows(self) -> bool:
        """Whether an element depends on the number of rows."""
        return self.elements is not None and any(one is None or one.has_rows for one in self.elements.flat)

    def sizes(self) -> list[Element]:
        """Returns the elements in order. Raises NotProved if they are not known."""
        if self.elements is None:
            raise NotProved("takes a shape that is not known beforehand")
        return list(self.elements.flat)


Tensor = Rows | Plain


def constant(value: NDArray[Any]) -> Plain:
    """Returns a tensor that always holds ``value``."""
    dims = fixed_dims(value.shape)
    if value.size > MAX_ELEMENTS or value.dtype.kind not in "iubf":
        return Plain(dims, is_constant=True)
    elements = None
    if value.dtype.kind in "iub":
        elements = np.empty(value.shape, object)
        for index, one in np.ndenumerate(value):
            elements[index] = Size(int(one))
    return Plain(dims, elements, value, is_constant=True)


def fixed_dims(shape: tuple[int, ...]) -> Dims:
    """Returns dimensions that are always these numbers."""
    return tuple(Size(dim) for dim in shape)


def without_rows(size: Size) -> Size:
    """Returns the part of a size that does not grow with the number of rows. Raises NotProved if the rest is not linear."""
    left = list(size.symbols)
    left.remove(ROWS_SYMBOL)
    if ROWS_SYMBOL in left:
        raise NotProved("makes a tensor that grows with the square of the number of rows")
    return Size(size.factor, tuple(left))


def with_rows(block: Size) -> Size:
    """Returns ``block × ROWS``."""
    return Size(block.factor, tuple(sorted((*block.symbols, *ROWS.symbols))))
