"""Errors about long names arrive as what they are: clients refuse trailers above 8 KiB as RESOURCE_EXHAUSTED."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest
from onnx import helper
from plane_models import ask, model, scale, tensor

ROWS = np.ones((1, 4), np.float32)


def refused(gate: Any, request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        gate.infer(request)
    return caught.value


@pytest.mark.parametrize("letter", ["x", "я", "%", "🙂"])
@pytest.mark.parametrize("what", ["model", "version", "input", "output"])
def test_a_name_of_20_000_characters_is_refused_by_its_own_code(gate: Any, what: str, letter: str) -> None:
    gate.load("double", 1, scale(2.0))
    gate.route("double", 1)
    long = letter * 20_000
    request = ask(
        long if what == "model" else "double",
        ROWS,
        version=long if what == "version" else "",
        tensor_name=long if what == "input" else "x",
    )
    if what == "output":
        request.outputs.add(name=long)
    error = refused(gate, request)
    expected = grpc.StatusCode.NOT_FOUND if what in ("model", "version") else grpc.StatusCode.INVALID_ARGUMENT
    assert error.code() == expected, error.details()
    assert "characters left out" in error.details()


@pytest.mark.parametrize("columns", [60, 120])
def test_a_misspelt_input_of_a_model_with_many_cyrillic_names_is_an_invalid_argument(gate: Any, columns: int) -> None:
    names = [f"столбец_номер_{number}" for number in range(columns)]
    nodes = [helper.make_node("Sum", names, ["y"])]
    gate.load("table", 1, model(nodes, [tensor(name, shape=["n", 1]) for name in names], [tensor("y", shape=["n", 1])]))
    gate.route("table", 1)
    request = ask("table", np.ones((1, 1), np.float32), tensor_name="столбес")
    for _ in range(30):  # between 8 and 16 KiB a client's gRPC refuses by chance
        assert refused(gate, request).code() == grpc.StatusCode.INVALID_ARGUMENT
