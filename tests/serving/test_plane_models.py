"""Whatever ONNX Runtime runs, the gateway serves with the same answer, on either lane."""

# ruff: noqa: E501 - a table of wrong requests reads best with one a line

from __future__ import annotations

import struct

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto as T
from onnx import helper
from plane_models import answer, ask, batch_mean, identity, model, scale, tensor

from gateway.protocol.pb import inference_pb2 as pb

NUMERIC = [
    (T.BOOL, "BOOL", np.bool_), (T.UINT8, "UINT8", np.uint8), (T.UINT16, "UINT16", np.uint16),
    (T.UINT32, "UINT32", np.uint32), (T.UINT64, "UINT64", np.uint64), (T.INT8, "INT8", np.int8),
    (T.INT16, "INT16", np.int16), (T.INT32, "INT32", np.int32), (T.INT64, "INT64", np.int64),
    (T.FLOAT16, "FP16", np.float16), (T.FLOAT, "FP32", np.float32), (T.DOUBLE, "FP64", np.float64),
]  # fmt: skip
SHAPES = [["n"], ["n", 3], ["n", "m"], [2, 3], [], ["n", 0], [1], None]


def actual(shape: list | None) -> tuple[int, ...]:
    return tuple(3 if isinstance(dim, str) else dim for dim in (shape if shape is not None else [2, 1, 2]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_datatype_comes_back_as_it_went_in(gate, shape, wait_for):
    random = np.random.default_rng(0)
    for kind, datatype, dtype in NUMERIC:
        served = gate.load(datatype, 1, identity(kind, shape))
        gate.route(datatype, 1)
        array = random.integers(0, 2, actual(shape)).astype(dtype)
        response = gate.infer(ask(datatype, array, datatype=datatype))
        assert response.outputs[0].datatype == datatype
        assert answer(response, dtype=dtype).tolist() == array.tolist()
        wait_for(lambda served=served: not served.in_flight)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_texts_come_back_as_they_went_in(gate, shape):
    gate.load("texts", 1, identity(T.STRING, shape))
    gate.route("texts", 1)
    count = int(np.prod(actual(shape), dtype=int))
    texts = [f"ä{i}\0" for i in range(count)]
    request = pb.ModelInferRequest(model_name="texts")
    request.inputs.add(name="x", datatype="BYTES", shape=actual(shape))
    encoded = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
    request.raw_input_contents.append(encoded)
    assert gate.infer(request).raw_output_contents[0] == encoded


def test_bfloat16_keeps_its_bits(gate):
    gate.load("b", 1, identity(T.BFLOAT16, ["n", 2]))
    gate.route("b", 1)
    bits = np.array([[0x3F80, 0x4000], [0xFF80, 0x0001]], np.uint16)
    response = gate.infer(ask("b", bits, datatype="BF16"))
    assert answer(response, dtype=np.uint16).tolist() == bits.tolist()


def test_several_inputs_and_outputs_keep_their_places(gate):
    proto = model(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [tensor("a", T.FLOAT, ["n", 2]), tensor("b", T.FLOAT, ["n", 2])],
        [tensor("sum", T.FLOAT, ["n", 2]), tensor("difference", T.FLOAT, ["n", 2])],
    )
    gate.load("two", 1, proto)
    gate.route("two", 1)
    a, b = np.float32([[1, 2]]), np.float32([[10, 20]])
    request = pb.ModelInferRequest(model_name="two")
    for name, array in (("b", b), ("a", a)):  # the caller's order, not the model's
        request.inputs.add(name=name, datatype="FP32", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    for _ in range(3):  # by header, by message, again
        response = gate.infer(request)
        assert [output.name for output in response.outputs] == ["sum", "difference"]
        assert answer(response, 0).tolist() == (a + b).tolist()
        assert answer(response, 1).tolist() == (a - b).tolist()
    request.outputs.add(name="difference")
    response = gate.infer(request)
    assert [output.name for output in response.outputs] == ["difference"]
    assert answer(response).tolist() == (a - b).tolist()


def test_an_optional_input_may_be_left_out(gate):
    proto = model(
        [helper.make_node("Add", ["x", "bias"], ["y"])],
        [tensor("x", T.FLOAT, ["n", 1]), tensor("bias", T.FLOAT, [1])],
        [tensor("y", T.FLOAT, ["n", 1])],
        [helper.make_tensor("bias", T.FLOAT, [1], [5.0])],
    )
    gate.load("biased", 1, proto)
    gate.route("biased", 1)
    request = ask("biased", np.float32([[1]]))
    assert answer(gate.infer(request)).item() == 6
    request.inputs.add(name="bias", datatype="FP32", shape=[1])
    request.raw_input_contents.append(np.float32([7]).tobytes())
    assert answer(gate.infer(request)).item() == 8


def test_typed_contents_give_what_raw_contents_give(gate):
    gate.load("m", 1, scale(3))
    gate.route("m", 1)
    request = pb.ModelInferRequest(model_name="m", id="abc")
    given = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    given.contents.fp32_contents.extend([1, 2, 3, 4])
    assert answer(gate.infer(request)).tolist() == [[3, 6, 9, 12]]
    request.parameters["binary_data_output"].bool_param = False
    response = gate.infer(request)
    assert list(response.outputs[0].contents.fp32_contents) == [3, 6, 9, 12]
    assert not response.raw_output_contents
    assert response.id == "abc"


def test_rows_that_depend_on_each_other_are_never_batched(gate):
    served = gate.load("mean", 1, batch_mean())
    assert not served.is_batched
    gate.route("mean", 1)
    calls = [np.float32([[i, i, i, i], [0, 0, 0, 0]]) for i in range(40)]
    method = gate.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", response_deserializer=pb.ModelInferResponse.FromString
    )
    waiting = [method.future(ask("mean", array).SerializeToString(), timeout=20) for array in calls]
    for array, future in zip(calls, waiting, strict=True):
        assert answer(future.result()).tolist() == (array - array.mean(0, keepdims=True)).tolist()


def test_answers_equal_the_runtimes_own(gate, tmp_path):
    proto = model(
        [helper.make_node("Softmax", ["x"], ["p"], axis=1), helper.make_node("ArgMax", ["x"], ["c"], axis=1, keepdims=0)],
        [tensor("x", T.FLOAT, ["n", 5])],
        [tensor("p", T.FLOAT, ["n", 5]), tensor("c", T.INT64, ["n"])],
    )
    gate.load("soft", 1, proto)
    gate.route("soft", 1)
    array = np.random.default_rng(3).normal(size=(7, 5)).astype(np.float32)
    p, c = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": array})
    response = gate.infer(ask("soft", array))
    np.testing.assert_allclose(answer(response, 0), p, rtol=1e-6)
    assert answer(response, 1, np.int64).tolist() == c.tolist()


def bad(change) -> pb.ModelInferRequest:
    request = ask("m", np.zeros((1, 4), np.float32))
    change(request)
    return request


def set_raw(request: pb.ModelInferRequest, raw: bytes) -> None:
    request.raw_input_contents[0] = raw


BAD = {
    "input 'x': missing, expected x: FP32 [?, 4]": lambda r: (r.ClearField("inputs"), r.ClearField("raw_input_contents")),
    "input 'y': unknown, the model takes x": lambda r: (r.inputs.add(name="y", datatype="FP32", shape=[1]), r.raw_input_contents.append(b"abcd")),
    "input 'x': given 2 times, expected once": lambda r: (r.inputs.add(name="x", datatype="FP32", shape=[1]), r.raw_input_contents.append(b"abcd")),
    "input 'x': expected FP32, got INT64": lambda r: setattr(r.inputs[0], "datatype", "INT64"),
    "input 'x': expected FP32, got no datatype": lambda r: setattr(r.inputs[0], "datatype", ""),
    "input 'x': expected shape [?, 4], got [1, 5]": lambda r: (r.inputs[0].shape.__setitem__(1, 5), set_raw(r, b"\0" * 20)),
    "input 'x': expected shape [?, 4], got [4]": lambda r: r.inputs[0].shape.pop(0),
    "input 'x': shape [-1, 4] has a negative dimension": lambda r: r.inputs[0].shape.__setitem__(0, -1),
    "input 'x': FP32 [1, 4] is 16 bytes, got 15": lambda r: set_raw(r, b"\0" * 15),
    "output 'z': unknown, the model gives y": lambda r: r.outputs.add(name="z"),
    "raw_input_contents: 2 entries for 1 inputs, expected one each": lambda r: r.raw_input_contents.append(b""),
    "input 'x': has typed contents beside raw_input_contents": lambda r: r.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4]),
    "parameter 'timeout': expected int, got 'soon'": lambda r: setattr(r.parameters["timeout"], "string_param", "soon"),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_a_wrong_request_is_told_what_is_wrong(gate, message, wait_for):
    served = gate.load("m", 1, scale(2))
    gate.route("m", 1)
    with pytest.raises(grpc.RpcError) as error:
        gate.infer(bad(BAD[message]))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()
    wait_for(lambda: not served.in_flight)
    assert answer(gate.infer(ask("m", np.ones((1, 4), np.float32)))).tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize(
    "message", [b"\xff" * 20, b"\x0a\x7fm", b"\x0a\x01", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x08\x01"]
)
def test_bytes_that_are_no_request_are_refused(gate, message):
    with pytest.raises(grpc.RpcError) as error:
        gate.call(message)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "malformed ModelInferRequest" in error.value.details()


def test_text_that_is_no_utf8_is_refused(gate):
    gate.load("texts", 1, identity(T.STRING, ["n"]))
    gate.route("texts", 1)
    request = pb.ModelInferRequest(model_name="texts")
    request.inputs.add(name="x", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"\x01\0\0\0\xff")
    with pytest.raises(grpc.RpcError, match="no UTF-8 text"):
        gate.infer(request)
    request.raw_input_contents[0] = b"\x09\0\0\0a"
    with pytest.raises(grpc.RpcError, match="claims 9 bytes, 1 are left"):
        gate.infer(request)
