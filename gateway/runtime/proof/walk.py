"""
The walk: follows the rows from the inputs of a graph to its outputs, one rule per operator. Pure.

What is known of each tensor is either that it carries the rows on an axis, or that no row reaches it (`forms`). Rows may
reach a tensor that does not carry them through its shape alone, and a shape that grows with the rows may only shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from gateway.runtime.proof import axes, contrib, elementwise, learned, linear, picking, recurrent, reshaping
from gateway.runtime.proof.forms import NotProved, Plain, Rows, Tensor, constant, fixed_dims
from gateway.runtime.proof.graph import Constant, Graph, Node, needed, reads
from gateway.runtime.proof.lengths import from_plain, shape_of
from gateway.runtime.proof.sizes import ONE
from gateway.runtime.proof.step import OperatorStep, Rule, axis_of
from gateway.runtime.proof.subgraphs import branch, loop, scan

RULES: Mapping[tuple[str, str], Rule] = {
    **elementwise.RULES,
    **axes.RULES,
    **reshaping.RULES,
    **picking.RULES,
    **linear.RULES,
    **recurrent.RULES,
    **learned.RULES,
    **contrib.RULES,
}
SHAPE_INPUTS: Mapping[str, tuple[int, ...]] = {**reshaping.SHAPE_INPUTS, **picking.SHAPE_INPUTS}
BY_DATA = frozenset(("NonZero", "NonMaxSuppression", "Compress", "Unique"))  # the size of the output is in the data
_RANDOM = frozenset(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"))
_WITH_SUBGRAPHS = {"If": branch, "Loop": loop, "Scan": scan}
_DYNAMIC = "mixes rows: its scale comes from the whole batch"
_REASONS = {  # of operators that can have no rule
    "DynamicQuantizeLinear": _DYNAMIC,
    "DynamicQuantizeMatMul": _DYNAMIC,
    "DynamicQuantizeLSTM": _DYNAMIC,
    "NonZero": "gives as many rows as the data say",
    "NonMaxSuppression": "gives as many rows as the data say",
    "Unique": "gives as many rows as the data say",
    "Tokenizer": "mixes rows: the longest text of the batch decides the shape",
    "StringSplit": "mixes rows: the longest text of the batch decides the shape",
}


@dataclass(frozen=True, slots=True)
class Observation:
    """
    Shapes of tensors in a run with ``rows`` rows, their ``sizes`` in bytes, and values of those that depend on no input, if
    they are small.
    """

    rows: int
    shapes: Mapping[str, tuple[int, ...]]
    values: Mapping[str, Constant]
    sizes: Mapping[str, int] = field(default_factory=dict)


class Refuted(Exception):
    """The walk ended at a node. The text is the reason, with the node's name."""

    def __init__(self, node: Node, reason: str) -> None:
        super().__init__(f"node {node} {reason}")
        self.node = node


def walk(graph: Graph, inputs: Mapping[str, Tensor], seen: Observation) -> Mapping[str, Tensor]:
    """
    Returns what is known of every tensor that the outputs depend on. ``inputs`` are the graph's: those with an initial value
    may be left out. Raises Refuted that names the first node through which the rows could not be followed.
    """
    known: dict[str, Tensor] = {}
    _walk(graph, known, inputs, seen)
    return known


def _walk(graph: Graph, known: dict[str, Tensor], inputs: Mapping[str, Tensor], seen: Observation) -> None:
    known.update({name: _weight(weight) for name, weight in graph.constants.items()})
    known.update(inputs)
    for node in needed(graph):
        try:
            results = _results(node, known, seen)
        except NotProved as reason:
            raise Refuted(node, str(reason)) from None
        except (LookupError, TypeError, ValueError) as error:  # a graph that a rule did not expect is not proved, no more
            raise Refuted(node, f"has a form that its rule does not know: {error}") from None
        for name, tensor in zip(node.outputs, results, strict=False):
            if name:
                _agrees(node, name, tensor, seen)
                known[name] = tensor


