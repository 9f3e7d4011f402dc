"""Rules of operators that give a tensor another shape: Reshape and its relatives. Pure."""

from __future__ import annotations

from gateway.runtime.proof.elementwise import broadcast
from gateway.runtime.proof.forms import Dims, NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.sizes import ONE, Element, Size, product, quotient, symbol
from gateway.runtime.proof.step import OperatorStep, Rule, as_dims, axis_of

FIXED_ROWS = "fixes the number of rows"


def reshaped(rows: Rows, dims: Dims) -> Rows:
    """
    Returns the rows in a tensor of another shape with the same elements in the same order.

    Before, row r owns a stretch of elements within each index of the axes before the rows' axis. It does so afterwards if
    just as many indices lie before the axis that grows with the rows, and the rest of a row fills whole indices of it.
    """
    growing = [axis for axis, dim in enumerate(dims) if dim.has_rows]
    if not growing:
        raise NotProved(FIXED_ROWS)
    axis = growing[0]
    if product(dims[:axis]) != product(rows.dims[: rows.axis]):
        raise NotProved("mixes rows: it cuts them in another order")
    return Rows(dims, axis)


def reshape(step: OperatorStep) -> tuple[Tensor, ...]:
    """Reshape: 0 keeps a dimension, -1 takes what is left."""
    rows = step.rows()
    target = list(step.attribute("shape")) if step.node.version < 5 else None
    sizes: list[Element] = [Size(one) for one in target] if target is not None else step.sizes(1) or []
    if not step.attribute("allowzero", 0):
        sizes = [rows.dims[at] if size == Size(0) and at < rows.rank else size for at, size in enumerate(sizes)]
    return (reshaped(rows, _inferred(rows, sizes, step.node.outputs[0])),)


def _inferred(rows: Rows, sizes: list[Element], name: str) -> Dims:
    """Returns the dimensions of a target shape whose -1 takes what is left of the elements of ``rows``."""
    left, target = Size(-1), as_dims(sizes)
    if left not in target:
        return target
    given = [size for size in target if size != left]
    whole = product(rows.dims)
    inferred = quotient(whole, product(given))
    if inferred is None:
        if not any(size.has_rows for size in given):
            raise NotProved("mixes rows: a row may not fill whole rows of the new shape")
        inferred = symbol(f"{name}:-1")
    return tuple(inferred if size == left else size for size in target)


def flatten(step: OperatorStep) -> tuple[Tensor, ...]:
    """Flatten: the axes before ``axis`` become one, the others another."""
    rows = step.rows()
    axis = axis_of(step.attribute("axis", 1), rows.rank)
    return (reshaped(rows, (product(rows.dims[:axis]), product(rows.dims[axis:]))),)


def squeeze(step: OperatorStep) -> tuple[Tensor, ...]:
    """Squeeze: ``axes`` go. Without them every axis of length 1 would, the rows' too when there is one row."""
    rows = step.rows()
    axes = step.axes("axes", 1, 13)
    if axes is None:
        raise NotProved("drops every axis of length 1: with one row, that of the rows too")
    gone = {axis_of(axis, rows.rank) for axis in axes}
    if rows.axis in gone:
        raise NotProved(FIXED_ROWS)
    dims = tuple(dim for axis, dim in enumerate(rows.dims) if axis not in gone)
    return (Rows(dims, rows.axis - sum(axis < rows.axis for axis in gone)),)


def unsqueeze(step: OperatorStep) -> tuple[Tensor, ...]:
    """Unsqueeze: new axes of length 1."""
    rows = step.rows()
    order = unsqueezed(step, rows.rank)
    return (Rows(tuple(ONE if axis < 0 else rows.dims[axis] for axis in order), order.index(rows.axis)),)


def unsqueezed(step: OperatorStep, rank: int) -> list[int]:
    """Returns for each axis after Unsqueeze the one that it was before, -1 for new ones."""
    axes = step.axes("axes", 1, 13) or []
    new = {axis_of(axis, rank + len(axes)) for axis in axes}
    old = iter(range(rank))
    return [-1 if axis in new else next(old) for axis in range(rank + len(axes))]


def transpose(step: OperatorStep) -> tuple[Tensor, ...]:
    """Transpose: the axes in another order, by default reversed."""
    rows = step.rows()
    order = list(step.attribute("perm", range(rows.rank)[::-1]))
    return (Rows(tuple(rows.dims[axis] for axis in order), order.index(rows.axis)),)


def expand(step: OperatorStep) -> tuple[Tensor, ...]:
    """Expand: broadcast to a shape. A tensor without rows that is repeated for every row carries rows afterwards."""
    source, shape = step.given(0), step.lengths(1)
    if isinstance(source, Rows):
        place = source.from_right
        if len(shape) >= -place and shape[place] not in (ONE, source.dims[place]):
            raise NotProved(FIXED_ROWS)
        ones = [ONE if at - len(shape) == place else size for at, size in enumerate(shape)]
        return (broadcast([source, Plain(tuple(ones))], step.node.outputs[0]),)
    rows = filled(shape)
    return (broadcast([rows, source], step.node.outputs[0]),)


def filled(shape: Dims) -> Rows:
    """Returns a tensor that holds the same for every row, of a shape of which one dimension grows with the rows."""
    growing = [axis for axis, dim in enumerate(shape) if dim.has_rows]
    if len(growing) != 1:
        raise NotProved("makes a tensor that does not grow with the number of rows, or with its square")
    return Rows(shape, growing[0])


def constant_of_shape(step: OperatorStep) -> tuple[Tensor, ...]:
    """ConstantOfShape: one value, as often as the shape says."""
    return (filled(step.lengths(0)),)


def tile(step: OperatorStep) -> tuple[Tensor, ...]:
    """Tile: repeats along each axis; along the rows' axis once. A tensor without rows may be repeated for every row."""
    source, counts = step.given(0), step.lengths(1)
    dims = tuple(product((dim, count)) for dim, count in zip(source.dims, counts, strict=True))
    if isinstance(source, Rows):
        if counts[source.axis] != ONE:
            raise NotProved("mixes rows: it repeats them all")
        return (Rows(dims, source.axis),)
    rows = filled(dims)
    if source.dims[rows.axis] != ONE:
        raise NotProved("gives rows different parts of a tensor")
    return (rows,)


def space(step: OperatorStep) -> tuple[Tensor, ...]:
    """DepthToSpace and SpaceToDepth: within a sample."""
    rows = step.rows()
    if rows.axis:
        raise NotProved("mixes rows: it works along the axis that carries them")
    return (step.result(0, rows.block),)


RULES: dict[tuple[str, str], Rule] = {
    ("", "Reshape"): reshape,
    ("", "Flatten"): flatten,
    ("", "Squeeze"): squeeze,
    ("", "Unsqueeze"): unsqueeze,
    ("", "Transpose"): transpose,
    ("", "Expand"): expand,
    ("", "ConstantOfShape"): constant_of_shape,
    ("", "Tile"): tile,
    ("", "DepthToSpace"): space,
    ("", "SpaceToDepth"): space,
}
SHAPE_INPUTS = {"Reshape": (1,), "Expand": (1,), "ConstantOfShape": (0,), "Tile": (1,)}
