"""Rules of operators that pick, join, cut, pad and resize. Pure."""

from __future__ import annotations

from gateway.runtime.proof.axes import OVER_ROWS
from gateway.runtime.proof.forms import NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.sizes import ONE, Element, Size, symbol
from gateway.runtime.proof.step import OperatorStep, Rule, axis_of, refuse_axis

PICKS = "mixes rows: it picks among them"
_ENDLESS = 10**9  # as the end of a slice: to the end, since no batch has so many rows


def gather(step: OperatorStep) -> tuple[Tensor, ...]:
    """Gather: from rows at fixed places of another axis, or from a table at the places that rows say."""
    data, indices = step.given(0), step.given(1)
    axis = axis_of(step.attribute("axis", 0), data.rank)
    dims = (*data.dims[:axis], *indices.dims, *data.dims[axis + 1 :])
    if isinstance(data, Plain):
        return (Rows(dims, axis + step.rows(1).axis),)
    if isinstance(indices, Rows) or data.axis == axis:
        raise NotProved(PICKS)
    return (Rows(dims, data.axis + (indices.rank - 1 if data.axis > axis else 0)),)


def gather_elements(step: OperatorStep) -> tuple[Tensor, ...]:
    """GatherElements: along ``axis``, at the same place of all others."""
    data, indices = step.input(0), step.rows(1)
    axis = axis_of(step.attribute("axis", 0), indices.rank)
    if isinstance(data, Rows):
        if data.axis == axis:
            raise NotProved(PICKS)
        _same_rows(data, indices)
    elif axis != indices.axis:
        raise NotProved("gives rows different parts of a tensor")
    return (indices,)


def scatter_elements(step: OperatorStep) -> tuple[Tensor, ...]:
    """ScatterElements: along ``axis``, at the same place of all others."""
    data, indices, updates = step.rows(0), step.rows(1), step.rows(2)
    refuse_axis(data, [step.attribute("axis", 0)], OVER_ROWS)
    _same_rows(data, indices)
    _same_rows(data, updates)
    return (data,)


def gather_nd(step: OperatorStep) -> tuple[Tensor, ...]:
    """GatherND: from a table at the places that rows say, or from rows at their own places (``batch_dims``)."""
    data, indices = step.input(0), step.rows(1)
    if isinstance(data, Rows):
        if not step.attribute("batch_dims", 0) > data.axis or data.axis != indices.axis:
            raise NotProved(PICKS)
        _same_rows(data, indices)
    elif step.attribute("batch_dims", 0) or indices.axis == indices.rank - 1:
        raise NotProved("gives rows different parts of a tensor")
    return (step.result(indices.axis, indices.block),)


def _same_rows(left: Rows, right: Rows) -> None:
    if (left.axis, left.block) != (right.axis, right.block):
        raise NotProved("mixes rows: its inputs carry them on different axes")


def concat(step: OperatorStep) -> tuple[Tensor, ...]:
    """Concat: along another axis than the rows'."""
    carriers = [tensor for tensor in step.inputs if isinstance(tensor, Rows)]
    if len(carriers) < len(step.inputs):
        raise NotProved("joins rows and a tensor with a fixed number of them")
    for tensor in carriers:
        _same_rows(carriers[0], tensor)
    axis = axis_of(step.attribute("axis", 1), carriers[0].rank)
    refuse_axis(carriers[0], [axis], OVER_ROWS)
    dims = list(carriers[0].dims)
    lengths = [tensor.dims[axis] for tensor in carriers]
    is_known = all(length.is_constant for length in lengths)
    dims[axis] = Size(sum(one.factor for one in lengths)) if is_known else symbol(f"{step.node.outputs[0]}:{axis}")
    return (Rows(tuple(dims), carriers[0].axis),)


