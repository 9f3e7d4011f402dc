"""The proof on a corpus: every model that mixes rows is found, with the node named, and every independent one is proved."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from independent_models import HAND_MADE
from mixing_models import MODELS, optional_scale
from skl2onnx import to_onnx
from sklearn import (
    calibration,
    cluster,
    decomposition,
    ensemble,
    gaussian_process,
    linear_model,
    mixture,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.datasets import load_iris

from gateway.runtime.onnx import OnnxSession
from gateway.runtime.proof.verdict import Verdict, row_verdict
from registry.versions import RowProof

SKLEARN = {
    type(one).__name__: one
    for one in (
        linear_model.LogisticRegression(),
        linear_model.LinearRegression(),
        linear_model.SGDClassifier(loss="log_loss"),
        linear_model.Perceptron(),
        linear_model.PoissonRegressor(),
        svm.SVC(probability=False),
        svm.SVR(),
        svm.LinearSVC(),
        svm.OneClassSVM(),
        tree.DecisionTreeClassifier(),
        tree.DecisionTreeRegressor(),
        ensemble.RandomForestClassifier(n_estimators=5),
        ensemble.ExtraTreesRegressor(n_estimators=5),
        ensemble.GradientBoostingClassifier(n_estimators=5),
        ensemble.HistGradientBoostingRegressor(max_iter=5),
        ensemble.HistGradientBoostingClassifier(max_iter=5),
        ensemble.AdaBoostClassifier(n_estimators=5),
        ensemble.BaggingClassifier(n_estimators=3),
        ensemble.IsolationForest(n_estimators=5),
        ensemble.VotingClassifier(
            [("a", tree.DecisionTreeClassifier()), ("b", naive_bayes.GaussianNB())], voting="soft", flatten_transform=False
        ),
        ensemble.StackingClassifier([("a", tree.DecisionTreeClassifier())], linear_model.LogisticRegression()),
        neighbors.KNeighborsClassifier(),
        neighbors.KNeighborsRegressor(),
        neighbors.LocalOutlierFactor(novelty=True),
        naive_bayes.GaussianNB(),
        naive_bayes.MultinomialNB(),
        naive_bayes.BernoulliNB(),
        neural_network.MLPClassifier((8,), max_iter=20),
        neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=20),
        gaussian_process.GaussianProcessRegressor(),
        mixture.GaussianMixture(2),
        calibration.CalibratedClassifierCV(tree.DecisionTreeClassifier()),
        cluster.KMeans(3, n_init=1),
        decomposition.PCA(2),
        pipeline.Pipeline([("scale", preprocessing.StandardScaler()), ("net", linear_model.RidgeClassifier())]),
        pipeline.FeatureUnion([("a", preprocessing.MinMaxScaler()), ("b", preprocessing.PolynomialFeatures())]),
        preprocessing.Normalizer(),
        preprocessing.KBinsDiscretizer(encode="ordinal", quantile_method="averaged_inverted_cdf"),
    )
}


def exported(estimator, sample):
    """The model with tensors as outputs; not every converter knows what a ZipMap is."""
    target = {"": 21, "ai.onnx.ml": 3}
    try:
        return to_onnx(estimator, sample, options={"zipmap": False}, target_opset=target)
    except NameError:
        return to_onnx(estimator, sample, target_opset=target)


def verdict(proto, tmp_path) -> Verdict:
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return row_verdict(path, OnnxSession(path))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_mixes_rows_is_found_and_the_node_named(name, tmp_path):
    proto, culprit = MODELS[name]
    found = verdict(proto, tmp_path)
    assert found.proof is not RowProof.PROVED
    assert f"node {culprit}" in found.reason


@pytest.mark.parametrize("name", HAND_MADE)
def test_rows_that_are_independent_are_proved(name, tmp_path):
    assert verdict(HAND_MADE[name](), tmp_path) == Verdict(RowProof.PROVED, "the rows are proved to be independent")


@pytest.mark.parametrize("name", SKLEARN)
def test_rows_of_scikit_learn_models_are_proved(name, tmp_path):
    inputs, labels = load_iris(return_X_y=True)
    inputs = inputs.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fit of few rounds has not converged
        estimator = SKLEARN[name].fit(inputs[::3], labels[::3])
        proto = exported(estimator, inputs[:1])
    assert verdict(proto, tmp_path) == Verdict(RowProof.PROVED, "the rows are proved to be independent")


def test_the_corpus_is_large():
    assert len(MODELS) >= 40
    assert len(HAND_MADE) + len(SKLEARN) >= 40


def test_an_optional_input_that_carries_rows_may_share_a_batch(tmp_path):
    found = verdict(optional_scale(["k", 1], [[3.0]]), tmp_path)
    assert (found.proof, found.batched_inputs) == (RowProof.PROVED, (("scale",),))


def test_an_optional_input_that_carries_columns_may_not(tmp_path):
    found = verdict(optional_scale(["k"], [3.0]), tmp_path)
    assert (found.proof, found.batched_inputs) == (RowProof.PROVED, ())


def test_a_model_whose_optional_input_fixes_the_rows_is_not_proved(tmp_path):
    assert verdict(optional_scale(["k", 1], [[1.0], [2.0]]), tmp_path).proof is RowProof.NOT_PROVED
