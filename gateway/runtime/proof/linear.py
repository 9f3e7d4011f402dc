"""Rules of matrix products, convolutions and pooling. Pure."""

from __future__ import annotations

from gateway.runtime.proof.axes import OVER_ROWS, per_sample
from gateway.runtime.proof.elementwise import aligned
from gateway.runtime.proof.forms import Dims, NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.sizes import ONE, symbol
from gateway.runtime.proof.step import OperatorStep, Rule, refuse_axis


def product_of(left: Tensor, right: Tensor, name: str) -> Rows:
    """Returns the matrix product, as numpy's matmul. Raises NotProved if it sums over rows or pairs them up."""
    if isinstance(left, Rows) and isinstance(right, Rows):
        if left.from_right != right.from_right or left.from_right > -3 or left.block != right.block:
            raise NotProved("mixes rows: it multiplies them with each other")
        place, block = left.from_right, left
    elif isinstance(left, Rows):
        refuse_axis(left, [-1], OVER_ROWS)
        place, block = left.from_right, left
        _repeated(right, place if place < -2 else None)
    elif isinstance(right, Rows):
        if right.rank == 1 or right.from_right == -2:
            raise NotProved(OVER_ROWS)
        place, block = right.from_right, right
        _repeated(left, place if place < -2 else None)
    else:
        raise NotProved("has no rows")
    dims = _matmul_dims(left, right, name)
    axis = _axis_after(len(dims), place, left, right)
    dims = tuple(block.dims[block.axis] if at == axis else dim for at, dim in enumerate(dims))
    return Rows(dims, axis)


def _axis_after(rank: int, place: int, left: Tensor, right: Tensor) -> int:
    """Returns where the rows are: a factor of rank 1 has an axis that the product lacks."""
    if right.rank == 1:
        place += 1
    if left.rank == 1 and place < -1:
        place += 1
    return rank + place


def _repeated(factor: Plain | Tensor, place: int | None) -> None:
    """Raises NotProved if a factor without rows differs along the axis that carries the other one's."""
    if place is not None and factor.rank >= -place and factor.dims[place] != ONE:
        raise NotProved("combines rows with a tensor that has a fixed number of them")


def _matmul_dims(left: Tensor, right: Tensor, name: str) -> Dims:
    batch = max(left.rank, right.rank, 2) - 2
    dims = []
    for at in range(-batch - 2, -2):
        found = {one.dims[at] for one in (left, right) if one.rank >= -at} - {ONE}
        dims.append(found.pop() if len(found) == 1 else ONE if not found else symbol(f"{name}:{at}"))
    if left.rank > 1:
        dims.append(left.dims[-2])
    if right.rank > 1:
        dims.append(right.dims[-1])
    return tuple(dims)


def matmul(step: OperatorStep) -> tuple[Tensor, ...]:
    """MatMul; the rest of the inputs must have no rows (MatMulInteger's zero points)."""
    left, right = step.given(0), step.given(1)
    for index in range(2, len(step.inputs)):
        _whole(step.plain(index), right)
    return (product_of(left, right, step.node.outputs[0]),)


def qlinear_matmul(step: OperatorStep) -> tuple[Tensor, ...]:
    """QLinearMatMul: a, scale, zero point, b, scale, zero point, and those of the result."""
    left, right = step.given(0), step.given(3)
    for index in (1, 2, 6, 7):
        _whole(step.plain(index), None)
    for index in (4, 5):
        step.plain(index)
    return (product_of(left, right, step.node.outputs[0]),)


def _whole(tensor: Plain | None, columns: Tensor | None) -> None:
    """Raises NotProved if a scale or zero point may differ from row to row; one per column of weights may not."""
    if tensor is None or all(dim == ONE for dim in tensor.dims):
        return
    if isinstance(columns, Plain) and tensor.rank == 1 and tensor.dims[0] == columns.dims[-1]:
        return
    raise NotProved("has scales that may differ from row to row")