def split(step: OperatorStep) -> tuple[Tensor, ...]:
    """Split: along another axis than the rows'."""
    rows = step.only_first_has_rows()
    axis = axis_of(step.attribute("axis", 0), rows.rank)
    refuse_axis(rows, [axis], OVER_ROWS)
    return tuple(_with_length(rows, step, axis, index) for index in range(len(step.node.outputs)))


def _with_length(rows: Rows, step: OperatorStep, axis: int, output: int = 0) -> Rows:
    """Returns the rows with one other axis of the length that was observed."""
    if not step.node.outputs[output]:
        return rows
    dims = list(rows.dims)
    dims[axis] = step.dims(output)[axis]
    return Rows(tuple(dims), rows.axis)


def slice_(step: OperatorStep) -> tuple[Tensor, ...]:
    """Slice: cuts other axes than the rows', or the rows' from the first to the last."""
    rows = step.only_first_has_rows()
    if step.node.version < 10:
        axes = list(step.attribute("axes", range(len(step.attribute("starts")))))
        starts: list[Element] = [Size(one) for one in step.attribute("starts")]
        ends: list[Element] = [Size(one) for one in step.attribute("ends")]
        steps: list[Element] = [ONE] * len(starts)
    else:
        starts_given = step.plain(1)
        length = int(starts_given.dims[0].factor) if starts_given is not None and starts_given.rank else 1
        axes = step.numbers(3) if step.input(3) is not None else list(range(length))  # type: ignore[assignment]
        starts, ends = _cuts(step, 1, axes), _cuts(step, 2, axes)
        steps = _cuts(step, 4, axes) if step.input(4) is not None else [ONE] * len(axes)
    dims = list(rows.dims)
    for at, axis in enumerate(axis_of(axis, rows.rank) for axis in axes):
        if axis != rows.axis:
            _no_rows((starts[at], ends[at], steps[at]))
            dims[axis] = step.dims()[axis]
        elif starts[at] != Size(0) or steps[at] != ONE or not _is_whole(ends[at], rows.dims[axis]):
            raise NotProved(PICKS)
    return (Rows(tuple(dims), rows.axis),)


_OTHER = symbol("a number that is not known beforehand")


def _cuts(step: OperatorStep, index: int, axes: list[int]) -> list[Element]:
    """Returns the numbers in an input, one per axis; `_OTHER` where they are not known, but the same for all rows."""
    tensor = step.plain(index)
    if tensor is None or tensor.elements is None:
        return [_OTHER] * len(axes)
    return list(tensor.elements.flat)


def _no_rows(sizes: tuple[Element, ...]) -> None:
    if any(size is None or size.has_rows for size in sizes):
        raise NotProved("cuts at a place that depends on the number of rows")


def _is_whole(end: Element, length: Size) -> bool:
    return end == length or (end is not None and end.is_constant and end.factor >= _ENDLESS)


def pad(step: OperatorStep) -> tuple[Tensor, ...]:
    """Pad: other axes than the rows'."""
    rows = step.only_first_has_rows()
    if step.node.version < 11:
        pads: list[Element] = [Size(one) for one in step.attribute("pads") or step.attribute("paddings")]
    else:
        pads = step.sizes(1) or []
    axes = step.numbers(3) if step.input(3) is not None else None
    where = list(range(rows.rank)) if axes is None else [axis_of(axis, rows.rank) for axis in axes]
    _no_rows(tuple(pads))
    dims = list(rows.dims)
    for at, axis in enumerate(where):
        if (pads[at], pads[at + len(where)]) == (Size(0), Size(0)):
            continue
        if axis == rows.axis:
            raise NotProved("adds rows")
        dims[axis] = step.dims()[axis]
    return (Rows(tuple(dims), rows.axis),)


