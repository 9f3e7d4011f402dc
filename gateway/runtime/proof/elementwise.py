"""Rules of operators that work element by element, with broadcasting as numpy's. Pure."""

from __future__ import annotations

from gateway.runtime.proof.forms import Dims, NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.sizes import ONE, Size, symbol
from gateway.runtime.proof.step import OperatorStep, Rule

MIXES = "mixes rows"


def elementwise(step: OperatorStep) -> tuple[Tensor, ...]:
    """Every input broadcast to one shape; all that carry rows do so on the same axis."""
    return (broadcast([tensor for tensor in step.inputs if tensor is not None], step.node.outputs[0]),)


def unary(step: OperatorStep) -> tuple[Tensor, ...]:
    """The first input's elements, one by one; the others are numbers for all."""
    rows = step.only_first_has_rows()
    return tuple(rows for _ in step.node.outputs)


def broadcast(tensors: list[Tensor], name: str) -> Rows:
    """Returns the tensor that broadcasting gives. ``name`` names dimensions of it that are not known. Raises NotProved."""
    rank = max(tensor.rank for tensor in tensors)
    carriers = [tensor for tensor in tensors if isinstance(tensor, Rows)]
    place = carriers[0].from_right
    for carrier in carriers:
        if carrier.from_right != place or carrier.block != carriers[0].block:
            raise NotProved(f"{MIXES}: its inputs carry them on different axes")
    for tensor in tensors:
        if isinstance(tensor, Plain) and tensor.rank >= -place and tensor.dims[place] != ONE:
            raise NotProved("combines rows with a tensor that has a fixed number of them")
    dims = list(broadcast_dims([tensor.dims for tensor in tensors], name))
    dims[place] = carriers[0].dims[carriers[0].axis]
    return Rows(tuple(dims), rank + place)


def broadcast_dims(shapes: list[Dims], name: str) -> Dims:
    """Returns the shape that broadcasting gives. ``name`` names dimensions of it that are not known."""
    rank = max(len(dims) for dims in shapes)
    return tuple(_dim([dims[at] for dims in shapes if len(dims) >= -at], f"{name}:{at}") for at in range(-rank, 0))


def _dim(found: list[Size], name: str) -> Size:
    """Returns the dimension that broadcasting gives: the one that is not 1."""
    different = {size for size in found if size != ONE}
    if len(different) <= 1:
        return different.pop() if different else ONE
    return symbol(name)


def aligned(weights: Plain | None, rows: Rows) -> None:
    """Raises NotProved if weights that are broadcast against the rows differ from row to row."""
    if weights is not None and weights.rank >= -rows.from_right and weights.dims[rows.from_right] != ONE:
        raise NotProved("combines rows with a tensor that has a fixed number of them")


def quantize(step: OperatorStep) -> tuple[Tensor, ...]:
    """QuantizeLinear and DequantizeLinear: scale and zero point for the whole tensor, or for slices along another axis."""
    rows = step.only_first_has_rows()
    scale = step.input(1)
    axis = step.attribute("axis", 1)
    is_whole = scale is not None and all(dim == ONE for dim in scale.dims)
    if not is_whole and rows.axis == (axis + rows.rank if axis < 0 else axis):
        raise NotProved("has a scale for each row")
    return (rows,)


def dropout(step: OperatorStep) -> tuple[Tensor, ...]:
    """Dropout passes values on, unless it trains."""
    rows = step.only_first_has_rows()
    training = step.input(2)
    if isinstance(training, Plain) and (training.value is None or bool(training.value.any())):
        raise NotProved("drops values at random")
    return tuple(rows for _ in step.node.outputs)


def quantized_binary(step: OperatorStep) -> tuple[Tensor, ...]:
    """QLinearAdd and QLinearMul: two quantized tensors, each with its scale and zero point."""
    for index in (1, 2, 4, 5, 6, 7):
        _whole(step.plain(index))
    return (broadcast([tensor for tensor in (step.input(0), step.input(3)) if tensor is not None], step.node.outputs[0]),)


def quantized_unary(step: OperatorStep) -> tuple[Tensor, ...]:
    """QLinearSigmoid and the like: one quantized tensor, scales and zero points for all of it."""
    for index in range(1, len(step.inputs)):
        _whole(step.plain(index))
    return (step.rows(0),)


def _whole(tensor: Plain | None) -> None:
    if tensor is not None and any(dim != ONE for dim in tensor.dims):
        raise NotProved("has scales that differ along an axis")


BROADCAST = """Add Sub Mul Div Pow Mod And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Where Max Min Sum Mean PRelu
BitShift BitwiseAnd BitwiseOr BitwiseXor StringConcat""".split()
UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu
HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal RegexFullMatch Relu Round Selu Shrink Sigmoid
Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu""".split()
RULES: dict[tuple[str, str], Rule] = {
    **{("", name): elementwise for name in BROADCAST},
    **{("", name): unary for name in UNARY},
    ("", "QuantizeLinear"): quantize,
    ("", "DequantizeLinear"): quantize,
    ("", "Dropout"): dropout,
    ("com.microsoft", "QuantizeLinear"): quantize,
    ("com.microsoft", "DequantizeLinear"): quantize,
    **{("com.microsoft", name): elementwise for name in ("BiasGelu", "FastGelu")},
    **{("com.microsoft", name): unary for name in ("Gelu", "QuickGelu")},
    **{("com.microsoft", name): quantized_binary for name in ("QLinearAdd", "QLinearMul")},
    **{("com.microsoft", name): quantized_unary for name in ("QLinearLeakyRelu", "QLinearSigmoid")},
}
