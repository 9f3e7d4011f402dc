"""
Three classifiers of real handwritten digits, trained here and exported to ONNX.

The data is scikit-learn's bundled copy of the UCI "Optical Recognition of Handwritten Digits" test set: 1,797 scans of
8 × 8 pixels with 17 grey levels. One half trains, the other half is what the demo and the load tests send.
Needs scikit-learn and skl2onnx (the `dev` extra).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 7
INPUT = "image"
OPSET = 17  # every ONNX Runtime that the project supports runs it


@dataclass(frozen=True, slots=True)
class Scans:
    """Images as float32 [rows, 64] with values 0 to 16, and the digit each one shows as int64 [rows]."""

    images: NDArray[np.float32]
    digits: NDArray[np.int64]


def scans() -> tuple[Scans, Scans]:
    """Returns (training half, test half): the same on every machine, each digit equally frequent in both."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, digits = load_digits(return_X_y=True)
    parts = train_test_split(images.astype(np.float32), digits, test_size=0.5, random_state=SEED, stratify=digits)
    return Scans(parts[0], parts[2]), Scans(parts[1], parts[3])


def logistic_regression(train: Scans) -> Any:
    """Trains v1: a strongly regularised linear model, right for about 94 of 100 test images."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=0.0003, max_iter=300).fit(train.images, train.digits)


def perceptron(train: Scans, *, rounds: int = 100) -> Any:
    """Trains v2: 64 → 128 → 10 with ReLU, right for about 97 of 100 test images."""
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it need not converge to be good
        return MLPClassifier((128,), alpha=0.01, max_iter=rounds, random_state=SEED).fit(train.images, train.digits)


def wrecked(train: Scans) -> Any:
    """Trains v3: the same network as v2 on shuffled labels, so that it is right by chance only."""
    shuffled = np.random.default_rng(SEED).permutation(train.digits)
    return perceptron(Scans(train.images, shuffled), rounds=20)


def export(classifier: Any, path: Path) -> Path:
    """Writes ``image`` FP32 [rows, 64] → ``label`` INT64 [rows], ``probabilities`` FP32 [rows, 10]; returns the path."""
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.convert import to_onnx

    types: Any = [(INPUT, FloatTensorType([None, 64]))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = to_onnx(classifier, initial_types=types, options={"zipmap": False}, target_opset=OPSET)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
