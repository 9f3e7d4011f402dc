"""The trial run finds the facts, and whatever a model does, it does it to the child."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from gateway.runtime.trial import trial
from registry.errors import InvalidModel, InvalidValue
from registry.examples import Example, ExampleTensor
from registry.versions import Prediction, PredictionKind, RowProof

sys.path.append(str(Path(__file__).parent.parent / "serving"))
from plane_models import model, save, scale, tensor


def test_class_names_must_fit_the_scores_of_a_run_whatever_the_file_declares(tmp_path):
    weights = numpy_helper.from_array(np.ones((2, 7), np.float32), "w")
    inputs, outputs = [tensor("x", T.FLOAT, ["n", 2])], [tensor("probs", T.FLOAT, ["n", 10])]
    path = save(model([helper.make_node("MatMul", ["x", "w"], ["probs"])], inputs, outputs, [weights]), tmp_path / "m.onnx")
    told = Prediction("probs", PredictionKind.SCORES, tuple("abcdefghij"))
    with pytest.raises(InvalidValue, match="output 'probs': 10 class names for 7 columns") as refused:
        trial(path, prediction=told)
    assert refused.value.metadata["field"] == "prediction.classes"


def test_a_trial_finds_signature_prediction_and_batching(tmp_path):
    facts = trial(save(scale(2, columns=1), tmp_path / "m.onnx"))
    assert [str(spec) for spec in facts.signature.inputs] == ["x: FP32 [?, 1]"]
    assert facts.prediction == Prediction("y", PredictionKind.VALUE)
    assert facts.is_batchable


def test_a_named_prediction_is_checked(tmp_path):
    path = save(scale(2), tmp_path / "m.onnx")
    assert trial(path, prediction=Prediction("y", PredictionKind.SCORES)).prediction.kind is PredictionKind.SCORES
    with pytest.raises(InvalidValue, match="nothing"):
        trial(path, prediction=Prediction("nothing", PredictionKind.SCORES))


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", scale(2).SerializeToString()[:60]])
def test_what_is_no_model_is_refused(content, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModel):
        trial(path)


def test_an_endless_model_is_stopped(tmp_path):
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep"], ["keep_out"]), helper.make_node("Identity", ["s"], ["s_out"])],
        "body",
        [tensor("i", T.INT64, []), tensor("keep", T.BOOL, []), tensor("s", T.FLOAT, ["n", 1])],
        [tensor("keep_out", T.BOOL, []), tensor("s_out", T.FLOAT, ["n", 1])],
    )
    true = numpy_helper.from_array(np.array(True), "true")
    endless = model(
        [helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)],
        [tensor("x", T.FLOAT, ["n", 1])],
        [tensor("y", T.FLOAT, ["n", 1])],
        [true],
    )
    with pytest.raises(InvalidModel, match=r"did not end within 3 s|SIGXCPU|SIGKILL"):
        trial(save(endless, tmp_path / "m.onnx"), timeout_s=3)


def test_a_bomb_dies_in_the_child(tmp_path):
    size = numpy_helper.from_array(np.array([1 << 36], np.int64), "size")
    bomb = model(
        [helper.make_node("ConstantOfShape", ["size"], ["big"]), helper.make_node("Add", ["x", "big"], ["y"])],
        [tensor("x", T.FLOAT, [1])],
        [tensor("y", T.FLOAT, ["n"])],
        [size],
    )
    with pytest.raises(InvalidModel):
        trial(save(bomb, tmp_path / "m.onnx"), memory_bytes=2 << 30, timeout_s=30)


def example(array: np.ndarray, datatype: str = "FP32", name: str = "") -> Example:
    return Example((ExampleTensor("x", datatype, array.shape, array.tobytes()),), name)


def seven_wide(*nodes):
    """Takes any width by its signature, and seven in truth."""
    weights = numpy_helper.from_array(np.ones((7, 2), np.float32), "w")
    product = helper.make_node("MatMul", ["x", "w"], ["product"])
    last = nodes or (helper.make_node("Identity", ["product"], ["y"]),)
    return model([product, *last], [tensor("x", T.FLOAT, ["n", "m"])], [tensor("y", T.FLOAT, ["n", 2])], [weights])


def shifted_lookup():
    """y = table[x - 100]: no small index is in range."""
    shift = numpy_helper.from_array(np.array(100, np.int64), "shift")
    table = numpy_helper.from_array(np.arange(10, dtype=np.float32), "table")
    nodes = [helper.make_node("Sub", ["x", "shift"], ["at"]), helper.make_node("Gather", ["table", "at"], ["y"])]
    return model(nodes, [tensor("x", T.INT64, ["n"])], [tensor("y", T.FLOAT, ["n"])], [shift, table])


ROWS = np.arange(14, dtype=np.float32).reshape(2, 7)


def test_examples_show_what_random_inputs_cannot(tmp_path):
    path = save(seven_wide(), tmp_path / "m.onnx")
    assert trial(path).batching_reason == "no input of 2 rows was found that the model runs on"
    facts = trial(path, examples=[example(ROWS)])
    assert (facts.is_batchable, facts.row_proof) == (True, RowProof.PROVED)


def test_rows_of_examples_that_depend_on_each_other_are_found(tmp_path):
    path = save(seven_wide(helper.make_node("Softmax", ["product"], ["y"], axis=0)), tmp_path / "m.onnx")
    facts = trial(path, examples=[example(ROWS[:1]), example(ROWS[1:])])
    assert (facts.is_batchable, facts.row_proof) == (False, RowProof.NOT_PROVED)
    assert "node y (Softmax) mixes rows" in facts.batching_reason


def test_equal_rows_show_nothing(tmp_path):
    path = save(seven_wide(helper.make_node("Softmax", ["product"], ["y"], axis=0)), tmp_path / "m.onnx")
    facts = trial(path, examples=[example(ROWS[[0, 0]]), example(ROWS[:1])])
    assert not facts.is_batchable
    assert "the examples have no two different rows" in facts.batching_reason


def test_a_model_that_runs_on_no_made_up_input_is_admitted_with_an_example(tmp_path):
    path = save(shifted_lookup(), tmp_path / "m.onnx")
    with pytest.raises(InvalidModel, match="register it with an example"):
        trial(path)
    facts = trial(path, examples=[example(np.array([100, 109], np.int64), "INT64")])
    assert facts.is_batchable


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (example(ROWS[:, :5], name="b.json"), r"examples\[1\] \(b.json\): the model does not run on it: "),
        (example(ROWS.astype(np.float64), "FP64"), r"examples\[1\]: input 'x': expected x: FP32 \[\?, \?\], got FP64 \[2, 7\]"),
        (Example((ExampleTensor("x", "FP32", (2, 7), b"12"),)), r"examples\[1\]: .* is 56 bytes, got 2"),
    ],
)
def test_an_example_that_does_not_run_is_refused_saying_which_and_why(wrong, reason, tmp_path):
    with pytest.raises(InvalidValue, match=reason) as error:
        trial(save(seven_wide(), tmp_path / "m.onnx"), examples=[example(ROWS), wrong])
    assert error.value.metadata["field"] == "examples[1]"
