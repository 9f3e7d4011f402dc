"""Raw tensors: what goes in comes out, for every datatype; what does not fit is refused by name."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.client.tensors import TensorError, bfloat16, datatype_of, decode, encode

DTYPES = "? u1 <u2 <u4 <u8 i1 <i2 <i4 <i8 <f2 <f4 <f8 >f4 >i2".split()
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))
def test_numbers_come_back_bit_for_bit(array):
    datatype = datatype_of(array)
    back = decode(encode(array, datatype), datatype, array.shape)
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


@given(st.lists(st.binary(max_size=6), max_size=8))
def test_bytes_come_back_and_have_the_protocols_form(elements):
    array = np.array([*elements, None], object)[:-1]
    raw = encode(array, "BYTES")
    assert raw == b"".join(struct.pack("<I", len(element)) + element for element in elements)
    assert decode(raw, "BYTES", (len(elements),)).tolist() == elements


@given(st.lists(st.binary(min_size=3, max_size=3), min_size=1, max_size=8))
def test_bytes_of_one_length_come_back(elements):
    array = np.array([*elements, None], object)[:-1]
    assert decode(encode(array, "BYTES"), "BYTES", (len(elements), 1)).reshape(-1).tolist() == elements


@given(hnp.arrays("<U5", SHAPES, elements=st.text("aé漢🚂", max_size=5)))
def test_text_goes_out_as_utf8(array):
    back = decode(encode(array, datatype_of(array)), "BYTES", array.shape)
    assert [element.decode() for element in back.reshape(-1)] == array.reshape(-1).tolist()


def test_bfloat16_goes_by_its_own_dtype_and_by_its_bits():
    dtype = bfloat16()
    bits = np.array([0x3F80, 0xC000], np.uint16)
    assert encode(bits, "BF16") == bits.tobytes()
    if dtype is not None:
        assert encode(bits.view(dtype), datatype_of(bits.view(dtype))) == bits.tobytes()
        assert decode(bits.tobytes(), "BF16", (2,)).astype("f4").tolist() == [1.0, -2.0]


def test_a_transposed_array_is_sent_in_row_major_order():
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    assert decode(encode(array, "INT32"), "INT32", (3, 2)).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("raw", "datatype", "shape"),
    [
        (b"\0" * 7, "FP32", (2,)),
        (b"\5\0\0\0abc", "BYTES", (1,)),
        (b"\1\0\0\0a\0", "BYTES", (1,)),
        (b"\1\0", "BYTES", (1,)),
        (b"\1\0\0\0a", "BYTES", (0,)),
    ],
)
def test_bytes_that_do_not_fit_are_refused_by_name(raw, datatype, shape):
    with pytest.raises(TensorError, match="output 'y'"):
        decode(raw, datatype, shape, "y")


def test_a_dtype_without_a_datatype_is_refused_by_name():
    with pytest.raises(TensorError, match=r"input 'x': dtype complex128"):
        datatype_of(np.zeros(1, complex), "x")


def test_an_element_that_is_no_text_is_refused_by_name():
    with pytest.raises(TensorError, match="input 'x': BYTES takes str or bytes elements, got int"):
        encode(np.array([b"a", 3], object), "BYTES", "x")
