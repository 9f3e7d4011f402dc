"""Rules of ai.onnx.ml: trees, support vectors, encoders. Pure. https://github.com/onnx/onnx/blob/main/docs/Operators-ml.md"""

from __future__ import annotations

from gateway.runtime.proof.elementwise import unary
from gateway.runtime.proof.forms import NotProved, Plain, Rows, Tensor
from gateway.runtime.proof.sizes import ONE, product
from gateway.runtime.proof.step import OperatorStep, Rule, refuse_axis

DOMAIN = "ai.onnx.ml"


def estimator(step: OperatorStep) -> tuple[Tensor, ...]:
    """Classifiers, regressors: a sample a row of [samples, features]. One axis alone would be one sample."""
    rows = step.only_first_has_rows()
    if rows.rank != 2 or rows.axis:
        raise NotProved("takes rows as features of a sample")
    return step.results(0, rows.block)


def per_feature(step: OperatorStep) -> tuple[Tensor, ...]:
    """Scaler, Imputer, Normalizer: along the last axis, the features."""
    rows = step.only_first_has_rows()
    refuse_axis(rows, [-1], "takes rows as features of a sample")
    return (rows,)


def array_feature_extractor(step: OperatorStep) -> tuple[Tensor, ...]:
    """ArrayFeatureExtractor: at fixed places of the last axis, or from a list at the places that rows say."""
    data, places = step.input(0), step.input(1)
    if isinstance(data, Rows) and isinstance(places, Plain):
        refuse_axis(data, [-1], "mixes rows: it picks among them")
        return (step.result(data.axis, data.block),)
    if isinstance(data, Plain) and isinstance(places, Rows) and product(data.dims[:-1]) == ONE:
        if product(places.dims[: places.axis]) != ONE:
            raise NotProved("mixes rows: it cuts them in another order")
        return (step.result(len(step.shape()) - 1, product((places.block, *places.dims[places.axis + 1 :]))),)
    raise NotProved("mixes rows: it picks among them")


def one_hot_encoder(step: OperatorStep) -> tuple[Tensor, ...]:
    """OneHotEncoder: a new last axis."""
    rows = step.rows()
    return (step.result(rows.axis, rows.block),)


def feature_vectorizer(step: OperatorStep) -> tuple[Tensor, ...]:
    """FeatureVectorizer: joins features, the last axis of [samples, features]."""
    for tensor in step.inputs:
        if not isinstance(tensor, Rows) or tensor.rank != 2 or tensor.axis:
            raise NotProved("takes rows as features of a sample")
    return (step.result(0, step.rows().block),)


_ESTIMATORS = """LinearClassifier LinearRegressor SVMClassifier SVMRegressor TreeEnsemble TreeEnsembleClassifier
TreeEnsembleRegressor""".split()
RULES: dict[tuple[str, str], Rule] = {
    **{(DOMAIN, name): estimator for name in _ESTIMATORS},
    **{(DOMAIN, name): per_feature for name in ("Scaler", "Imputer", "Normalizer")},
    **{(DOMAIN, name): unary for name in ("Binarizer", "LabelEncoder", "CategoryMapper")},
    (DOMAIN, "ArrayFeatureExtractor"): array_feature_extractor,
    (DOMAIN, "OneHotEncoder"): one_hot_encoder,
    (DOMAIN, "FeatureVectorizer"): feature_vectorizer,
}
