"""The witness contradicts whatever a proof might overlook: it is tried on models that mix rows, with a proof that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from independent_models import HAND_MADE
from mixing_models import MODELS, Model, clipped_norm, dynamic_quantization, gate_by_maximum, nan_guard

from gateway.runtime.onnx import OnnxSession
from gateway.runtime.proof.prove import Proof, Prover
from gateway.runtime.proof.witness import WITNESS_ROWS, contradiction, is_equal
from gateway.runtime.synthetic import runnable_inputs

# Mixing models whose outputs cannot show it: the number of rows or a row's place decides, and neighbours do not.
BY_COUNT = (
    *("divides_by_count", "rare_count", "branch_by_count", "positions", "fixed_neighbour", "squeezes_anything"),
    *("tiled_by_count", "expanded_by_count", "scan_with_count", "scan_with_count_as_state"),
)
BY_SIZE = ("detector", "unique_rows", "compressed_rows", "suppression", "mean_variance", "scatter_first")
# No run of them shows it: for these shapes of inputs the rows are kept apart.
LUCKY = ("free_length_cut", "pairs_of_rows", "cut_in_another_order", "random_noise")


def contradicted(proto: Model, tmp_path) -> str:
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    session = OnnxSession(path)
    given = runnable_inputs(session, WITNESS_ROWS, np.random.default_rng(0))
    assert given is not None
    return contradiction(session, Prover(path, session.signature), Proof(), given)


@pytest.mark.parametrize("make", [dynamic_quantization, gate_by_maximum, clipped_norm, nan_guard])
def test_neighbours_of_unlike_magnitude_show_what_random_ones_hide(make, tmp_path):
    assert contradicted(make(), tmp_path) == "output 'y' of a row depends on the other rows of its batch"


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {*BY_COUNT, *BY_SIZE, *LUCKY}))
def test_a_wrong_proof_is_contradicted(name, tmp_path):
    assert "depends on the other rows" in contradicted(MODELS[name][0], tmp_path)


@pytest.mark.parametrize("name", HAND_MADE)
def test_a_right_one_is_not(name, tmp_path):
    assert contradicted(HAND_MADE[name](), tmp_path) == ""


def test_equal_means_equal_but_for_rounding():
    row = np.array([1e6, np.nan, np.inf, 1.0], np.float32)
    assert is_equal(row, row.copy())
    assert is_equal(row, row + np.float32(0.5))
    for place, other in ((0, 1.1e6), (1, 0.0), (2, -np.inf)):
        changed = row.copy()
        changed[place] = other
        assert not is_equal(row, changed)
    assert not is_equal(row, row[:2])
    assert not is_equal(np.array([1]), np.array([2]))
