"""Tiny ONNX models whose answers tell which version gave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def scaler(path: Path, factor: float, *, name: str = "x") -> Path:
    """[N, 2] float32 ``x`` times ``factor`` is ``y``."""
    constant = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    graph = helper.make_graph(
        [helper.make_node("Mul", [name, "factor"], ["y"])],
        "scaler",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [constant],
    )
    return _saved(graph, path)


def one_row_only(path: Path, factor: float) -> Path:
    """A scaler that fails on more than one row, although its signature takes any number."""
    constants = [
        numpy_helper.from_array(np.array(factor, np.float32), "factor"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "shape"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["row"]), helper.make_node("Mul", ["row", "factor"], ["y"])],
        "one_row_only",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", 2])],
        constants,
    )
    return _saved(graph, path)


def seven_wide(path: Path, factor: float) -> Path:
    """[N, M] float32 ``x``, which in truth has to be 7 wide; ``y`` is factor times the sum of each row."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        "seven_wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "M"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(np.full((7, 1), factor, np.float32), "weights")],
    )
    return _saved(graph, path)


def classifier(path: Path) -> Path:
    """[N, 3] float32 ``scores``: the place of the largest is ``label``, an int64 a row."""
    graph = helper.make_graph(
        [helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0)],
        "classifier",
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])],
    )
    return _saved(graph, path)


def cast_label(path: Path, datatype: int) -> Path:
    """[N] float32 ``x`` is ``label`` of another datatype (`TensorProto.BOOL` etc.)."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["label"], to=datatype)],
        "cast_label",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("label", datatype, ["N"])],
    )
    return _saved(graph, path)


def false_scores(path: Path, *, declared: int, columns: int) -> Path:
    """[N, 2] float32 ``x`` to ``probs``, whose file says [N, declared] although it has another number of columns."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["probs"])],
        "false_scores",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["N", declared])],
        [numpy_helper.from_array(np.ones((2, columns), np.float32), "weights")],
    )
    return _saved(graph, path)


def fraud(path: Path, *, shift: float = 0.0, words: tuple[str, ...] = (), scores: str = "probabilities") -> Path:
    """
    [N, 2] float32 ``x`` and a shift of the first column are the scores; ``label`` is the position of the largest, or its
    word. Without a name for the scores they are not given.
    """
    constants = [numpy_helper.from_array(np.array([shift, 0], np.float32), "shift")]
    nodes = [helper.make_node("Add", ["x", "shift"], [scores or "hidden"])]
    outputs = [helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["N", 2])] if scores else []
    nodes.append(helper.make_node("ArgMax", [scores or "hidden"], ["at" if words else "label"], axis=1, keepdims=0))
    if words:
        constants.append(helper.make_tensor("words", TensorProto.STRING, [len(words)], [word.encode() for word in words]))
        nodes.append(helper.make_node("Gather", ["words", "at"], ["label"]))
    kind = TensorProto.STRING if words else TensorProto.INT64
    outputs.append(helper.make_tensor_value_info("label", kind, ["N"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])]
    return _saved(helper.make_graph(nodes, "fraud", inputs, outputs, constants), path)


def ratio(path: Path) -> Path:
    """[N] int32 ``a`` divided by ``b`` is ``y``. The least int32 by -1 ends the process that runs it: SIGFPE."""
    tensors = {name: helper.make_tensor_value_info(name, TensorProto.INT32, ["N"]) for name in ("a", "b", "y")}
    graph = helper.make_graph(
        [helper.make_node("Div", ["a", "b"], ["y"])], "ratio", [tensors["a"], tensors["b"]], [tensors["y"]]
    )
    return _saved(graph, path)


def safe_ratio(path: Path) -> Path:
    """The same by way of float64, which no input ends."""
    tensors = {name: helper.make_tensor_value_info(name, TensorProto.INT32, ["N"]) for name in ("a", "b", "y")}
    nodes = [
        helper.make_node("Cast", ["a"], ["a64"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["b"], ["b64"], to=TensorProto.DOUBLE),
        helper.make_node("Div", ["a64", "b64"], ["y64"]),
        helper.make_node("Cast", ["y64"], ["y"], to=TensorProto.INT32),
    ]
    return _saved(helper.make_graph(nodes, "safe_ratio", [tensors["a"], tensors["b"]], [tensors["y"]]), path)


def slow(path: Path) -> Path:
    """[N, 2] float32 ``x`` comes back as ``y`` after as many products of two matrices (0.1 ms each) as its largest says."""
    size = 256
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m_in", "weights"], ["m_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m_in", TensorProto.FLOAT, [size, size]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m_out", TensorProto.FLOAT, [size, size]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["rounds"], to=TensorProto.INT64),
            helper.make_node("Loop", ["rounds", "go", "weights"], ["end"], body=body),
            helper.make_node("ReduceSum", ["end"], ["small"], keepdims=0),
            helper.make_node("Mul", ["small", "zero"], ["nothing"]),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(np.eye(size, dtype=np.float32), "weights"),
            numpy_helper.from_array(np.array(True), "go"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
        ],
    )
    return _saved(graph, path)


def broken(path: Path) -> Path:
    """The first half of a model file."""
    whole = scaler(path, 2.0).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def text(path: Path) -> Path:
    """No model at all."""
    path.write_text("this is a text, not a model\n" * 10)
    return path


def pointing_outside(path: Path) -> Path:
    """Its weights are said to lie outside the model's folder."""
    tensor = TensorProto(name="factor", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret.bin")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "outside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def _saved(graph: onnx.GraphProto, path: Path) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path
