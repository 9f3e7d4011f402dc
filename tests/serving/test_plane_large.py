"""Large tensors: answered like small ones, alone and in a batch, whatever stands beside them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from plane_models import F, answer, ask, model, scale, tensor

from registry.deployment import Batching

COLUMNS = 40_000  # 160 kB a row


@pytest.mark.parametrize("rows", [1, 3])
def test_a_large_tensor_comes_back_whole(gate, rows):
    gate.load("m", 1, scale(2, COLUMNS))
    gate.route("m", 1)
    array = np.random.default_rng(rows).random((rows, COLUMNS), np.float32)
    request = ask("m", array)
    request.id = "mine"
    response = gate.infer(request)
    assert response.id == "mine"
    assert response.parameters["arm"].string_param == "default"
    np.testing.assert_array_equal(answer(response), 2 * array)


def test_large_rows_of_many_callers_are_told_apart(gate):
    served = gate.load("m", 1, scale(2, COLUMNS), batching=Batching(queue_delay_us=100_000, max_rows=8))
    assert served.is_batched
    gate.route("m", 1)
    random = np.random.default_rng(1)
    arrays = [random.random((1 + i % 2, COLUMNS), np.float32) for i in range(10)]
    calls = [gate.start(ask("m", array)) for array in arrays]
    for array, call in zip(arrays, calls, strict=True):
        response = type(gate.infer(ask("m", arrays[0]))).FromString(call.result())
        np.testing.assert_array_equal(answer(response), 2 * array)
    sizes = gate.plane.counters.arm("m", 1, "default").executions
    assert max(sizes) > 1


def test_texts_beside_a_large_output_keep_their_place(gate):
    """y: numbers, large; t: texts; z: numbers again."""
    proto = model(
        [helper.make_node("Identity", [a], [b]) for a, b in (("x", "y"), ("s", "t"), ("x", "z"))],
        [tensor("x", F, ["n", COLUMNS]), tensor("s", TensorProto.STRING, ["n", 1])],
        [tensor("y", F, ["n", COLUMNS]), tensor("t", TensorProto.STRING, ["n", 1]), tensor("z", F, ["n", COLUMNS])],
    )
    gate.load("m", 1, proto, is_class=False)
    gate.route("m", 1)
    array = np.random.default_rng(0).random((2, COLUMNS), np.float32)
    request = ask("m", array)
    request.inputs.add(name="s", datatype="BYTES", shape=[2, 1])
    request.raw_input_contents.append(b"\x02\0\0\0ab\x01\0\0\0c")
    response = gate.infer(request)
    assert [output.name for output in response.outputs] == ["y", "t", "z"]
    np.testing.assert_array_equal(answer(response, 0), array)
    assert response.raw_output_contents[1] == b"\x02\0\0\0ab\x01\0\0\0c"
    np.testing.assert_array_equal(answer(response, 2), array)
