"""
Reads the graph of an ONNX file for the proof, and writes a copy of the model that gives every intermediate tensor.

Model-local functions are expanded in place, so the walk sees operators only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import inliner, numpy_helper

from gateway.runtime.proof.graph import Constant, Graph, Node, needed
from registry.zip_maps import replace_maps

MAX_VALUES = 4096  # elements of a weight whose value is read; larger ones are never shapes
_NAMES = {"ai.onnx": ""}


@dataclass(frozen=True, slots=True)
class ReadModel:
    """A model's graph, and the model itself without functions."""

    graph: Graph
    model: onnx.ModelProto


def read_graph(path: Path) -> ReadModel:
    """Returns the graph of the ONNX file. Weights in other files are not read."""
    model = onnx.load_model(str(path), load_external_data=False)
    replace_maps(model)
    if model.functions:
        model = inliner.inline_local_functions(model)
    versions = {_NAMES.get(one.domain, one.domain): one.version for one in model.opset_import}
    return ReadModel(_graph(model.graph, versions), model)


def observable(read: ReadModel) -> tuple[bytes, tuple[str, ...]]:
    """Returns the model with every tensor that its outputs depend on as an output after its own, and their names."""
    own = {value.name for value in read.model.graph.output}
    names = tuple(name for node in needed(read.graph) for name in node.outputs if name and name not in own)
    model = onnx.ModelProto()
    model.CopyFrom(read.model)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model.SerializeToString(), names


def _graph(graph: onnx.GraphProto, versions: dict[str, int]) -> Graph:
    constants = {tensor.name: _constant(tensor) for tensor in graph.initializer}
    constants |= {sparse.values.name: Constant(tuple(sparse.dims)) for sparse in graph.sparse_initializer}
    return Graph(
        nodes=tuple(_node(node, versions) for node in graph.node),
        inputs=tuple(value.name for value in graph.input),
        outputs=tuple(value.name for value in graph.output),
        constants=constants,
    )


def _node(node: onnx.NodeProto, versions: dict[str, int]) -> Node:
    domain = _NAMES.get(node.domain, node.domain)
    attributes = {one.name: _attribute(one, versions) for one in node.attribute}
    inputs, outputs = tuple(node.input), tuple(node.output)
    return Node(node.name, node.op_type, domain, versions.get(domain, 1), inputs, outputs, attributes)


def _attribute(attribute: onnx.AttributeProto, versions: dict[str, int]) -> Any:
    kind = onnx.AttributeProto
    if attribute.type == kind.GRAPH:
        return _graph(attribute.g, versions)
    if attribute.type == kind.TENSOR:
        return _constant(attribute.t)
    if attribute.type == kind.STRING:
        return attribute.s.decode(errors="replace")
    if attribute.type in (kind.FLOAT, kind.INT, kind.FLOATS, kind.INTS, kind.STRINGS):
        return onnx.helper.get_attribute_value(attribute)
    return attribute.type


def _constant(tensor: onnx.TensorProto) -> Constant:
    shape = tuple(tensor.dims)
    is_small = int(np.prod(shape, dtype=np.int64)) <= MAX_VALUES
    is_number = tensor.data_type not in _NOT_NUMBERS
    if not is_small or not is_number or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return Constant(shape)
    return Constant(shape, numpy_helper.to_array(tensor))


def _types(names: Iterable[str]) -> frozenset[int]:
    return frozenset(onnx.TensorProto.DataType.Value(name) for name in names)


_NOT_NUMBERS = _types(("STRING", "COMPLEX64", "COMPLEX128", "BFLOAT16", "INT4", "UINT4", "FLOAT4E2M1"))
