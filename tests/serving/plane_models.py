"""Small ONNX models for every corner of what ONNX Runtime runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from gateway.protocol.pb import inference_pb2 as pb

F = TensorProto.FLOAT


def model(nodes: list, inputs: list, outputs: list, initializers: list | None = None) -> ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers or [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def tensor(name: str, kind: int = F, shape: list | None = ()) -> object:
    return helper.make_tensor_value_info(name, kind, list(shape) if shape is not None else None)


def scale(factor: float, columns: int = 4) -> ModelProto:
    """y = factor * x, rows independent."""
    constant = numpy_helper.from_array(np.array(factor, np.float32), "k")
    return model(
        [helper.make_node("Mul", ["x", "k"], ["y"])],
        [tensor("x", F, ["n", columns])],
        [tensor("y", F, ["n", columns])],
        [constant],
    )


def identity(kind: int, shape: list | None) -> ModelProto:
    return model([helper.make_node("Identity", ["x"], ["y"])], [tensor("x", kind, shape)], [tensor("y", kind, shape)])


def batch_mean() -> ModelProto:
    """y = x - mean over the first axis: the first axis varies and the rows are NOT independent."""
    nodes = [
        helper.make_node("Constant", [], ["zero"], value=numpy_helper.from_array(np.array([0], np.int64))),
        helper.make_node("ReduceMean", ["x", "zero"], ["m"], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    return model(nodes, [tensor("x", F, ["n", 4])], [tensor("y", F, ["n", 4])])


def lookup() -> ModelProto:
    """y = table[x]: an index out of range fails at run time only."""
    table = numpy_helper.from_array(np.arange(40, dtype=np.float32).reshape(10, 4), "table")
    return model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [tensor("x", TensorProto.INT64, ["n"])],
        [tensor("y", F, ["n", 4])],
        [table],
    )


def slow(rounds: int = 2000, columns: int = 4) -> ModelProto:
    """y = x after so many rounds of a loop: takes time in proportion."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["keep"], ["keep_out"]),
            helper.make_node("Mul", ["state", "one"], ["state_out"]),
        ],
        "body",
        [tensor("i", TensorProto.INT64, []), tensor("keep", TensorProto.BOOL, []), tensor("state", F, None)],
        [tensor("keep_out", TensorProto.BOOL, []), tensor("state_out", F, None)],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    nodes = [helper.make_node("Loop", ["rounds", "", "x"], ["y"], body=body)]
    count = numpy_helper.from_array(np.array(rounds, np.int64), "rounds")
    return model(nodes, [tensor("x", F, ["n", columns])], [tensor("y", F, ["n", columns])], [count])


def counted() -> ModelProto:
    """y = x after as many rounds of a loop as the request says: endless, if it likes."""
    proto = slow()
    proto.graph.initializer.pop()
    proto.graph.input.append(tensor("rounds", TensorProto.INT64, []))
    return proto


def save(proto: ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def ask(
    name: str, array: np.ndarray, *, tensor_name: str = "x", datatype: str = "FP32", version: str = ""
) -> pb.ModelInferRequest:
    """A request with one raw input."""
    request = pb.ModelInferRequest(model_name=name, model_version=version)
    request.inputs.add(name=tensor_name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    return request


def rounds(count: int) -> pb.ModelInferRequest:
    """A request to `counted`, loaded as "loop": one row, so many rounds."""
    request = ask("loop", np.ones((1, 4), np.float32))
    request.inputs.add(name="rounds", datatype="INT64", shape=[])
    request.raw_input_contents.append(np.int64(count).tobytes())
    return request


def answer(response: pb.ModelInferResponse, index: int = 0, dtype: type = np.float32) -> np.ndarray:
    """One raw output as an array."""
    return np.frombuffer(response.raw_output_contents[index], dtype).reshape(tuple(response.outputs[index].shape))
