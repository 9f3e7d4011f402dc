"""Typed contents, read as a whole: equal to what protobuf's own fields say, for every type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.runtime.tensor_contents import DTYPES, from_typed, to_typed
from gateway.serving.oip.decode import Decoder, InferRequest
from gateway.serving.oip.encode import typed_response
from gateway.serving.oip.typed_contents import typed_values

FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip


def arrays(datatype: str) -> st.SearchStrategy:
    dtype = DTYPES[datatype]
    if dtype.kind == "b":
        elements = st.booleans()
    elif dtype.kind == "f":
        elements = st.floats(width=dtype.itemsize * 8)
    else:
        limits = np.iinfo(dtype)
        elements = st.integers(int(limits.min), int(limits.max))
    return st.lists(elements, max_size=40).map(lambda values: np.array(values, dtype))


def typed_of(datatype: str, values: list) -> object:
    request = pb.ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[len(values)])
    getattr(tensor.contents, FIELDS[datatype]).extend(values)
    return typed_values("x", datatype, Decoder(InferRequest).decode(request.SerializeToString()).contents[0])


@given(st.sampled_from(sorted(FIELDS)).flatmap(lambda datatype: st.tuples(st.just(datatype), arrays(datatype))))
def test_every_value_arrives_as_it_was_sent(case):
    datatype, array = case
    read = from_typed("x", datatype, array.shape, typed_of(datatype, array.tolist()))
    assert read.dtype == DTYPES[datatype]
    np.testing.assert_array_equal(read, array)


@given(st.sampled_from(sorted(FIELDS)).flatmap(lambda datatype: st.tuples(st.just(datatype), arrays(datatype))))
def test_every_value_is_answered_as_it_is(case):
    datatype, array = case
    described = (("y", datatype, array.shape),)
    response = pb.ModelInferResponse.FromString(typed_response("m", 1, "default", "0" * 36, described, [to_typed(array)], b""))
    values = getattr(response.outputs[0].contents, FIELDS[datatype])
    np.testing.assert_array_equal(np.array(list(values), array.dtype), array)


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT8", -129), ("INT16", 1 << 15), ("UINT8", 256)])
def test_a_value_out_of_range_is_named(datatype, value):
    with pytest.raises(InvalidRequest, match=f"input 'x': a value does not fit {datatype}"):
        from_typed("x", datatype, (1,), typed_of(datatype, [value]))


def test_another_number_of_elements_is_named():
    with pytest.raises(InvalidRequest, match=r"input 'x': shape \[3\] has 3 elements, got 2"):
        from_typed("x", "FP32", (3,), typed_of("FP32", [1.0, 2.0]))


def test_a_number_of_too_many_bytes_is_named():
    with pytest.raises(InvalidRequest, match="input 'x': a number of more than 10 bytes"):
        from_typed("x", "INT64", (1,), b"\x80" * 10 + b"\x01")
