"""Models with large weights of every kind that an ONNX file can keep them in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 512  # 1 MiB a matrix


def chain(path: Path, seeds: list[int], *, side: int = SIDE, batch: str | int = "n") -> Path:
    """x times one matrix per seed: [batch, side] to [batch, side]; equal seeds give equal matrices."""
    weights = [
        numpy_helper.from_array(
            (np.random.default_rng(seed).standard_normal((side, side)) / side**0.5).astype(np.float32), f"w{place}"
        )
        for place, seed in enumerate(seeds)
    ]
    nodes = [
        helper.make_node("MatMul", [f"h{place}" if place else "x", weight.name], [f"h{place + 1}"])
        for place, weight in enumerate(weights)
    ]
    return saved(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, side])],
        [helper.make_tensor_value_info(f"h{len(seeds)}", TensorProto.FLOAT, [batch, side])],
        weights,
        path,
    )


def saved(nodes: list, inputs: list, outputs: list, weights: list, path: Path, **graph: object) -> Path:
    made = helper.make_graph(nodes, "g", inputs, outputs, weights, **graph)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def with_everything(path: Path) -> Path:
    """A large weight in the main graph, one in a branch, one as an attribute, a sparse one, a scalar, strings."""
    random = np.random.default_rng(0)

    def floats(name: str) -> onnx.TensorProto:
        return numpy_helper.from_array(random.standard_normal((SIDE, SIDE)).astype(np.float32), name)

    def branch(name: str, weight: onnx.TensorProto) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, ["n", SIDE])
        return helper.make_graph([helper.make_node("MatMul", ["x", weight.name], [f"{name}_y"])], name, [], [out], [weight])

    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(2, np.float32), "sparse"), numpy_helper.from_array(np.array([3, 7]), "at"), [SIDE]
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=floats("c_value")),
        helper.make_node("MatMul", ["x", "main"], ["a"]),
        helper.make_node("MatMul", ["a", "c"], ["b"]),
        helper.make_node(
            "If", ["yes"], ["d"], then_branch=branch("then", floats("tw")), else_branch=branch("other", floats("ow"))
        ),
        helper.make_node("Add", ["b", "d"], ["e"]),
        helper.make_node("Mul", ["e", "factor"], ["f"]),
        helper.make_node("Add", ["f", "sparse"], ["y"]),
        helper.make_node("Identity", ["words"], ["w"]),
    ]
    return saved(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIDE])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", SIDE]),
            helper.make_tensor_value_info("w", TensorProto.STRING, [2]),
        ],
        [
            floats("main"),
            numpy_helper.from_array(np.array(True), "yes"),
            numpy_helper.from_array(np.array(2, np.float32), "factor"),
            helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"]),
        ],
        path,
        sparse_initializer=[sparse],
    )


def random_answers(path: Path) -> Path:
    """A large weight, and answers that differ from run to run."""
    weight = numpy_helper.from_array(np.ones((SIDE, SIDE), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("RandomNormalLike", ["h"], ["y"])]
    return saved(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", SIDE])],
        [weight],
        path,
    )
