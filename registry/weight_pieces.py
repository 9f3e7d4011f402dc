"""
Cuts the large constant factors of matrix products in an ONNX graph into pieces by columns.

A column of a product depends on that column of its right factor alone: X·[A B] = [X·A X·B], with the same sums in the same
order. ONNX Runtime packs constant factors when it loads a model, one whole factor at a time in private memory, even where it
then maps what was packed before; of a model in pieces, that is one piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

Content = Callable[[onnx.TensorProto], bytes]
Span = tuple[int, int]

PRODUCTS = {("", "MatMul"), ("", "Gemm"), ("com.microsoft", "FusedGemm")}
FACTOR, SUMMAND = 1, 2  # inputs of a product
ROUNDED = 64  # columns; ONNX Runtime packs 16 together
FIRST_OPSET = 11  # whose Concat counts axes from the end too


@dataclass(frozen=True, slots=True)
class _Factor:
    """A constant of FP32 [K, N], or [N, K] where its columns are on ``axis`` 0, and the columns of each piece."""

    tensor: onnx.TensorProto
    axis: int
    spans: list[Span]


def cut_factors(model: onnx.ModelProto, piece_bytes: int, content: Content) -> int:
    """
    Cuts every factor of more than ``piece_bytes`` in the main graph, in place, into pieces of about so many bytes and puts
    their products together again; ``content(tensor)`` gives a constant's bytes. Gives the number of factors cut.

    A factor that is used for anything else, that callers may replace, or whose product adds something that is not constant
    stays whole.
    """
    graph = model.graph
    if next((one.version for one in model.opset_import if not one.domain), 0) < FIRST_OPSET:
        return 0
    constants = _constants(graph)
    factors = {factor.tensor.name: factor for factor in _factors(graph, constants, piece_bytes)}
    made, pieces, cut = onnx.GraphProto(), dict[str, onnx.TensorProto](), set(factors)
    for node in graph.node:
        factor = factors.get(_input(node, FACTOR))
        if factor is None:
            made.node.append(node)
            continue
        summand = constants.get(_input(node, SUMMAND))
        has_columns = summand is not None and bool(summand.dims) and summand.dims[-1] != 1
        made.node.extend(_in_pieces(node, factor.spans, (FACTOR, SUMMAND) if has_columns else (FACTOR,)))
        pieces |= _pieces(factor.tensor, factor.axis, factor.spans, content, pieces)
        if summand is not None and has_columns:
            pieces |= _pieces(summand, -1, factor.spans, content, pieces)
            cut.add(summand.name)
    graph.ClearField("node")
    graph.node.extend(made.node)
    graph.initializer.extend(pieces.values())
    _drop_unused(graph, cut)
    return len(factors)


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """By name, without those that callers may replace."""
    replaceable = {one.name for one in graph.input}
    return {tensor.name: tensor for tensor in graph.initializer if tensor.name not in replaceable}


def _factors(graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto], piece_bytes: int) -> Iterator[_Factor]:
    elsewhere = _used_beside_nodes(graph)
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in set(node.input):
            users.setdefault(name, []).append(node)
    for name, tensor in constants.items():
        is_large = len(tensor.dims) == 2 and 4 * math.prod(tensor.dims) > piece_bytes
        if is_large and tensor.data_type == onnx.TensorProto.FLOAT and name not in elsewhere:
            axes = {_columns_axis(node, name, constants) for node in users.get(name, [])}
            if len(axes) == 1 and (axis := axes.pop()) is not None:
                yield _Factor(tensor, axis, _spans(tensor, axis, piece_bytes))


def _columns_axis(node: onnx.NodeProto, name: str, constants: Collection[str]) -> int | None:
    """
    The axis of the columns of the constant ``name`` that this node uses, if it is its factor and nothing else to it, and if
    what is added is constant too, or nothing; else None.
    """
    is_factor = (node.domain, node.op_type) in PRODUCTS and [i for i, one in enumerate(node.input) if one == name] == [FACTOR]
    summand = _input(node, SUMMAND)
    if not is_factor or (summand and summand not in constants):
        return None
    return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1


def _input(node: onnx.NodeProto, place: int) -> str:
    """Its name; empty where there is none."""
    return str(node.input[place]) if len(node.input) > place else ""


def _used_beside_nodes(graph: onnx.GraphProto) -> set[str]:
    """The names that are outputs of the graph, and those that the graphs inside its nodes use."""
    return {one.name for one in graph.output} | {name for node in graph.node for name in _inner(node)}


def _inner(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node's own graphs use."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (one.name for one in graph.output)
            for inner in graph.node:
                yield from inner.input
                yield from _inner(inner)


def _spans(tensor: onnx.TensorProto, axis: int, piece_bytes: int) -> list[Span]:
    columns = int(tensor.dims[axis])
    width = max(1, piece_bytes // (4 * (math.prod(tensor.dims) // columns)))
    width = max(width // ROUNDED * ROUNDED, min(width, ROUNDED))
    return [(start, min(start + width, columns)) for start in range(0, columns, width)]


def _in_pieces(node: onnx.NodeProto, spans: Sequence[Span], cut_inputs: Sequence[int]) -> list[onnx.NodeProto]:
    """A product with each piece, and their concatenation under the product's name."""
    made = []
    for span in spans:
        one = onnx.NodeProto()
        one.CopyFrom(node)
        one.name = _piece(node.name or node.output[0], span)
        one.output[0] = _piece(node.output[0], span)
        for place in cut_inputs:
            one.input[place] = _piece(node.input[place], span)
        made.append(one)
    made.append(onnx.helper.make_node("Concat", [one.output[0] for one in made], [node.output[0]], axis=-1))
    return made


def _pieces(
    tensor: onnx.TensorProto, axis: int, spans: Sequence[Span], content: Content, there: Collection[str]
) -> dict[str, onnx.TensorProto]:
    """The pieces of a constant by name; none where they are ``there`` already, for another product."""
    if _piece(tensor.name, spans[0]) in there:
        return {}
    whole = np.frombuffer(content(tensor), "<f4").reshape(tuple(tensor.dims))
    parts = zip(spans, np.split(whole, [start for start, _ in spans[1:]], axis), strict=True)
    named = ((_piece(tensor.name, span), np.ascontiguousarray(part)) for span, part in parts)
    return {name: onnx.numpy_helper.from_array(part, name) for name, part in named}


def _drop_unused(graph: onnx.GraphProto, cut: Collection[str]) -> None:
    """Those of the constants that were ``cut`` which nothing uses whole any more."""
    used = {name for node in graph.node for name in node.input} | _used_beside_nodes(graph)
    for tensor in [one for one in graph.initializer if one.name in cut and one.name not in used]:
        graph.initializer.remove(tensor)


def _piece(name: str, span: Span) -> str:
    """With the columns in it, since two factors of different pieces may share a summand."""
    return f"{name}//{span[0]}:{span[1]}"
