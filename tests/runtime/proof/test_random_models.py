"""On random graphs, whatever is proved to be independent is: rows alone give what they give in a batch, of any size."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from random_models import Writer

from gateway.runtime.onnx import OnnxSession
from gateway.runtime.proof.prove import Prover
from gateway.runtime.proof.verdict import difference
from gateway.runtime.session import LoadRefused
from gateway.runtime.synthetic import runnable_inputs

MODELS = int(os.environ.get("RANDOM_MODELS", "600"))  # `make fuzz` tries more
PARTS = 6


def wrong(seed: int, path: Path) -> tuple[bool, str]:
    """Whether a random model was proved, and the difference that a batch of it makes all the same."""
    path.write_bytes(Writer(seed).model(2 + seed % 5).SerializeToString())
    try:
        session = OnnxSession(path)
    except LoadRefused:
        return False, ""
    random = np.random.default_rng(seed)
    if Prover(path, session.signature).prove(lambda rows: runnable_inputs(session, rows, random)).reason:
        return False, ""
    for rows in (2, 3, 4, 5, 7, 9):
        scales = 10.0 ** random.integers(-2, 3, size=(rows, 1))
        given = {"x": (random.normal(size=(rows, 4)) * scales).astype(np.float32)}
        problem = difference(session, given, rows)
        if problem and " fail" not in problem:  # a run that fails is repeated for each request alone
            return True, f"seed {seed}, {rows} rows: {problem}"
    return True, ""


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_proved_is_independent(part: int, tmp_path: Path) -> None:
    found = [wrong(seed, tmp_path / "m.onnx") for seed in range(part, MODELS, PARTS)]
    assert [problem for _, problem in found if problem] == []
    assert sum(is_proved for is_proved, _ in found) > len(found) // 20  # it is no proof by refusing everything
