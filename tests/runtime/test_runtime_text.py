"""What the runtime says reaches callers without places in its source code and without folders of this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from gateway.runtime.onnx import OnnxSession
from gateway.runtime.runtime_text import caller_text
from gateway.runtime.session import LoadRefused, RunFailed
from gateway.runtime.trial import trial
from registry.errors import InvalidModel

sys.path.append(str(Path(__file__).parent.parent / "serving"))
from plane_models import model, save, tensor

SOURCE = re.compile(r"onnxruntime_src|\.(?:cc|h|cpp):\d+")
F = TensorProto.FLOAT
X, Y = tensor("x", F, ["n", 4]), tensor("y", F, ["n", 4])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /home/a b/artifacts/m.onnx failed:/onnxruntime_src/onnxruntime/"
            "core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&, const "
            "onnxruntime::IOnnxRuntimeOpSchemaRegistryList*) Unsupported model IR version: 99, max supported IR version: 14\n",
            "Unsupported model IR version: 99, max supported IR version: 14",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/model_load_utils.h:46 void onnxruntime::"
            "model_load_utils::ValidateOpsetForDomain(const std::unordered_map<std::__cxx11::basic_string<char>, int>&, bool) "
            "ONNX Runtime only *guarantees* support for (some) models",
            "ONNX Runtime only *guarantees* support for (some) models",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running MatMul node. Name:'/encoder/layer.0/"
            "MatMul' Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch",
            "Non-zero status code returned while running MatMul node. Name:'/encoder/layer.0/MatMul' Status Message: "
            "MatMul dimension mismatch",
        ),
        (
            "External data path validation failed for initializer: w. Error: tensorprotoutils.cc:619 ValidateIt External data "
            'path does not exist: "/data/home/artifacts/ab/gone.bin"',
            'External data path validation failed for initializer: w. Error: External data path does not exist: "gone.bin"',
        ),
        (
            "std::function<void(int)> at a.cc:7 ns::Type::operator()(void (*)(int)) const failed",
            "std::function<void(int)> at failed",
        ),
        ("invalid value /etc/passwd of input x", "invalid value /etc/passwd of input x"),
        ("", ""),
    ],
)
def test_a_message_keeps_what_it_says(said: str, told: str) -> None:
    assert caller_text(said, ["/data/home/artifacts", "/data/home/artifacts/ab"]) == told


def broken(node: NodeProto, *, ir_version: int = 9, opset: int = 18, weights: TensorProto | None = None) -> ModelProto:
    graph = helper.make_graph([node], "g", [X], [Y], [weights] if weights else [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def external() -> TensorProto:
    weights = TensorProto(name="w", data_type=F, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value="gone.bin")
    return weights


LOADS = {
    "newer": broken(helper.make_node("Identity", ["x"], ["y"]), ir_version=99),
    "opset": broken(helper.make_node("Identity", ["x"], ["y"]), opset=99),
    "operator": broken(helper.make_node("Nope", ["x"], ["y"])),
    "input": broken(helper.make_node("Add", ["x", "q"], ["y"])),
    "external": broken(helper.make_node("Add", ["x", "w"], ["y"]), weights=external()),
}


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize("is_link", [False, True], ids=["file", "link"])
def test_a_model_that_cannot_be_loaded_is_refused_without_paths(tmp_path: Path, kind: str, is_link: bool) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    path = save(LOADS[kind], folder / "m.onnx")
    if is_link:
        (tmp_path / "link").symlink_to(folder)
        path = tmp_path / "link" / "m.onnx"
    with pytest.raises(LoadRefused) as refused:
        OnnxSession(path)
    assert str(refused.value)
    assert str(tmp_path) not in str(refused.value)
    assert not SOURCE.search(str(refused.value))


def reshaped() -> ModelProto:
    """Takes one row only, whatever it says."""
    shape = numpy_helper.from_array(np.array([1, 4], np.int64), "shape")
    return model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"], name="/a/b/Reshape")], [X], [tensor("y", F, None)], [shape]
    )


def test_a_failed_run_is_told_without_places_in_the_source(tmp_path: Path) -> None:
    session = OnnxSession(save(reshaped(), tmp_path / "m.onnx"))
    with pytest.raises(RunFailed, match=r"Name:'/a/b/Reshape' .*Input shape:\{3,4\}, requested shape:\{1,4\}") as failed:
        session.run(["y"], {"x": np.ones((3, 4), np.float32)})
    assert not SOURCE.search(str(failed.value))


def never() -> ModelProto:
    """Runs on no input of its signature."""
    shape = numpy_helper.from_array(np.array([7], np.int64), "shape")
    return model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], [tensor("x", F, ["n", 4])], [tensor("y", F, [7])], [shape]
    )


@pytest.mark.parametrize("make", [never, lambda: LOADS["newer"]])
def test_a_registration_is_refused_with_the_runtimes_own_reason(tmp_path: Path, make: Callable[[], ModelProto]) -> None:
    with pytest.raises(InvalidModel) as refused:
        trial(save(make(), tmp_path / "m.onnx"))
    text = str(refused.value)
    assert str(tmp_path) not in text
    assert not SOURCE.search(text)
    if make is never:
        assert "register it with an example; the runtime says: Non-zero status code" in text
        assert "Input shape:{1,4}, requested shape:{7}" in text
