"""ONNX files for the scenarios: models that take a given time, are of a given size, or do nearly nothing with much data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT, ROUNDS = "x", "y", "rounds"
IMAGE = (1, 3, 224, 224)  # 602,112 bytes as FP32
BUSY_COLUMNS = 256
WIDE_COLUMNS = 2048  # a layer of 2048 × 2048 FP32 is 16 MiB
ENDLESS = 1 << 60
_F = TensorProto.FLOAT


def _save(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], constants: dict[str, NDArray[Any]]
) -> Path:
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "bench", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _tensor(name: str, shape: Sequence[int | str] | None, kind: int = _F) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def taster(path: Path) -> Path:
    """Takes IMAGE and answers two of its numbers: 8 bytes."""
    constants = {"starts": np.array([0, 0, 0]), "ends": np.array([1, 1, 2]), "axes": np.array([1, 2, 3])}
    node = helper.make_node("Slice", [INPUT, *constants], [OUTPUT])
    return _save(path, [node], [_tensor(INPUT, IMAGE)], [_tensor(OUTPUT, (1, 1, 1, 2))], constants)


def mirror(path: Path) -> Path:
    """Takes IMAGE and answers it, turned round: as many bytes out as in."""
    node = helper.make_node("Neg", [INPUT], [OUTPUT])
    return _save(path, [node], [_tensor(INPUT, IMAGE)], [_tensor(OUTPUT, IMAGE)], {})


def looping(path: Path, rounds: int | None) -> Path:
    """
    [1, 256] → [1, 256] through so many products with one orthogonal matrix, in a Loop; None: as many as the request's second
    input says. The first axis is fixed, so requests are never batched.
    """
    orthogonal = np.linalg.qr(np.random.default_rng(0).standard_normal((BUSY_COLUMNS, BUSY_COLUMNS)))[0].astype(np.float32)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_out"]), helper.make_node("MatMul", ["state", "weights"], ["state_out"])],
        "body",
        [_tensor("i", [], TensorProto.INT64), _tensor("go", [], TensorProto.BOOL), _tensor("state", None)],
        [_tensor("go_out", [], TensorProto.BOOL), _tensor("state_out", None)],
        [numpy_helper.from_array(orthogonal, "weights")],
    )
    shape = (1, BUSY_COLUMNS)
    inputs = [_tensor(INPUT, shape), *([_tensor(ROUNDS, [], TensorProto.INT64)] if rounds is None else [])]
    constants = {} if rounds is None else {ROUNDS: np.array(rounds, np.int64)}
    node = helper.make_node("Loop", [ROUNDS, "", INPUT], [OUTPUT], body=body)
    return _save(path, [node], inputs, [_tensor(OUTPUT, shape)], constants)


def busy(path: Path, milliseconds: float) -> tuple[Path, float]:
    """`looping` for about so long a run on this machine, and how long a run really takes alone, in milliseconds."""
    rounds = 200
    for _ in range(3):
        took_ms = run_ms(looping(path, rounds))
        rounds = max(1, round(rounds * milliseconds / took_ms))
    return looping(path, rounds), run_ms(path)


def wide(path: Path, mebibytes: int, seed: int) -> Path:
    """[rows, 2048] → [rows, 2048] through a chain of random matrices of so many MiB in all, all inside the file."""
    random, scale = np.random.default_rng(seed), 1 / np.sqrt(WIDE_COLUMNS)
    layers = max(1, mebibytes * 1024**2 // (4 * WIDE_COLUMNS**2))
    constants = {
        f"weights_{layer}": random.standard_normal((WIDE_COLUMNS, WIDE_COLUMNS), np.float32) * np.float32(scale)
        for layer in range(layers)
    }
    names = [INPUT, *(f"hidden_{layer}" for layer in range(1, layers)), OUTPUT]
    nodes = [helper.make_node("MatMul", [names[i], f"weights_{i}"], [names[i + 1]]) for i in range(layers)]
    return _save(path, nodes, [_tensor(INPUT, ["rows", WIDE_COLUMNS])], [_tensor(OUTPUT, ["rows", WIDE_COLUMNS])], constants)


def run_ms(path: Path, rows: int = 1, *, runs: int = 9) -> float:
    """The fastest of some runs alone on one thread, with zeros as input."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {
        one.name: np.zeros([n if isinstance(n, int) else rows for n in one.shape], np.float32) for one in session.get_inputs()
    }
    session.run(None, feed)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return min(times) * 1000
