"""A model's graph as plain values, as far as the proof needs it. Pure; `onnx_graph` makes it from an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Node:
    """
    One operator call. ``inputs`` and ``outputs`` are names of tensors, empty where one is left out. ``attributes`` are
    Python values, numpy arrays, or a `Graph` for a subgraph. ``version`` is the operator set's. ``domain`` is empty for ONNX.
    """

    name: str
    operator: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name or self.outputs[0]} ({self.operator})"


@dataclass(frozen=True, slots=True)
class Constant:
    """A weight: its shape, and its value if it is small."""

    shape: tuple[int, ...]
    value: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the order in which they can run. Names that neither a node nor the graph gives come from the graph around it."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]


def needed(graph: Graph) -> tuple[Node, ...]:
    """Returns the nodes that the outputs depend on, in order."""
    wanted = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(reads(node))
    return tuple(reversed(kept))


def reads(node: Node) -> set[str]:
    """Returns the tensors that a node reads, its subgraphs' from outside included."""
    names = {name for name in node.inputs if name}
    for value in node.attributes.values():
        if isinstance(value, Graph):
            names |= captured(value)
    return names


def captured(graph: Graph) -> set[str]:
    """Returns the tensors that a subgraph takes from the graph around it."""
    own = {*graph.inputs, *graph.constants, *(name for node in graph.nodes for name in node.outputs)}
    read = set(graph.outputs).union(*(reads(node) for node in graph.nodes))
    return read - own