def resize(step: OperatorStep) -> tuple[Tensor, ...]:
    """Resize and Upsample: other axes than the rows', which keeps its length."""
    rows = step.only_first_has_rows()
    axes = [axis_of(axis, rows.rank) for axis in step.attribute("axes", range(rows.rank))]
    if rows.axis in axes:
        _keeps(step, rows, axes.index(rows.axis))
    dims = step.dims()
    return (Rows(tuple(rows.dims[at] if at == rows.axis else dim for at, dim in enumerate(dims)), rows.axis),)


def _keeps(step: OperatorStep, rows: Rows, at: int) -> None:
    """Raises NotProved unless the scale of the rows' axis is 1, or its new length the old one."""
    is_upsample = step.node.operator == "Upsample"
    if is_upsample and step.node.version < 9:
        scale = step.attribute("scales")[at]
    else:
        scales = step.plain(1 if is_upsample or step.node.version < 11 else 2)
        sizes = None if is_upsample else step.plain(3)
        if sizes is not None and sizes.elements is not None and sizes.elements.size:
            others = [one for axis, one in enumerate(sizes.elements.flat) if axis != at]
            _no_rows(tuple(others))
            if sizes.elements.flat[at] == rows.dims[rows.axis]:
                return
            raise NotProved("changes the number of rows")
        if scales is None or (scales.value is None and scales.elements is None):
            raise NotProved("takes a scale that is not known beforehand")
        scale = scales.value.flat[at] if scales.value is not None else scales.elements.flat[at]  # type: ignore[union-attr]
    if scale not in (1, ONE):
        raise NotProved("changes the number of rows")


def one_hot(step: OperatorStep) -> tuple[Tensor, ...]:
    """OneHot: a new axis as long as the depth."""
    rows = step.only_first_has_rows()
    axis = axis_of(step.attribute("axis", -1), rows.rank + 1)
    return (step.result(rows.axis + (axis <= rows.axis), rows.block),)


def on_matrices(step: OperatorStep) -> tuple[Tensor, ...]:
    """Trilu, Det, Inverse: on the last two axes."""
    rows = step.only_first_has_rows()
    refuse_axis(rows, [-1, -2], OVER_ROWS)
    return (rows,) if step.node.operator != "Det" else (Rows(rows.dims[:-2], rows.axis),)


def compress(step: OperatorStep) -> tuple[Tensor, ...]:
    """Compress: at fixed places of another axis than the rows'."""
    rows = step.only_first_has_rows()
    axis = step.attribute("axis")
    if axis is None:
        raise NotProved(PICKS)
    refuse_axis(rows, [axis], PICKS)
    return (_with_length(rows, step, axis_of(axis, rows.rank)),)


def reverse_sequence(step: OperatorStep) -> tuple[Tensor, ...]:
    """ReverseSequence: along ``time_axis``, as far as each index of ``batch_axis`` says."""
    rows, lengths = step.rows(), step.input(1)
    refuse_axis(rows, [step.attribute("time_axis", 0)], OVER_ROWS)
    if step.attribute("batch_axis", 1) != rows.axis or not isinstance(lengths, Rows) or lengths.block != rows.block:
        raise NotProved("has a length for each index of another axis than the rows'")
    return (rows,)


RULES: dict[tuple[str, str], Rule] = {
    ("", "Gather"): gather,
    ("", "GatherElements"): gather_elements,
    ("", "GatherND"): gather_nd,
    ("", "ScatterElements"): scatter_elements,
    ("", "Concat"): concat,
    ("", "Split"): split,
    ("", "Slice"): slice_,
    ("", "Pad"): pad,
    ("", "Resize"): resize,
    ("", "Upsample"): resize,
    ("", "OneHot"): one_hot,
    ("", "Trilu"): on_matrices,
    ("", "Det"): on_matrices,
    ("com.microsoft", "Inverse"): on_matrices,
    ("", "Compress"): compress,
    ("", "ReverseSequence"): reverse_sequence,
}
SHAPE_INPUTS = {"Slice": (1, 2), "Pad": (1,), "Resize": (2, 3), "Upsample": (1,)}
