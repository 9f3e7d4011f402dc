"""Tensors in shared memory on the wire: what a request says of them, and what a response does."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.composed_response import Answered, composed_response
from gateway.serving.oip.decode import Decoder, InferRequest
from gateway.serving.oip.placement import Placement

ANSWERED = Answered("m", 3, "default", "0" * 36)


def placed(tensor: Any, region: Any = "r", size: Any = 8, offset: Any = None) -> None:
    """Says that a tensor lies in a region."""
    for name, value in (("region", region), ("byte_size", size), ("offset", offset)):
        if value is not None:
            field = {str: "string_param", bool: "bool_param", int: "int64_param"}[type(value)]
            setattr(tensor.parameters[f"shared_memory_{name}"], field, value)


def test_a_request_without_any_raw_contents_is_interned_too() -> None:
    decoder, request = Decoder(InferRequest), pb.ModelInferRequest(model_name="m")
    placed(request.inputs.add(name="x", datatype="FP32", shape=[2]), offset=16)
    placed(request.outputs.add(name="y"), "out", 4)
    first, second = (decoder.decode(request.SerializeToString()).signature for _ in range(2))
    assert first is second
    assert first.inputs[0].placement == Placement("r", 16, 8)
    assert first.placements == (Placement("out", 0, 4),)


def test_raw_contents_are_those_of_the_inputs_that_are_sent() -> None:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"1234"])
    placed(request.inputs.add(name="x", datatype="FP32", shape=[2]))
    request.inputs.add(name="z", datatype="INT32", shape=[1])
    decoder = Decoder(InferRequest)
    for _ in range(3):
        decoded = decoder.decode(request.SerializeToString())
        assert (decoded.contents, decoded.signature.raw_sizes) == ([b"1234"], (4,))
    request.raw_input_contents.append(b"")
    with pytest.raises(InvalidRequest, match="2 entries for 1 inputs"):
        decoder.decode(request.SerializeToString())


def test_outputs_that_travel_have_no_placement() -> None:
    request = pb.ModelInferRequest(model_name="m", raw_input_contents=[b""])
    request.inputs.add(name="x", datatype="FP32", shape=[0])
    request.outputs.add(name="y").parameters["classification"].int64_param = 1
    assert Decoder(InferRequest).decode(request.SerializeToString()).signature.placements == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"region": 5}, "shared_memory_region.*name of a region, got 5"),
        ({"region": None}, "shared_memory_region.*got None"),
        ({"size": None}, "shared_memory_byte_size.*got None"),
        ({"size": -1}, "shared_memory_byte_size.*got -1"),
        ({"size": True}, "shared_memory_byte_size.*got True"),
        ({"offset": "x"}, "shared_memory_offset.*got 'x'"),
        ({"offset": -8}, "shared_memory_offset.*got -8"),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_placement_that_is_not_whole_is_refused_by_tensor(side: str, given: dict[str, Any], words: str) -> None:
    request = pb.ModelInferRequest(model_name="m")
    placed(getattr(request, side).add(name="x"), **given)
    with pytest.raises(InvalidRequest, match=f"{side[:-1]} 'x': parameter.*{words}"):
        Decoder(InferRequest).decode(request.SerializeToString())


def test_contents_beside_a_placement_are_refused() -> None:
    request = pb.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1])
    placed(tensor)
    tensor.contents.fp32_contents.append(1)
    with pytest.raises(InvalidRequest, match="input 'x': has contents beside shared_memory_region"):
        Decoder(InferRequest).decode(request.SerializeToString())


def test_a_response_has_an_empty_raw_entry_for_what_is_in_shared_memory() -> None:
    outputs = (("y", "FP32", (2,)), ("z", "INT8", (3,)))
    encoded = composed_response(
        ANSWERED, outputs, [Placement("r", 16, 8), b"123"], pb.ModelInferResponse(id="me").SerializeToString()
    )
    response = pb.ModelInferResponse.FromString(encoded)
    assert (response.id, list(response.raw_output_contents)) == ("me", [b"", b"123"])
    parameters = response.outputs[0].parameters
    assert parameters["shared_memory_region"].string_param == "r"
    assert parameters["shared_memory_byte_size"].int64_param == 8
    assert parameters["shared_memory_offset"].int64_param == 16
    assert not response.outputs[1].parameters


def test_typed_outputs_go_beside_placed_ones() -> None:
    outputs = (("y", "FP32", (2,)), ("z", "INT8", (3,)), ("f", "FP32", (1,)))
    contents = [Placement("r", 0, 8), [1, 2, 3], struct.pack("<f", 1.5)]
    response = pb.ModelInferResponse.FromString(composed_response(ANSWERED, outputs, contents, b"", is_binary=False))
    assert list(response.raw_output_contents) == []
    assert list(response.outputs[1].contents.int_contents) == [1, 2, 3]
    assert list(response.outputs[2].contents.fp32_contents) == [1.5]
