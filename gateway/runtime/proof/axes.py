"""Rules of operators that work along some axes: reductions, normalisations, sorting. The rows' axis must not be one. Pure."""

from __future__ import annotations

from gateway.runtime.proof.elementwise import aligned
from gateway.runtime.proof.forms import Dims, NotProved, Rows, Tensor
from gateway.runtime.proof.sizes import ONE, symbol
from gateway.runtime.proof.step import OperatorStep, Rule, axis_of, before, refuse_axis

OVER_ROWS = "mixes rows: it works along the axis that carries them"


def reduce(step: OperatorStep) -> tuple[Tensor, ...]:
    """Reduce…: ``axes``, without any of them all."""
    rows = step.only_first_has_rows()
    axes = step.axes("axes", 1, 13 if step.node.operator == "ReduceSum" else 18)
    if not axes:
        if step.attribute("noop_with_empty_axes", 0):
            return (rows,)
        raise NotProved("mixes rows: it reduces all axes")
    refuse_axis(rows, axes, OVER_ROWS)
    return (_without(rows, [axis_of(axis, rows.rank) for axis in axes], keeps=bool(step.attribute("keepdims", 1))),)


def arg(step: OperatorStep) -> tuple[Tensor, ...]:
    """ArgMax and ArgMin."""
    rows = step.rows()
    axis = axis_of(step.attribute("axis", 0), rows.rank)
    refuse_axis(rows, [axis], OVER_ROWS)
    return (_without(rows, [axis], keeps=bool(step.attribute("keepdims", 1))),)


def _without(rows: Rows, axes: list[int], *, keeps: bool) -> Rows:
    if keeps:
        return Rows(tuple(ONE if axis in axes else dim for axis, dim in enumerate(rows.dims)), rows.axis)
    dims = tuple(dim for axis, dim in enumerate(rows.dims) if axis not in axes)
    return Rows(dims, rows.axis - sum(axis < rows.axis for axis in axes))


def softmax(step: OperatorStep) -> tuple[Tensor, ...]:
    """Softmax, LogSoftmax, Hardmax: along ``axis``; before operator set 13 along it and all that follow."""
    rows = step.rows()
    if step.node.version < 13:
        before(rows, step.attribute("axis", 1), OVER_ROWS)
    else:
        refuse_axis(rows, [step.attribute("axis", -1)], OVER_ROWS)
    return (rows,)


def along_axis(step: OperatorStep) -> tuple[Tensor, ...]:
    """LpNormalization: along ``axis``."""
    rows = step.rows()
    refuse_axis(rows, [step.attribute("axis", -1)], OVER_ROWS)
    return (rows,)


def cumulative(step: OperatorStep) -> tuple[Tensor, ...]:
    """CumSum and CumProd: along the axis in the second input."""
    rows = step.only_first_has_rows()
    refuse_axis(rows, step.numbers(1) or [0], OVER_ROWS)
    return (rows,)


def top_k(step: OperatorStep) -> tuple[Tensor, ...]:
    """TopK: the largest along ``axis``; how many is the same for all rows."""
    rows = step.only_first_has_rows()
    axis = axis_of(step.attribute("axis", -1), rows.rank)
    refuse_axis(rows, [axis], OVER_ROWS)
    counts = step.plain(1)
    known = list(counts.elements.flat) if counts is not None and counts.elements is not None else [None]
    dims = list(rows.dims)
    dims[axis] = known[0] or symbol(f"{step.node.outputs[0]}:{axis}")
    return tuple(Rows(tuple(dims), rows.axis) for _ in step.node.outputs)


def layer_norm(step: OperatorStep) -> tuple[Tensor, ...]:
    """LayerNormalization and RMSNormalization: ``axis`` and all that follow."""
    rows = step.rows()
    axis = axis_of(step.attribute("axis", -1), rows.rank)
    before(rows, axis, OVER_ROWS)
    for index in range(1, len(step.inputs)):
        aligned(step.plain(index), rows)
    statistics = Rows(_ones_from(rows, axis), rows.axis)
    return tuple(rows if index == 0 else statistics for index in range(len(step.node.outputs)))


def _ones_from(rows: Rows, axis: int) -> Dims:
    return tuple(ONE if index >= axis else dim for index, dim in enumerate(rows.dims))


def per_sample(step: OperatorStep) -> tuple[Tensor, ...]:
    """Instance and group normalisation, LRN, global pooling: within one sample, which is an index of the first axis."""
    rows = step.only_first_has_rows()
    refuse_axis(rows, range(1, rows.rank), OVER_ROWS)
    return step.results(0, rows.block)


def batch_norm(step: OperatorStep) -> tuple[Tensor, ...]:
    """BatchNormalization with given mean and variance; with training_mode it would take them from the batch."""
    rows = step.only_first_has_rows()
    if step.attribute("training_mode", 0) or (step.node.version < 7 and not step.attribute("is_test", 0)):
        raise NotProved("mixes rows: it takes mean and variance from the batch")
    if step.node.version < 9 and not step.attribute("spatial", 1):
        raise NotProved("has mean and variance for every element")
    refuse_axis(rows, [1], OVER_ROWS)
    return (rows,)


def mean_variance(step: OperatorStep) -> tuple[Tensor, ...]:
    """MeanVarianceNormalization: along ``axes``, by default the first too."""
    rows = step.rows()
    refuse_axis(rows, list(step.attribute("axes", [0, 2, 3])), OVER_ROWS)
    return (rows,)


_REDUCE = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
_POOL = "GlobalAveragePool GlobalMaxPool GlobalLpPool InstanceNormalization GroupNormalization LRN".split()
RULES: dict[tuple[str, str], Rule] = {
    **{("", name): reduce for name in _REDUCE.split()},
    **{("", name): arg for name in ("ArgMax", "ArgMin")},
    **{("", name): softmax for name in ("Softmax", "LogSoftmax", "Hardmax")},
    **{("", name): per_sample for name in _POOL},
    **{("", name): layer_norm for name in ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")},
    **{("", name): cumulative for name in ("CumSum", "CumProd")},
    ("", "LpNormalization"): along_axis,
    ("", "TopK"): top_k,
    ("", "BatchNormalization"): batch_norm,
    ("", "MeanVarianceNormalization"): mean_variance,
}
