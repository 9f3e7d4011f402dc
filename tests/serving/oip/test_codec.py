"""The decoder's three ways in give what protobuf gives, whatever comes first."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.decode import Decoder, InferRequest
from gateway.serving.oip.encode import raw_frame, response_head, typed_response

tensors = st.lists(
    st.tuples(st.lists(st.integers(0, 3), max_size=2), st.binary(max_size=24)), min_size=1, max_size=3
)  # shape, raw contents


def request_of(model, version, given_id, unit, inputs) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=given_id)
    if unit:
        request.parameters["unit_id"].string_param = unit
    for index, (shape, raw) in enumerate(inputs):
        request.inputs.add(name=f"input{index}", datatype="UINT8", shape=shape)
        request.raw_input_contents.append(raw)
    return request


requests = st.builds(
    request_of, st.sampled_from(["a", "b"]), st.sampled_from(["", "2"]), st.sampled_from(["", "x", "yy"]),
    st.sampled_from(["", "u"]), tensors,
)  # fmt: skip


def is_as_protobuf_says(decoder: Decoder[InferRequest], request: pb.ModelInferRequest) -> None:
    decoded = decoder.decode(request.SerializeToString())
    assert (decoded.signature.model, decoded.signature.version, decoded.id) == (
        request.model_name,
        request.model_version,
        request.id,
    )
    assert [(t.name, t.datatype, t.shape) for t in decoded.signature.inputs] == [
        (t.name, t.datatype, tuple(t.shape)) for t in request.inputs
    ]
    assert [bytes(raw) for raw in decoded.contents] == list(request.raw_input_contents)
    assert decoded.signature.raw_sizes == tuple(len(raw) for raw in request.raw_input_contents)
    unit = request.parameters["unit_id"].string_param if "unit_id" in request.parameters else ""
    assert decoded.parameters.unit_id == unit


@given(st.lists(requests, min_size=1, max_size=12))
def test_every_way_in_gives_what_protobuf_gives(sequence):
    """One decoder sees all of them twice, so that each is decoded new, by header and by message."""
    decoder = Decoder(InferRequest)
    for request in sequence + sequence:
        is_as_protobuf_says(decoder, request)


@given(st.binary(max_size=80), requests)
def test_no_bytes_crash_it(junk, request):
    decoder = Decoder(InferRequest)
    message = request.SerializeToString()
    decoder.decode(message)
    for bytes_ in (junk, message[:-1], message + junk, junk + message, message[: len(message) // 2]):
        with suppress(InvalidRequest):
            decoder.decode(bytes_)


def test_a_known_length_with_another_header_is_not_taken_for_it():
    decoder = Decoder(InferRequest)
    first = request_of("a", "", "", "", [([4], b"1234")])
    second = request_of("b", "", "", "", [([4], b"1234")])
    for request in (first, first, second, first, second):
        is_as_protobuf_says(decoder, request)


def test_raw_contents_that_move_within_a_known_length_are_found():
    decoder = Decoder(InferRequest)
    one = request_of("a", "", "", "", [([1], b"12"), ([2], b"3456")])
    other = request_of("a", "", "", "", [([1], b"1234"), ([2], b"56")])
    for request in (one, one, other, one, other):
        is_as_protobuf_says(decoder, request)


def test_fields_in_another_order_are_read_all_the_same():
    request = request_of("a", "", "", "", [([4], b"1234")])
    header = pb.ModelInferRequest()
    header.CopyFrom(request)
    header.ClearField("raw_input_contents")
    message = raw_frame(4).replace(b"\x32", b"\x3a") + b"1234" + header.SerializeToString()
    decoder = Decoder(InferRequest)
    for _ in range(3):
        decoded = decoder.decode(message)
        assert decoded.contents == [b"1234"]
        assert decoded.signature.model == "a"


def test_layouts_are_interned_and_bounded(monkeypatch):
    monkeypatch.setattr("gateway.serving.oip.decode.MAX_SIGNATURES", 3)
    decoder = Decoder(InferRequest)
    first = decoder.decode(request_of("a", "", "", "", [([1], b"1")]).SerializeToString()).signature
    again = decoder.decode(request_of("a", "", "id", "u", [([1], b"2")]).SerializeToString()).signature
    assert first is again
    for size in range(2, 12):
        request = request_of("a", "", "", "", [([size], bytes(size))])
        is_as_protobuf_says(decoder, request)
        assert len(decoder._signatures) <= 3


def test_large_contents_are_not_copied():
    message = request_of("a", "", "", "", [([100_000], bytes(100_000))]).SerializeToString()
    (raw,) = Decoder(InferRequest).decode(message).contents
    assert isinstance(raw, memoryview)
    assert raw.obj is message


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 70_000])
def test_a_response_in_pieces_is_a_response(size):
    identifier = "0" * 35 + "7"
    head = response_head("m", 3, "default", (("y", "FP32", (1, 2)),))
    message = head + identifier.encode() + raw_frame(size) + bytes(size) + pb.ModelInferResponse(id="me").SerializeToString()
    response = pb.ModelInferResponse.FromString(message)
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "me")
    assert {key: value.string_param for key, value in response.parameters.items()} == {
        "arm": "default",
        "prediction_id": identifier,
    }
    assert [len(raw) for raw in response.raw_output_contents] == [size]
    assert pb.ModelInferResponse.FromString(message).parameters["prediction_id"].string_param == identifier


def test_types_without_typed_contents_say_so():
    with pytest.raises(InvalidRequest, match="output 'y': datatype FP16 has no typed contents"):
        typed_response("m", 1, "default", "0" * 36, (("y", "FP16", (1,)),), [[1.0]], b"")
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP16", shape=[1])
    with pytest.raises(InvalidRequest, match="input 'x': datatype 'FP16' has no typed contents"):
        Decoder(InferRequest).decode(request.SerializeToString())


class Walking(Decoder):
    """Counts the messages that were not cut at known places."""

    walks = 0

    def _walk(self, message):
        self.walks += 1
        return super()._walk(message)


def test_models_called_in_turn_are_told_apart_without_a_walk():
    requests = [request_of(f"model-{i:03}", "", "", "", [([], bytes([i])), ([], b"12")]) for i in range(200)]
    decoder = Walking(InferRequest)
    for _ in range(3):
        for request in requests:
            is_as_protobuf_says(decoder, request)
    assert decoder.walks == len(requests)


def test_headers_of_many_sizes_in_messages_of_one_length_are_decoded_all_the_same():
    requests = [request_of("m" * i, "", "", "", [([], b"r" * (40 - i))]) for i in range(1, 40)]
    assert len({len(request.SerializeToString()) for request in requests}) == 1
    decoder = Decoder(InferRequest)
    for request in requests * 3:
        is_as_protobuf_says(decoder, request)
