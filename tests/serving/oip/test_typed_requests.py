"""Typed requests are decoded as protobuf reads them, whatever came before, and their signatures are interned."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.decode import Decoder, InferRequest
from gateway.serving.oip.fields import varint
from gateway.serving.oip.typed_contents import typed_values

FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=4)
TEXTS = st.lists(st.binary(max_size=6), max_size=4)
TENSORS = st.tuples(st.just("fp32_contents"), FLOATS) | st.tuples(st.just("bytes_contents"), TEXTS)


def request_of(model: str, given_id: str, unit: str, tensors: list[tuple[str, list]]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id=given_id)
    if unit:
        request.parameters["unit_id"].string_param = unit
    for index, (field, values) in enumerate(tensors):
        datatype = "FP32" if field == "fp32_contents" else "BYTES"
        tensor = request.inputs.add(name=f"input{index}", datatype=datatype, shape=[len(values)])
        getattr(tensor.contents, field).extend(values)
    request.outputs.add(name="y")
    return request


REQUESTS = st.builds(
    request_of,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["", "x"]),
    st.sampled_from(["", "u"]),
    st.lists(TENSORS, min_size=1, max_size=4),
)


def check(decoder: Decoder[InferRequest], request: pb.ModelInferRequest, message: bytes | None = None) -> InferRequest:
    """The decoded request, which says what protobuf says."""
    decoded = decoder.decode(request.SerializeToString() if message is None else message)
    signature = decoded.signature
    assert (signature.model, decoded.id, signature.outputs, signature.raw_sizes) == (request.model_name, request.id, ("y",), ())
    assert [(one.name, one.datatype, one.shape) for one in signature.inputs] == [
        (tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in request.inputs
    ]
    for tensor, contents in zip(request.inputs, decoded.contents, strict=True):
        values = typed_values(tensor.name, tensor.datatype, contents)
        if tensor.datatype == "BYTES":
            assert values == list(tensor.contents.bytes_contents)
        else:
            again = pb.InferTensorContents.FromString(b"\x32" + varint(len(values)) + bytes(values))
            assert again.fp32_contents == tensor.contents.fp32_contents
    return decoded


@given(st.lists(REQUESTS, min_size=1, max_size=10))
def test_every_request_is_what_protobuf_reads(sequence: list[pb.ModelInferRequest]) -> None:
    decoder = Decoder(InferRequest)
    for request in sequence + sequence:
        check(decoder, request)


@given(st.binary(max_size=60), REQUESTS)
def test_no_bytes_crash_it(junk: bytes, request: pb.ModelInferRequest) -> None:
    decoder = Decoder(InferRequest)
    message = request.SerializeToString()
    decoder.decode(message)
    for damaged in (message[:-1], message + junk, junk + message, message[: len(message) // 2], message.replace(b"2", b"*")):
        with suppress(InvalidRequest):
            decoded = decoder.decode(damaged)
            for tensor, contents in zip(decoded.signature.inputs, decoded.contents, strict=False):
                with suppress(InvalidRequest):
                    typed_values(tensor.name, tensor.datatype, contents)


def test_a_signature_is_found_again_whatever_the_values() -> None:
    decoder = Decoder(InferRequest)
    first = check(decoder, request_of("a", "", "", [("fp32_contents", [1.0]), ("bytes_contents", [b"x"])]))
    again = check(decoder, request_of("a", "me", "u", [("fp32_contents", [2.0]), ("bytes_contents", [b"longer"])]))
    other = check(decoder, request_of("a", "", "", [("fp32_contents", [1.0, 2.0]), ("bytes_contents", [b"x"])]))
    assert first.signature is again.signature
    assert other.signature is not first.signature


def test_fields_of_an_input_in_another_order_are_read_all_the_same() -> None:
    request = request_of("a", "", "", [("fp32_contents", [1.5])])
    contents = pb.ModelInferRequest.InferInputTensor(contents=request.inputs[0].contents).SerializeToString()
    head = pb.ModelInferRequest.InferInputTensor(name="input0", datatype="FP32", shape=[1]).SerializeToString()
    tensor = contents + head
    message = b"\x0a\x01a" + b"\x2a" + varint(len(tensor)) + tensor + b"\x32\x03\x0a\x01y"
    decoder = Decoder(InferRequest)
    for sent in (None, message, None, message):
        check(decoder, request, sent)


def test_contents_in_two_pieces_are_one() -> None:
    one, two = (pb.InferTensorContents(fp32_contents=[value]).SerializeToString() for value in (1.0, 2.0))
    assert typed_values("x", "FP32", one + two) == pb.InferTensorContents(fp32_contents=[1.0, 2.0]).SerializeToString()[2:]


def test_an_input_that_is_given_twice_is_refused() -> None:
    request = request_of("a", "", "", [("fp32_contents", [1.0])] * 3)
    request.inputs[2].name = "input0"
    with pytest.raises(InvalidRequest, match="input 'input0': given 2 times, expected once"):
        Decoder(InferRequest).decode(request.SerializeToString())


@pytest.mark.parametrize(
    ("datatype", "contents", "words"),
    [
        ("FP32", pb.InferTensorContents(int_contents=[1]).SerializeToString(), "takes fp32_contents, got int_contents"),
        ("BYTES", pb.InferTensorContents(fp32_contents=[1]).SerializeToString(), "takes bytes_contents, got fp32_contents"),
        (
            "FP32",
            pb.InferTensorContents(fp32_contents=[1], int_contents=[1]).SerializeToString(),
            "int_contents, fp32_contents",
        ),
        ("FP32", b"\x32\x03abc", "malformed contents"),  # no whole number
        ("INT32", b"\x12\x02\x01\x80", "malformed contents"),  # a number that does not end
        ("INT32", b"\x12\x09\x01", "malformed contents"),  # a length beyond the end
        ("BYTES", b"\x42\x09\x01", "malformed contents"),
    ],
)
def test_contents_that_do_not_fit_are_refused_by_name(datatype: str, contents: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input 'x': .*{words}"):
        typed_values("x", datatype, contents)


def test_interned_signatures_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.serving.oip.decode.MAX_SIGNATURE_BYTES", 100)
    decoder = Decoder(InferRequest)
    for size in range(1, 9):
        check(decoder, request_of("a", "", "", [("fp32_contents", [1.0] * size)]))
        assert len(decoder._signatures) <= 3
