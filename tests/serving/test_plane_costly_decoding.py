"""Requests that are costly to decode do not hold up the lane's thread: their version runs in a thread of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from onnx import TensorProto as T
from onnx import helper
from plane_models import answer, identity, model, tensor

from gateway.protocol.pb import inference_pb2 as pb
from gateway.runtime.tensor_contents import bytes_elements
from gateway.versions import pace
from registry.deployment import Batching


def wide(columns: int) -> Any:
    """y is the sum of so many inputs of one column."""
    names = [f"c{index}" for index in range(columns)]
    nodes = [helper.make_node("Sum", names, ["y"])]
    return model(nodes, [tensor(name, shape=["n", 1]) for name in names], [tensor("y", shape=["n", 1])])


def typed(columns: int, value: float) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m")
    for index in range(columns):
        request.inputs.add(name=f"c{index}", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(value)
    return request


def texts(*values: bytes) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="BYTES", shape=[len(values)]).contents.bytes_contents.extend(values)
    return request


def told(response: pb.ModelInferResponse) -> list[bytes]:
    return list(bytes_elements("y", response.raw_output_contents[0]))


def test_a_version_with_many_inputs_has_a_thread_of_its_own(gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MAX_INLINE_RUN_S", 60.0)  # however busy the machine is
    assert gate.load("m", 1, wide(pace.MAX_INLINE_INPUTS)).pace.is_inline
    assert not gate.load("m", 2, wide(pace.MAX_INLINE_INPUTS + 1)).pace.is_inline
    gate.route("m", 2)
    columns = pace.MAX_INLINE_INPUTS + 1
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda value: answer(gate.infer(typed(columns, value))).item(), map(float, range(64)))
        assert list(answers) == [columns * value for value in map(float, range(64))]


def test_a_version_whose_requests_are_slow_to_decode_leaves_the_lane(gate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SLOW_RUN_NS", -1)  # every decoding is slow
    monkeypatch.setattr(pace.Pace, "ran", lambda *_: None)  # and runs do not count
    loaded = gate.load("m", 1, identity(T.STRING, ["n"]))
    loaded.pace.is_inline = True  # however busy the machine was at warm-up
    gate.route("m", 1)
    large = [b"x" * 1_000] * 100
    for _ in range(pace.MAX_SLOW_RUNS + 1):
        assert told(gate.infer(texts(*large))) == large
    assert not loaded.pace.is_inline
    assert told(gate.infer(texts(b"small"))) == [b"small"]


def test_requests_that_are_decoded_in_a_versions_thread_fail_alone(gate: Any) -> None:
    loaded = gate.load("m", 1, identity(T.STRING, ["n"]), batching=Batching("on", queue_delay_us=20_000))
    assert not loaded.pace.is_inline
    gate.route("m", 1)

    def call(index: int) -> bool:
        if index % 4:
            return told(gate.infer(texts(b"%d" % index))) == [b"%d" % index]
        with pytest.raises(grpc.RpcError) as error:
            gate.infer(texts(b"\xff"))
        assert "input 'x': an element is no UTF-8 text" in error.value.details()
        return error.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(64)))


def test_a_wrong_number_of_typed_values_is_refused_by_input(gate: Any) -> None:
    gate.load("m", 1, wide(2))
    gate.route("m", 1)
    request = typed(2, 1.0)
    request.inputs[1].contents.fp32_contents.append(2.0)
    for _ in range(2):  # the second time its signature is known
        with pytest.raises(grpc.RpcError) as error:
            gate.infer(request)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "input 'c1'" in error.value.details()
    assert answer(gate.infer(typed(2, np.float32(1.5)))).item() == 3.0
