"""
Sizes: whole numbers of which it is known how they grow with the number of rows. Pure.

A size is ``factor × symbol × symbol …``. The symbol `ROWS` is the number of rows; every other symbol is a size that does
not depend on it, such as the length of a sequence. `UNKNOWN` stands for a number that depends on the rows in another way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

ROWS_SYMBOL = "the number of rows"


@dataclass(frozen=True, slots=True)
class Size:
    """A product. ``symbols`` is sorted; a symbol may occur more than once. Without symbols it is a constant."""

    factor: int
    symbols: tuple[str, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether it is a known number."""
        return not self.symbols

    @property
    def has_rows(self) -> bool:
        """Whether it grows with the number of rows."""
        return ROWS_SYMBOL in self.symbols

    def __str__(self) -> str:
        return " × ".join([*([] if self.factor == 1 and self.symbols else [str(self.factor)]), *self.symbols])


UNKNOWN = None
Element = Size | None
ONE = Size(1)
ROWS = Size(1, (ROWS_SYMBOL,))


def symbol(name: str) -> Size:
    """Returns a size of its own that does not depend on the number of rows."""
    return Size(1, (name,))


def product(sizes: Iterable[Size]) -> Size:
    """Returns the product of the sizes; 1 if there are none."""
    return reduce(lambda left, right: Size(left.factor * right.factor, tuple(sorted(left.symbols + right.symbols))), sizes, ONE)


def quotient(whole: Size, part: Size) -> Size | None:
    """Returns ``whole / part`` if it is known to be whole, else None."""
    if not part.factor or whole.factor % part.factor:
        return None
    left = list(whole.symbols)
    for one in part.symbols:
        if one not in left:
            return None
        left.remove(one)
    return Size(whole.factor // part.factor, tuple(left))
