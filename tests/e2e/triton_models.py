"""The models that Triton's example clients call, as ONNX: sums and differences of two rows of 16 numbers, or of texts."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper

SHAPE = [1, 16]
KINDS = {"simple": TensorProto.INT32, "simple_int8": TensorProto.INT8, "simple_string": TensorProto.STRING}


def write(folder: Path) -> dict[str, Path]:
    """Writes the models; returns their files by name."""
    return {
        **{name: _arithmetic(kind, folder / f"{name}.onnx") for name, kind in KINDS.items()},
        "simple_identity": _saved(
            [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
            TensorProto.STRING,
            {"INPUT0": ["n", 16]},
            {"OUTPUT0": ["n", 16]},
            folder / "simple_identity.onnx",
        ),
        "scores": _saved(
            [helper.make_node("Neg", ["INPUT0"], ["OUTPUT0"])],
            TensorProto.FLOAT,
            {"INPUT0": ["n", 4]},
            {"OUTPUT0": ["n", 4]},
            folder / "scores.onnx",
        ),
    }


def _arithmetic(kind: int, path: Path) -> Path:
    """OUTPUT0 is INPUT0 + INPUT1, OUTPUT1 is INPUT0 - INPUT1, calculated as INT32."""
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["a"], to=TensorProto.INT32),
        helper.make_node("Cast", ["INPUT1"], ["b"], to=TensorProto.INT32),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=kind),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=kind),
    ]
    inputs, outputs = ({f"{name}{index}": SHAPE for index in (0, 1)} for name in ("INPUT", "OUTPUT"))
    return _saved(nodes, kind, inputs, outputs, path)


def _saved(nodes: list[NodeProto], kind: int, inputs: dict[str, list], outputs: dict[str, list], path: Path) -> Path:
    given, told = (
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in specs.items()] for specs in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, path.stem, given, told)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
