"""A large file is read without its weights: by the same facts, in the memory of its graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.onnx_file import read_model
from registry.onnx_skim import KEPT_BYTES, skimmed

READS = (
    "import sys, resource; from pathlib import Path; from registry.onnx_file import read_model; "
    "read_model(Path(sys.argv[1])); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def saved(path: Path, elements: int) -> Path:
    weights = numpy_helper.from_array(np.arange(elements, dtype=np.float32).reshape(1, elements), "w")
    small = numpy_helper.from_array(np.float32(2), "two")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Mul", ["m", "two"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", elements])],
        [weights, small],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_only_large_raw_contents_are_left_out(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", 10_000)
    content = path.read_bytes()
    whole, read = onnx.load_model_from_string(content), onnx.load_model_from_string(skimmed(memoryview(content)))
    assert len(read.graph.initializer[0].raw_data) == 0
    whole.graph.initializer[0].ClearField("raw_data")
    assert read == whole


def test_what_is_small_stays_as_it_is(tmp_path: Path) -> None:
    content = saved(tmp_path / "m.onnx", KEPT_BYTES // 4).read_bytes()
    assert onnx.load_model_from_string(skimmed(memoryview(content))) == onnx.load_model_from_string(content)


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_broken_framing_is_told(tmp_path: Path, cut: int) -> None:
    content = saved(tmp_path / "m.onnx", 4).read_bytes()
    with pytest.raises(ValueError, match=r"longer than its message|cut off|wire type"):
        skimmed(memoryview(content[:-cut]))


def test_a_large_file_costs_no_memory(tmp_path: Path) -> None:
    size = 100 << 20
    small, large = saved(tmp_path / "s.onnx", 4), saved(tmp_path / "l.onnx", size // 4)
    peaks = [
        int(subprocess.run([sys.executable, "-c", READS, str(path)], capture_output=True, text=True, check=True).stdout) * 1024
        for path in (small, large)
    ]
    assert peaks[1] - peaks[0] < size // 4
    assert read_model(large).size_bytes > size
