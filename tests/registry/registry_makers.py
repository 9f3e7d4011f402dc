"""Small ONNX files and processes for the registry's tests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from registry.onnx_file import read_model
from registry.registry import Registry
from registry.versions import Facts, ModelVersion


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


def tensor(
    name: str, kind: int = TensorProto.FLOAT, shape: Sequence[int | str | None] | None = (None, 2)
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    nodes: Sequence[onnx.NodeProto] = (),
    initializers: Sequence[onnx.TensorProto] = (),
    ir_version: int = 9,
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=ir_version)


def write_model(path: Path, model: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def write_adder(path: Path, amount: float = 1.0) -> Path:
    """A model of a few bytes: y = x + amount."""
    node = helper.make_node("Add", ["x", "amount"], ["y"])
    weight = helper.make_tensor("amount", TensorProto.FLOAT, [2], [amount, amount])
    return write_model(path, model_of([tensor("x")], [tensor("y")], nodes=[node], initializers=[weight]))


def external(name: str, location: str, **entries: object) -> onnx.TensorProto:
    """A weight of two floats that lies in another file."""
    weight = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(value))
    return weight


def write_external(path: Path, location: str, **entries: object) -> Path:
    """A model whose only weight lies in ``location``."""
    weight = external("amount", location, **entries)
    node = helper.make_node("Add", ["x", "amount"], ["y"])
    return write_model(path, model_of([tensor("x")], [tensor("y")], nodes=[node], initializers=[weight]))


def register_adder(
    registry: Registry, folder: Path, model: str = "digits", amount: float = 1.0, **options: object
) -> ModelVersion:
    source = write_adder(folder / f"adder-{amount:g}" / "model.onnx", amount)
    return registry.register(model, source, facts=Facts(read_model(source).signature), **options)  # type: ignore[arg-type]


def processes() -> multiprocessing.context.ForkServerContext:
    """Real processes that have imported the registry already: each starts in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["registry.registry", "numpy"])
    return context