def gemm(step: OperatorStep) -> tuple[Tensor, ...]:
    """Gemm: A' × B' + C, with rows in A or in B."""
    left, right = step.given(0), step.given(1)
    left = _turned(left) if step.attribute("transA", 0) else left
    right = _turned(right) if step.attribute("transB", 0) else right
    rows = product_of(left, right, step.node.outputs[0])
    bias = step.input(2)
    if isinstance(bias, Rows):
        if (bias.from_right, bias.block) != (rows.from_right, rows.block):
            raise NotProved("mixes rows: its inputs carry them on different axes")
    else:
        aligned(bias, rows)
    return (rows,)


def _turned(tensor: Tensor) -> Tensor:
    if isinstance(tensor, Rows):
        return Rows(tensor.dims[::-1], tensor.rank - 1 - tensor.axis)
    return Plain(tensor.dims[::-1], is_constant=tensor.is_constant)


def pool(step: OperatorStep) -> tuple[Tensor, ...]:
    """Pooling: each index of the first two axes alone. MaxPool's second output counts over the whole batch."""
    rows = step.only_first_has_rows()
    if sum(bool(name) for name in step.node.outputs) > 1 and step.node.operator == "MaxPool":
        raise NotProved("gives places within the whole batch")
    refuse_axis(rows, range(2, rows.rank), OVER_ROWS)
    return step.results(rows.axis, rows.block)


def einsum(step: OperatorStep) -> tuple[Tensor, ...]:
    """Einsum: the rows have one letter in every input that carries them, in none of the others, and in the output."""
    equation = str(step.attribute("equation")).replace(" ", "")
    if "." in equation:
        raise NotProved("has an equation with an ellipsis")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    if "->" not in equation:
        letters = "".join(terms)
        right = "".join(sorted(one for one in set(letters) if letters.count(one) == 1))
    tensors = [tensor for tensor in step.inputs if tensor is not None]
    pairs = list(zip(terms, tensors, strict=True))
    own = {term[tensor.axis] for term, tensor in pairs if isinstance(tensor, Rows)}
    blocks = [tensor.block for tensor in tensors if isinstance(tensor, Rows)]
    if len(own) != 1 or len(set(blocks)) != 1:
        raise NotProved("mixes rows: its inputs carry them on different axes")
    letter = own.pop()
    if any(term.count(letter) != isinstance(tensor, Rows) for term, tensor in pairs):
        raise NotProved("mixes rows: it pairs them up")
    if right.count(letter) != 1:
        raise NotProved(OVER_ROWS)
    return (step.result(right.index(letter), blocks[0]),)


def grid_sample(step: OperatorStep) -> tuple[Tensor, ...]:
    """GridSample and AffineGrid: each index of the first axis alone, with a grid of its own."""
    rows, grid = step.rows(0), step.rows(1)
    if rows.axis or grid.axis or rows.block != grid.block:
        raise NotProved("mixes rows: its inputs carry them on different axes")
    return (step.result(0, rows.block),)


def spectrum(step: OperatorStep) -> tuple[Tensor, ...]:
    """DFT and STFT: along other axes than the rows', which is the first."""
    rows = step.only_first_has_rows()
    if rows.axis:
        raise NotProved(OVER_ROWS)
    if step.node.operator == "DFT":
        axes = step.numbers(2) if step.node.version >= 20 and step.input(2) is not None else None
        refuse_axis(rows, axes or [step.attribute("axis", -2 if step.node.version >= 20 else 1)], OVER_ROWS)
    return (step.result(0, rows.block),)


RULES: dict[tuple[str, str], Rule] = {
    ("", "MatMul"): matmul,
    ("", "MatMulInteger"): matmul,
    ("", "QLinearMatMul"): qlinear_matmul,
    ("", "Gemm"): gemm,
    ("", "Einsum"): einsum,
    **{("", name): per_sample for name in ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv")},
    **{("", name): pool for name in ("AveragePool", "MaxPool", "LpPool")},
    ("", "GridSample"): grid_sample,
    ("", "DFT"): spectrum,
    ("", "STFT"): spectrum,
}
