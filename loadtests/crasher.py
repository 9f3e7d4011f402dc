"""A model that ends the process that runs it, and a caller that sends it the request that does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from gateway.client import CallError, Client, RetryPolicy

MODEL = "ratio"
POISON = {"a": np.array([-(2**31)], np.int32), "b": np.array([-1], np.int32)}  # SIGFPE in ONNX Runtime 1.32
TIMEOUT_S = 10.0


def make(path: Path) -> Path:
    """Writes the model: INT32 a / b."""
    ends = [helper.make_tensor_value_info(name, TensorProto.INT32, ["N"]) for name in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("Div", ["a", "b"], ["y"])], MODEL, ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def crash(address: str, codes: Counter[str]) -> None:
    """Sends the request once, on a connection of its own, and counts what comes of it."""
    with Client(address, channels=1, retry=RetryPolicy(max_attempts=1)) as client:
        try:
            client.infer(MODEL, POISON, timeout_s=TIMEOUT_S)
            codes["OK"] += 1
        except CallError as error:
            codes[error.code] += 1
