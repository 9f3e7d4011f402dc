"""Outputs are classified where the request asks for it, and state between requests is refused, on both lanes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto as T
from plane_models import answer, ask, identity, scale

from gateway.protocol.pb import inference_pb2 as pb
from gateway.runtime.tensor_contents import bytes_elements
from registry.deployment import Batching
from registry.versions import Prediction, PredictionKind

ROWS = np.array([[1, 4, 2, 3], [8, 5, 7, 6]], np.float32)


def wanting(count: int, rows: np.ndarray = ROWS, **more: Any) -> pb.ModelInferRequest:
    request = ask("m", rows, **more)
    request.outputs.add(name="y").parameters["classification"].int64_param = count
    return request


def told(response: pb.ModelInferResponse) -> list[str]:
    assert response.outputs[0].datatype == "BYTES"
    return [element.decode() for element in bytes_elements("y", response.raw_output_contents[0])]


def test_the_largest_of_each_row_are_told(gate: Any) -> None:
    gate.load("m", 1, scale(2.0))
    gate.route("m", 1)
    response = gate.infer(wanting(2))
    assert list(response.outputs[0].shape) == [2, 2]
    assert told(response) == ["8.000000:1", "6.000000:3", "16.000000:0", "14.000000:2"]
    assert response.parameters["prediction_id"].string_param
    assert answer(gate.infer(ask("m", ROWS))).tolist() == (ROWS * 2).tolist()


def test_labels_are_the_class_names_of_the_version(gate: Any) -> None:
    loaded = gate.load("m", 1, scale(1.0))
    loaded.prediction = Prediction("y", PredictionKind.SCORES, ("cat", "dog", "cow", "hen"))
    gate.route("m", 1)
    assert told(gate.infer(wanting(1))) == ["4.000000:1:dog", "8.000000:0:cat"]


def test_typed_outputs_are_classified_too(gate: Any) -> None:
    gate.load("m", 1, scale(1.0))
    gate.route("m", 1)
    request = wanting(1)
    request.parameters["binary_data_output"].bool_param = False
    response = gate.infer(request)
    assert list(response.outputs[0].contents.bytes_contents) == [b"4.000000:1", b"8.000000:0"]
    assert not response.raw_output_contents


def test_requests_that_share_a_run_get_their_own_classes(gate: Any) -> None:
    loaded = gate.load("m", 1, scale(1.0), batching=Batching(queue_delay_us=20_000))
    assert loaded.is_batched
    gate.route("m", 1)
    random = np.random.default_rng(0)

    def call(index: int) -> bool:
        rows = random.permutation(4).astype(np.float32).reshape(1, 4)
        if index % 2:
            return bool((answer(gate.infer(ask("m", rows))) == rows).all())
        return told(gate.infer(wanting(1, rows))) == [f"3.000000:{int(rows.argmax())}"]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(64)))


def test_an_output_without_numbers_is_refused(gate: Any) -> None:
    gate.load("m", 1, identity(T.BOOL, ["n", 4]))
    gate.route("m", 1)
    with pytest.raises(grpc.RpcError) as error:
        gate.infer(wanting(1, ROWS.astype(np.bool_), datatype="BOOL"))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "output 'y'" in error.value.details()


@pytest.mark.parametrize("value", [{"int64_param": 7}, {"string_param": "chat"}, {"bool_param": True}], ids=str)
@pytest.mark.parametrize("name", ["sequence_id", "sequence_start", "sequence_end"])
def test_a_request_of_a_sequence_is_refused_by_the_parameter(gate: Any, name: str, value: dict[str, Any]) -> None:
    gate.load("m", 1, scale(1.0))
    gate.route("m", 1)
    request = ask("m", ROWS)
    request.parameters[name].CopyFrom(pb.InferParameter(**value))
    with pytest.raises(grpc.RpcError) as error:
        gate.infer(request)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"parameter '{name}': sequences are not supported" in error.value.details()


def test_parameters_that_say_no_sequence_and_unknown_ones_are_hints(gate: Any) -> None:
    gate.load("m", 1, scale(1.0))
    gate.route("m", 1)
    request = ask("m", ROWS)
    request.parameters["sequence_id"].int64_param = 0
    request.parameters["sequence_start"].bool_param = False
    request.parameters["my_own"].string_param = "anything"
    request.outputs.add(name="y").parameters["classification"].int64_param = 0
    assert answer(gate.infer(request)).tolist() == ROWS.tolist()
