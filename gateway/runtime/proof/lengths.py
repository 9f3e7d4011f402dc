"""
Arithmetic on sizes: what an operator without rows among its inputs gives. Pure.

Shapes are followed element by element, so that a shape may grow with the rows where it shapes a tensor, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.runtime.proof.elementwise import BROADCAST, UNARY, broadcast_dims
from gateway.runtime.proof.forms import MAX_ELEMENTS, Dims, NotProved, Plain, Tensor, fixed_dims
from gateway.runtime.proof.graph import Constant
from gateway.runtime.proof.reshaping import unsqueezed
from gateway.runtime.proof.sizes import ONE, UNKNOWN, Element, Size, product, quotient, symbol
from gateway.runtime.proof.step import OperatorStep, axis_of

Elements = NDArray[Any]
ANY = "?"  # begins the name of a symbol that may be negative or no whole number
_MAX_SYMBOLS = 16  # elements of a tensor that become symbols: as many as a shape has at the most
_BOOL = 9  # TensorProto.BOOL
_WIDE = frozenset((6, 7, 12, 13))  # TensorProto's INT32, INT64, UINT32, UINT64


def shape_of(step: OperatorStep) -> Plain:
    """Shape, and Size: of any tensor."""
    tensor = step.given(0)
    if step.node.operator == "Size":
        return _sizes(np.array(product(tensor.dims), object))
    dims = list(tensor.dims)[step.attribute("start", 0) : step.attribute("end", len(tensor.dims))]
    return _sizes(_array(dims))


def from_plain(step: OperatorStep) -> tuple[Tensor, ...]:
    """Returns the outputs of an operator none of whose inputs carries rows, and none of which is a constant."""
    inputs = [tensor for tensor in step.inputs if isinstance(tensor, Plain)]
    depends = any(tensor.depends_on_rows for tensor in inputs)
    evaluate = _EVALUATE.get(step.node.operator) if not step.node.domain else None
    if evaluate is not None and len(inputs) == len(step.inputs):
        known = [_elements(tensor, name) for tensor, name in zip(inputs, step.node.inputs, strict=True)]
        if all(elements is not None for elements in known):
            elements = evaluate(step, [one for one in known if one is not None])
            if elements is not None and elements.size <= MAX_ELEMENTS:
                return (_sizes(elements),)
    if depends:
        raise NotProved("mixes rows: their number becomes data")
    exact = _exact_dims(step, inputs)
    if exact is not None:
        return (Plain(exact),)
    return tuple(Plain(step.dims(index)) if name else Plain(()) for index, name in enumerate(step.node.outputs))


def _exact_dims(step: OperatorStep, inputs: Sequence[Plain]) -> Dims | None:
    """Returns the dimensions of the output of the operators that lead to broadcasting, where 1 is not just any number."""
    operator = step.node.operator if not step.node.domain else ""
    if operator in BROADCAST or (operator in UNARY and len(inputs) == 1):
        return broadcast_dims([tensor.dims for tensor in inputs], step.node.outputs[0])
    if operator == "Unsqueeze":
        return tuple(ONE if axis < 0 else inputs[0].dims[axis] for axis in unsqueezed(step, inputs[0].rank))
    if operator == "Transpose":
        return tuple(inputs[0].dims[axis] for axis in step.attribute("perm", range(inputs[0].rank)[::-1]))
    return None


def _elements(tensor: Plain, name: str) -> Elements | None:
    """Returns the elements of a small tensor, each a symbol of its own where they are not known."""
    if tensor.elements is not None or not all(dim.is_constant for dim in tensor.dims):
        return tensor.elements
    shape = tuple(dim.factor for dim in tensor.dims)
    if int(np.prod(shape)) > _MAX_SYMBOLS:
        return None
    made = np.empty(shape, object)
    for index in np.ndindex(shape):
        made[index] = symbol(f"{ANY}{name}{list(index)}")
    return made


def _sizes(elements: Elements) -> Plain:
    return Plain(fixed_dims(elements.shape), elements)


def _array(sizes: Sequence[Element]) -> Elements:
    made = np.empty(len(sizes), object)
    made[:] = sizes
    return made


# ---- moving elements --------------------------------------------------------------------------------------------------


def _numbers(elements: Elements) -> list[int] | None:
    """Returns the elements as numbers; None if one is no constant."""
    found = [one.factor for one in elements.flat if one is not None and one.is_constant]
    return found if len(found) == elements.size else None


def _same(_step: OperatorStep, given: list[Elements]) -> Elements:
    return given[0]


def _cast(step: OperatorStep, given: list[Elements]) -> Elements | None:
    """Cast to a type that holds any size; the others would round it or cut it off."""
    if step.attribute("to") in _WIDE:
        return given[0]
    numbers = _numbers(given[0])
    if numbers is None or step.attribute("to") != _BOOL:
        return None
    return _array([Size(int(bool(one))) for one in numbers]).reshape(given[0].shape)


def _gather(step: OperatorStep, given: list[Elements]) -> Elements | None:
    places = _numbers(given[1])
    if places is None:
        return None
    taken = np.take(given[0], np.array(places, np.int64).reshape(given[1].shape), axis=step.attribute("axis", 0))
    return taken if isinstance(taken, np.ndarray) else _single(taken)


def _single(size: Element) -> Elements:
    made = np.empty((), object)
    made[()] = size
    return made


def _concat(step: OperatorStep, given: list[Elements]) -> Elements:
    return np.concatenate(given, axis=step.attribute("axis", 0))


def _axes(step: OperatorStep, given: list[Elements]) -> list[int] | None:
    if step.node.version < 13:
        return list(step.attribute("axes", []))
    return _numbers(given[1]) if len(given) > 1 else []


def _unsqueeze(step: OperatorStep, given: list[Elements]) -> Elements | None:
    axes = _axes(step, given)
    if axes is None:
        return None
    rank = given[0].ndim + len(axes)
    return np.expand_dims(given[0], tuple(axis_of(axis, rank) for axis in axes))


def _squeeze(step: OperatorStep, given: list[Elements]) -> Elements | None:
    axes = _axes(step, given)
    if axes is None:
        return None
    return np.squeeze(given[0], tuple(axes) or None)


def _reshape(_step: OperatorStep, given: list[Elements]) -> Elements | None:
    shape = _numbers(given[1])
    if shape is None:
        return None
    return given[0].reshape([given[0].shape[at] if size == 0 else size for at, size in enumerate(shape)])


def _slice(step: OperatorStep, given: list[Elements]) -> Elements | None:
    if step.node.version < 10:
        starts, ends = list(step.attribute("starts")), list(step.attribute("ends"))
        axes, steps = list(step.attribute("axes", range(len(starts)))), [1] * len(starts)
    else:
        found = [_numbers(elements) for elements in given[1:]]
        if any(one is None for one in found):
            return None
        starts, ends = found[0] or [], found[1] or []
        axes = (found[2] if len(found) > 2 else None) or list(range(len(starts)))
        steps = (found[3] if len(found) > 3 else None) or [1] * len(starts)
    cuts: list[Any] = [slice(None)] * given[0].ndim
    for start, end, axis, stride in zip(starts, ends, axes, steps, strict=True):
        cuts[axis] = slice(start, None if stride < 0 and end < -given[0].shape[axis] else end, stride)
    made: Elements = given[0][tuple(cuts)]
    return made


def _filled(step: OperatorStep, given: list[Elements]) -> Elements | None:
    """ConstantOfShape with a constant shape, as in the targets of Expand."""
    shape, value = _numbers(given[0]), step.attribute("value")
    if shape is None or int(np.prod(shape)) > MAX_ELEMENTS:
        return None
    if not isinstance(value, Constant) or value.value is None or value.value.dtype.kind not in "iu":
        return None
    return np.full(shape, Size(int(value.value.flat[0])), object)


def _range(_step: OperatorStep, given: list[Elements]) -> Elements | None:
    """Range over constants. One over the number of rows would number them."""
    bounds = [_numbers(one) for one in given]
    if any(one is None for one in bounds):
        return None
    start, end, stride = (one[0] for one in bounds if one)
    return _array([Size(one) for one in range(start, end, stride)]) if len(range(start, end, stride)) < MAX_ELEMENTS else None


# ---- arithmetic -------------------------------------------------------------------------------------------------------


def _each(combine: Callable[[Element, Element], Element]) -> Callable[[OperatorStep, list[Elements]], Elements]:
    """Returns an evaluation that combines two tensors, element by element."""

    def evaluate(_step: OperatorStep, given: list[Elements]) -> Elements:
        if len(given) != 2:
            return np.broadcast_to(np.array(UNKNOWN, object), given[0].shape)
        made = np.empty(np.broadcast_shapes(given[0].shape, given[1].shape), object)
        left, right = (np.broadcast_to(one, made.shape) for one in given)
        for index in np.ndindex(made.shape):
            made[index] = combine(left.item(*index), right.item(*index))
        return made

    return evaluate


def _combined(operator: str, left: Element, right: Element) -> Element:
    """Returns a number of its own for two that cannot be combined; UNKNOWN if one depends on the rows."""
    if left is None or right is None or left.has_rows or right.has_rows:
        return UNKNOWN
    return symbol(f"({left} {operator} {right})")


def _times(left: Element, right: Element) -> Element:
    if left is None or right is None:
        return UNKNOWN
    return product((left, right))


def _over(left: Element, right: Element) -> Element:
    exact = quotient(left, right) if left is not None and right is not None else None
    if exact is not None:
        return exact
    if left is not None and right is not None and left.is_constant and right.is_constant and right.factor:
        return Size(int(left.factor / right.factor))  # ONNX divides whole numbers towards zero
    return _combined("/", left, right)


def _sum(sign: int, left: Element, right: Element) -> Element:
    if left is None or right is None:
        return UNKNOWN
    if left.symbols == right.symbols:
        factor = left.factor + sign * right.factor
        return Size(factor, left.symbols if factor else ())
    if not right.factor:
        return left
    if not left.factor and sign > 0:
        return right
    return _combined("+" if sign > 0 else "-", left, right)


def _compared(operator: str, left: Element, right: Element) -> Element:
    """Equal, Less, Greater: 1 or 0 where it is certain. A length may be 0, and is never negative."""
    if left is None or right is None:
        return UNKNOWN
    if left == right:
        return Size(int(operator in ("==", "<=", ">=")))
    if left.is_constant and right.is_constant:
        answers = {"==": False, "<": left.factor < right.factor, ">": left.factor > right.factor}
        answers |= {"<=": left.factor <= right.factor, ">=": left.factor >= right.factor}
        return Size(int(answers[operator]))
    negative = [one.is_constant and one.factor < 0 for one in (left, right)]
    if any(negative) and all(_is_length(one) for one in (left, right) if not one.is_constant):
        return Size(int({"==": False, "<": negative[0], "<=": negative[0], ">": negative[1], ">=": negative[1]}[operator]))
    return _combined(operator, left, right)


def _is_length(size: Size) -> bool:
    return size.factor > 0 and not any(one.startswith((ANY, "(")) for one in size.symbols)


def _chosen(_step: OperatorStep, given: list[Elements]) -> Elements:
    """Where: of a condition, two tensors."""
    made = np.empty(np.broadcast_shapes(*(one.shape for one in given)), object)
    condition, left, right = (np.broadcast_to(one, made.shape) for one in given)
    for index in np.ndindex(made.shape):
        made[index] = _one_of(condition.item(*index), left.item(*index), right.item(*index))
    return made


def _one_of(told: Element, one: Element, other: Element) -> Element:
    if told is not None and told.is_constant:
        return one if told.factor else other
    if one == other:
        return one
    return _combined(f"if {told} else", one, other) if told is not None and not told.has_rows else UNKNOWN


def _product_of(step: OperatorStep, given: list[Elements]) -> Elements | None:
    if len(given) > 1 or given[0].ndim != 1 or any(one is None for one in given[0].flat):
        return None
    return np.array(product(given[0].flat), object).reshape((1,) if step.attribute("keepdims", 1) else ())


_EVALUATE: dict[str, Callable[[OperatorStep, list[Elements]], Elements | None]] = {
    **{name: _same for name in ("Identity", "Floor", "Ceil", "Round")},
    "Cast": _cast,
    "Gather": _gather,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Slice": _slice,
    "ConstantOfShape": _filled,
    "Range": _range,
    "Mul": _each(_times),
    "Div": _each(_over),
    "Add": _each(lambda left, right: _sum(1, left, right)),
    "Sub": _each(lambda left, right: _sum(-1, left, right)),
    "Mod": _each(lambda left, right: _combined("mod", left, right)),
    "Min": _each(lambda left, right: left if left == right else _combined("min", left, right)),
    "Max": _each(lambda left, right: left if left == right else _combined("max", left, right)),
    "Equal": _each(lambda left, right: _compared("==", left, right)),
    "Less": _each(lambda left, right: _compared("<", left, right)),
    "Greater": _each(lambda left, right: _compared(">", left, right)),
    "Where": _chosen,
    "ReduceProd": _product_of,
}