def _weight(weight: Constant) -> Plain:
    return constant(weight.value) if weight.value is not None else Plain(fixed_dims(weight.shape), is_constant=True)


def _results(node: Node, known: Mapping[str, Tensor], seen: Observation) -> tuple[Tensor, ...]:
    step = OperatorStep(node, tuple(known[name] if name else None for name in node.inputs), seen.shapes)
    around = [known[name] for name in reads(node)]
    if node.operator in _RANDOM:
        raise NotProved("gives random numbers")
    if node.operator in ("Shape", "Size") and not node.domain:
        return (shape_of(step),)
    if all(isinstance(tensor, Plain) and tensor.is_constant for tensor in around):
        return tuple(_constant(name, seen) for name in node.outputs)
    has_rows = any(isinstance(tensor, Rows) for tensor in around)
    if node.operator in _WITH_SUBGRAPHS and not node.domain and (has_rows or any(map(_depends_on_rows, around))):
        return _WITH_SUBGRAPHS[node.operator](step, known, partial(_inside, seen))
    shaping = SHAPE_INPUTS.get(node.operator, ()) if not node.domain else ()
    if not has_rows and not any(_depends_on_rows(step.input(index)) for index in shaping):
        return from_plain(step)
    return _by_rule(step, shaping)


def _by_rule(step: OperatorStep, shaping: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Applies the operator's rule. Only inputs that shape may depend on the number of rows."""
    node = step.node
    if any(_depends_on_rows(tensor) for index, tensor in enumerate(step.inputs) if index not in shaping):
        raise NotProved("mixes rows: their number becomes data")
    rule = RULES.get((node.domain, node.operator))
    if rule is None:
        raise NotProved(_REASONS.get(node.operator, "is of an operator without a rule"))
    return tuple(rule(step))


def _depends_on_rows(tensor: Tensor | None) -> bool:
    return isinstance(tensor, Plain) and tensor.depends_on_rows


def _constant(name: str, seen: Observation) -> Plain:
    if not name:
        return Plain((), is_constant=True)
    value = seen.values.get(name)
    if value is None:
        raise NotProved("gives a constant that was not observed")
    return _weight(value)


def _inside(seen: Observation, graph: Graph, outer: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """Walks a branch, whose own tensors were not observed."""
    known = dict(outer)
    _walk(graph, known, {}, Observation(seen.rows, {}, {}))
    return tuple(known[name] for name in graph.outputs)


def _agrees(node: Node, name: str, tensor: Tensor, seen: Observation) -> None:
    """Raises Refuted if a tensor was observed to have another shape than was derived: then a rule is wrong."""
    shape = seen.shapes.get(name)
    if shape is None:
        return
    agrees = len(shape) == tensor.rank
    if agrees and isinstance(tensor, Rows) and tensor.block.is_constant:
        agrees = shape[tensor.axis] == tensor.block.factor * seen.rows
    if not agrees:
        raise Refuted(node, f"gave a tensor of shape {list(shape)} for {seen.rows} rows, which the proof does not expect")


def ends_with_rows(known: Mapping[str, Tensor], graph: Graph) -> str:
    """Returns why an output cannot be split into rows; empty if all can."""
    for name in graph.outputs:
        tensor = known[name]
        if not isinstance(tensor, Rows) or tensor.axis or tensor.block != ONE:
            return f"output {name!r} does not have one row per row of the inputs"
    return ""


def sized_by_data(graph: Graph) -> str:
    """Returns the first node whose number of rows is in the data, if an output depends on one; else an empty text."""
    for node in needed(graph):
        if node.operator in BY_DATA:
            return f"node {node} gives as many rows as the data say"
    return ""


def tables(graph: Graph, known: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Returns the lengths of the tables that rows index."""
    found = set()
    for node in needed(graph):
        data = known.get(node.inputs[0]) if node.operator == "Gather" else None
        if isinstance(data, Plain) and isinstance(known.get(node.inputs[1]), Rows):
            length = data.dims[axis_of(node.attributes.get("axis", 0), data.rank)]
            found |= {length.factor} if length.is_constant else set()
    return tuple(sorted(found))
