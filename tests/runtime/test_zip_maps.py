"""Maps of scores become tensors of scores wherever a model is loaded, and maps that do not fit their scores are refused."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from layout_models import SIDE
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from gateway.runtime import onnx as onnx_sessions
from gateway.runtime.onnx import OnnxSession
from gateway.runtime.trial import trial
from registry.errors import InvalidModel
from registry.serving_layout import MODEL_FILE, rewrite
from registry.versions import Prediction, PredictionKind, RowProof

ML = helper.make_opsetid("ai.onnx.ml", 1)
BOTH = (helper.make_opsetid("", 17), ML)
IDENTITY = helper.make_node("Identity", ["x"], ["scores"])


def maps(name: str, key: int) -> onnx.ValueInfoProto:
    """An output that is a sequence of maps from ``key`` to FP32."""
    value = helper.make_map_type_proto(key, helper.make_tensor_type_proto(T.FLOAT, []))
    return helper.make_value_info(name, helper.make_sequence_type_proto(value))


def zip_map(scores: str, output: str, labels: list) -> onnx.NodeProto:
    attribute = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    return helper.make_node("ZipMap", [scores], [output], domain="ai.onnx.ml", **{attribute: labels})


def saved(path: Path, nodes: list, outputs: list, *, weights=(), opsets=BOTH, width: int = 2, rank: int = 2) -> Path:
    inputs = [helper.make_tensor_value_info("x", T.FLOAT, ["n", width][-rank:])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    path.write_bytes(helper.make_model(graph, opset_imports=list(opsets), ir_version=8).SerializeToString())
    return path


def boosted(path: Path, labels: list) -> Path:
    """Trees as converters of gradient boosting write them: a label, a map, and no operator of the default domain."""
    count = len(labels)
    attribute = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_int64s"
    trees = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "probability_tensor"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0] * 2 * count,
        class_nodeids=[1] * count + [2] * count,
        class_ids=list(range(count)) * 2,
        class_weights=[*map(float, range(count)), *map(float, range(count, 0, -1))],
        post_transform="SOFTMAX",
        **{attribute: labels},
    )
    key = T.STRING if isinstance(labels[0], str) else T.INT64
    outputs = [helper.make_tensor_value_info("label", key, ["n"]), maps("probabilities", key)]
    return saved(path, [trees, zip_map("probability_tensor", "probabilities", labels)], outputs, opsets=[ML])


@pytest.mark.parametrize("labels", [["no", "yes"], ["a", "b", "c"], [0, 1], [7, -1, 9]])
def test_boosted_trees_without_the_default_domain_give_the_scores_of_their_maps(labels, tmp_path):
    path = boosted(tmp_path / "m.onnx", labels)
    facts = trial(path)
    assert facts.prediction == Prediction("probabilities", PredictionKind.SCORES, tuple(map(str, labels)))
    assert facts.row_proof is RowProof.PROVED
    x = np.array([[0, 0], [1, 0]], np.float32)
    (scores,) = OnnxSession(path).run(["probabilities"], {"x": x})
    original = onnx_sessions.ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = original.run(["probabilities"], {"x": x})
    assert [dict(zip(labels, row, strict=True)) for row in scores.tolist()] == expected


@pytest.mark.parametrize("labels", [["a", "b", "c"], [1]])
def test_classes_that_are_not_as_many_as_the_scores_are_refused_since_the_file_fails_on_every_request(labels, tmp_path):
    key = T.STRING if isinstance(labels[0], str) else T.INT64
    path = saved(tmp_path / "m.onnx", [IDENTITY, zip_map("scores", "p", labels)], [maps("p", key)])
    with pytest.raises(InvalidModel, match=f"output 'p': its map has {len(labels)} class names for 2 columns"):
        trial(path)


def test_a_map_of_scores_without_rows_is_refused(tmp_path):
    path = saved(tmp_path / "m.onnx", [IDENTITY, zip_map("scores", "p", ["a", "b"])], [maps("p", T.STRING)], rank=1)
    with pytest.raises(InvalidModel, match=r"output 'p': its scores have the shape \[2\], expected \[rows, classes\]"):
        trial(path)


def test_classes_of_the_same_name_are_refused(tmp_path):
    path = saved(tmp_path / "m.onnx", [IDENTITY, zip_map("scores", "p", ["a", "a "])], [maps("p", T.STRING)])
    with pytest.raises(InvalidModel, match="output 'p' is a map a row in which 2 classes are named 'a'"):
        trial(path)


def test_of_several_maps_the_one_taken_for_the_prediction_keeps_its_class_names(tmp_path):
    nodes = [IDENTITY, zip_map("scores", "margins", [3, 4]), zip_map("scores", "probabilities", ["a", "b"])]
    path = saved(tmp_path / "m.onnx", nodes, [maps("margins", T.INT64), maps("probabilities", T.STRING)])
    assert trial(path).prediction == Prediction("probabilities", PredictionKind.SCORES, ("a", "b"))


def classifier(path: Path) -> Path:
    """A large weight before a map."""
    weight = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"]), zip_map("scores", "p", list(range(SIDE)))]
    weights = [numpy_helper.from_array(weight, "w")]
    return saved(path, nodes, [maps("p", T.INT64)], weights=weights, width=SIDE)


def test_large_weights_outside_the_file_are_found_and_give_the_same_scores(tmp_path):
    path = classifier(tmp_path / "m.onnx")
    (tmp_path / "layout").mkdir()
    assert rewrite(path, tmp_path / "layout")
    x = np.random.default_rng(1).standard_normal((3, SIDE)).astype(np.float32)
    expected, got = (OnnxSession(one).run(["p"], {"x": x})[0] for one in (path, tmp_path / "layout" / MODEL_FILE))
    np.testing.assert_array_equal(got, expected)


def test_a_model_with_maps_is_in_memory_once_while_it_is_loaded(tmp_path, monkeypatch):
    opened: list[weakref.ref] = []
    open_model = onnx_sessions._opened

    def watched(*arguments):
        assert [one for one in opened if one() is not None] == []
        session = open_model(*arguments)
        opened.append(weakref.ref(session))
        return session

    monkeypatch.setattr(onnx_sessions, "_opened", watched)
    assert [str(spec) for spec in OnnxSession(classifier(tmp_path / "m.onnx")).signature.outputs] == [f"p: FP32 [?, {SIDE}]"]
    assert len(opened) == 2
