"""
Cuts the large constant factors of matrix products in an ONNX graph into pieces by columns.

A column of a product depends on that column of its right factor alone: X·[A B] = [X·A X·B], with the same sums in the same
order. ONNX Runtime packs constant factors when it loads a model, one whole factor at a time in private memory, even where it
then maps what was packed before; of a model in pieces, that is one piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

Content = Callable[[onnx.TensorProto], bytes]

PRODUCTS = {("", "MatMul"), ("", "Gemm"), ("com.microsoft", "FusedGemm")}
LEFT, FACTOR, SUMMAND = 0, 1, 2  # inputs of a product
ROUNDED = 64  # columns; ONNX Runtime packs 16 together
FIRST_OPSET = 11  # whose Concat counts axes from the end too


@dataclass(frozen=True, slots=True)
class _Factor:
    """A constant of FP32 [K, N], or [N, K] where its columns are on ``axis`` 0, and the products that it is the factor of."""

    tensor: onnx.TensorProto
    axis: int
    products: list[onnx.NodeProto]

    @property
    def columns(self) -> int:
        return int(self.tensor.dims[self.axis])


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
    factors = list(_factors(graph, piece_bytes))
    for factor in factors:
        _cut(graph, factor, piece_bytes, content)
    _drop_unused(graph)
    return len(factors)


def _factors(graph: onnx.GraphProto, piece_bytes: int) -> Iterator[_Factor]:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    elsewhere = {one.name for one in (*graph.input, *graph.output)} | {name for node in graph.node for name in _inner(node)}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in set(node.input):
            users.setdefault(name, []).append(node)
    for tensor in constants.values():
        is_large = len(tensor.dims) == 2 and 4 * math.prod(tensor.dims) > piece_bytes
        if is_large and tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in elsewhere:
            products = users.get(tensor.name, [])
            axes = {_axis(node) for node in products if _is_product_with(node, tensor.name, constants)}
            if len(axes) == 1 and all(_is_product_with(node, tensor.name, constants) for node in products):
                yield _Factor(tensor, axes.pop(), products)


def _is_product_with(node: onnx.NodeProto, factor: str, constants: Collection[str]) -> bool:
    """Whether the constant is this node's factor and nothing else to it, and what it adds, if anything, is constant too."""
    if (node.domain, node.op_type) not in PRODUCTS or [*node.input].index(factor) != FACTOR or [*node.input].count(factor) > 1:
        return False
    return len(node.input) <= SUMMAND or not node.input[SUMMAND] or node.input[SUMMAND] in constants


def _axis(node: onnx.NodeProto) -> int:
    """The axis of the factor's columns."""
    return 0 if any(one.name == "transB" and one.i for one in node.attribute) else 1


def _inner(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node's own graphs use."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (one.name for one in graph.output)
            for inner in graph.node:
                yield from inner.input
                yield from _inner(inner)


def _cut(graph: onnx.GraphProto, factor: _Factor, piece_bytes: int, content: Content) -> None:
    tensor, columns = factor.tensor, factor.columns
    width = max(1, piece_bytes // (4 * (math.prod(tensor.dims) // columns)))
    width = max(width // ROUNDED * ROUNDED, min(width, ROUNDED))
    spans = [(start, min(start + width, columns)) for start in range(0, columns, width)]
    whole = _array(tensor, content)
    for place, (start, end) in enumerate(spans):
        part = whole[start:end] if factor.axis == 0 else whole[:, start:end]
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(part), _piece(tensor.name, place)))
    for node in factor.products:
        _replace(graph, node, spans, content)
    graph.initializer.remove(tensor)


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, spans: list[tuple[int, int]], content: Content) -> None:
    """A product with each piece, and their concatenation under the product's name."""
    at = next(index for index, one in enumerate(graph.node) if node.output[0] in one.output)
    summand = node.input[SUMMAND] if len(node.input) > SUMMAND else ""
    summands = _summands(graph, summand, spans, content) if summand else []
    made = []
    for place in range(len(spans)):
        one = onnx.NodeProto()
        one.CopyFrom(node)
        one.name = _piece(node.name or node.output[0], place)
        one.input[FACTOR] = _piece(node.input[FACTOR], place)
        one.output[0] = _piece(node.output[0], place)
        if summands:
            one.input[SUMMAND] = summands[place]
        made.append(one)
    made.append(onnx.helper.make_node("Concat", [one.output[0] for one in made], [node.output[0]], axis=-1))
    del graph.node[at]
    for place, one in enumerate(made):
        graph.node.insert(at + place, one)


def _summands(graph: onnx.GraphProto, name: str, spans: list[tuple[int, int]], content: Content) -> list[str]:
    """The names of what the pieces add: parts of the constant, or the constant itself where it is the same for all columns."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    tensor = constants[name]
    if not tensor.dims or tensor.dims[-1] == 1:
        return [name] * len(spans)
    whole = _array(tensor, content)
    for place, (start, end) in enumerate(spans):
        if _piece(name, place) not in constants:
            part = np.ascontiguousarray(whole[..., start:end])
            graph.initializer.append(onnx.numpy_helper.from_array(part, _piece(name, place)))
    return [_piece(name, place) for place in range(len(spans))]


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Constants that only products which were cut have used."""
    used = {name for node in graph.node for name in (*node.input, *_inner(node))} | {one.name for one in graph.output}
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)


def _array(tensor: onnx.TensorProto, content: Content) -> NDArray[np.float32]:
    return np.frombuffer(content(tensor), "<f4").reshape(tuple(tensor.dims))


def _piece(name: str, place: int) -> str:
    return f"{name}//{place}"
