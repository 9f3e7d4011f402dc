"""Classifiers exported with defaults, whose scores are maps, are served with the scores as a tensor."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton
from inside import Inside, gateway_inside
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from gateway.cli import main
from gateway.client import AdminClient, Client, Feedback

INPUTS, NUMBERS = load_iris(return_X_y=True)
INPUTS = INPUTS.astype(np.float32)
WORDS = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with gateway_inside(tmp_path_factory.mktemp("maps") / "home") as inside:
        yield inside


@pytest.fixture
def admin(gateway: Inside) -> Iterator[AdminClient]:
    with AdminClient(gateway.admin) as admin:
        yield admin


@pytest.mark.parametrize(
    ("name", "estimator", "labels"),
    [
        ("words", LogisticRegression(max_iter=500), WORDS),
        ("numbers", RandomForestClassifier(n_estimators=5, random_state=0), NUMBERS),
        ("binary", LogisticRegression(max_iter=500), NUMBERS == 1),
    ],
)
def test_a_classifier_exported_with_defaults_is_served(name, estimator, labels, gateway, admin, tmp_path, wait_for):
    if labels.dtype == np.bool_:
        labels = labels.astype(np.int64)
    estimator.fit(INPUTS, labels)
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(estimator, INPUTS[:1], target_opset={"": 21, "ai.onnx.ml": 3}).SerializeToString())
    operation = admin.register(name, path).result()
    classes = [str(one) for one in estimator.classes_]
    assert [step.detail for step in operation.steps if step.name == "score maps"] == [
        f"output 'output_probability' is a map a row; it is served as its scores, FP32 [?, {len(classes)}], "
        f"classes {', '.join(classes)}"
    ]
    version = operation.version
    assert (version.row_proof, version.prediction.output, version.prediction.kind, list(version.prediction.classes)) == (
        "proved",
        "output_probability",
        "scores",
        classes,
    )
    admin.deploy(name, 1).result()
    with Client(gateway.data) as client:
        answer = client.infer(name, INPUTS[:20])
        np.testing.assert_allclose(answer["output_probability"], estimator.predict_proba(INPUTS[:20]), atol=1e-5)
        (given,) = client.send_feedback(
            [Feedback(prediction_id=client.infer(name, INPUTS[:1]).prediction_id, label=classes[0])]
        )
    assert given.verdict in ("JOINED", "PENDING")
    told = wait_for(lambda: [one for one in admin.quality(name).versions if one.labelled])
    assert [(one.truth, one.predicted, one.count) for one in told[0].confusion] == [(classes[0], classes[0], 1)]


def test_register_prints_how_a_map_is_served(gateway, tmp_path, capsys):
    words = np.array(["[dim]", "b"])[NUMBERS % 2]  # brackets, which are markup in a terminal
    estimator = LogisticRegression(max_iter=500).fit(INPUTS, words)
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(estimator, INPUTS[:1], target_opset={"": 21, "ai.onnx.ml": 3}).SerializeToString())
    assert main(["register", "told", str(path), "--admin", gateway.admin]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "output 'output_probability' is a map a row; it is served as its scores, FP32 [?, 2], classes [dim], b" in said


def test_tritons_client_reads_the_scores(gateway, admin, tmp_path):
    estimator = LogisticRegression(max_iter=500).fit(INPUTS, WORDS)
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(estimator, INPUTS[:1], target_opset={"": 21, "ai.onnx.ml": 3}).SerializeToString())
    admin.register("triton", path).result()
    admin.deploy("triton", 1).result()
    with triton.InferenceServerClient(gateway.data) as client:
        given = triton.InferInput("X", [5, 4], "FP32")
        given.set_data_from_numpy(INPUTS[:5])
        scores = client.infer("triton", [given]).as_numpy("output_probability")
    np.testing.assert_allclose(scores, estimator.predict_proba(INPUTS[:5]), atol=1e-5)


def test_two_maps_of_which_one_is_the_prediction(gateway, admin, tmp_path):
    """As converters of gradient boosting write them: no label, the map of a tensor that is used elsewhere too."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["probabilities_tensor"], axis=1),
        helper.make_node("ZipMap", ["probabilities_tensor"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[7, 9]),
        helper.make_node("ZipMap", ["raw"], ["margins"], domain="ai.onnx.ml", classlabels_strings=["a", "b"]),
    ]
    weights = numpy_helper.from_array(np.array([[1, 0], [0, 1]], np.float32), "w")
    kinds = {"probabilities": TensorProto.INT64, "margins": TensorProto.STRING}
    score = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    outputs = [
        helper.make_value_info(name, helper.make_sequence_type_proto(helper.make_map_type_proto(kind, score)))
        for name, kind in kinds.items()
    ]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 2])], outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)])
    model.ir_version = 9
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    told = ("probabilities", "scores")
    version = admin.register("two", path, prediction=told).result().version
    assert list(version.prediction.classes) == ["7", "9"]
    admin.deploy("two", 1).result()
    with Client(gateway.data) as client:
        answer = client.infer("two", np.array([[0, 0], [3, 1]], np.float32))
        assert answer["margins"].tolist() == [[0, 0], [3, 1]]
        assert answer["probabilities"][0].tolist() == [0.5, 0.5]
