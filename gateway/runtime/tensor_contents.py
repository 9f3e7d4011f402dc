"""
Conversion of tensors between the Open Inference Protocol's bytes and numpy. Pure.

BYTES are object arrays of str, BF16 are uint16 arrays that hold the bits; every other datatype is numpy's own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidRequest

Array = NDArray[Any]
Buffer = bytes | memoryview
NUMPY = {
    "BOOL": np.bool_, "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
    "FP16": np.float16, "BF16": np.uint16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_,
}  # fmt: skip
DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(kind) for name, kind in NUMPY.items()}
MAX_VARINT_BYTES = 10  # bytes of a number of 64 bits in protobuf's encoding
_LENGTH = struct.Struct("<I")


def element_count(shape: Sequence[int]) -> int:
    """Elements of a tensor; 1 for a scalar, 0 when any dimension is."""
    count = 1
    for dim in shape:
        count *= dim
    return count


def from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: Buffer) -> Array:
    """Returns the tensor in raw contents, without a copy if numpy allows. Raises InvalidRequest that names the input."""
    if datatype == "BYTES":
        return _strings(name, shape, bytes_elements(name, raw))
    dtype = DTYPES[datatype]
    expected = element_count(shape) * dtype.itemsize
    if len(raw) != expected:
        raise InvalidRequest(f"input {name!r}: {datatype} {list(shape)} is {expected} bytes, got {len(raw)}", field=name)
    if datatype == "BOOL":
        return np.frombuffer(raw, np.uint8).reshape(shape).astype(np.bool_)  # another byte is no bool for the runtime
    array = np.frombuffer(raw, dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def bytes_elements(name: str, raw: Buffer) -> list[bytes]:
    """Returns the elements of a BYTES tensor: each is a 4-byte little-endian length and that many bytes."""
    elements, position, size = [], 0, len(raw)
    while position < size:
        if position + 4 > size:
            raise InvalidRequest(f"input {name!r}: {size - position} bytes are left where a length of 4 is due", field=name)
        (length,) = _LENGTH.unpack_from(raw, position)
        position += 4
        if position + length > size:
            raise InvalidRequest(f"input {name!r}: an element claims {length} bytes, {size - position} are left", field=name)
        elements.append(bytes(raw[position : position + length]))
        position += length
    return elements


def from_typed(name: str, datatype: str, shape: tuple[int, ...], values: Buffer | list[bytes]) -> Array:
    """
    Returns the tensor in typed contents: the elements of BYTES, else protobuf's packed form of the field. Raises
    InvalidRequest that names the input.
    """
    if isinstance(values, list):
        return _strings(name, shape, values)
    array = _unpacked(name, datatype, values)
    if len(array) != element_count(shape):
        raise InvalidRequest(
            f"input {name!r}: shape {list(shape)} has {element_count(shape)} elements, got {len(array)}", field=name
        )
    return array.reshape(shape)


def _unpacked(name: str, datatype: str, packed: Buffer) -> Array:
    """
    Unpacks numbers: fixed-width floats, varints of everything else
    (https://protobuf.dev/programming-guides/encoding/#packed).
    """
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        return np.frombuffer(packed, dtype)
    values = _varints(name, packed)
    if dtype.kind == "b":
        truths: Array = values != 0
        return truths
    wide = values.view(np.int64) if dtype.kind == "i" else values
    limits = np.iinfo(dtype)
    if len(wide) and (wide.min() < limits.min or wide.max() > limits.max):
        raise InvalidRequest(f"input {name!r}: a value does not fit {datatype}", field=name)
    return wide.astype(dtype)


def _varints(name: str, packed: Buffer) -> NDArray[np.uint64]:
    parts = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(parts < 0x80)
    if len(ends) == len(parts):  # one byte each
        return parts.astype(np.uint64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    place = np.arange(len(parts)) - np.repeat(starts, ends - starts + 1)
    if place.max() >= MAX_VARINT_BYTES:
        raise InvalidRequest(f"input {name!r}: a number of more than {MAX_VARINT_BYTES} bytes", field=name)
    bits = (parts & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    values: NDArray[np.uint64] = np.bitwise_or.reduceat(bits, starts)
    return values


def _strings(name: str, shape: tuple[int, ...], elements: list[bytes]) -> Array:
    if len(elements) != element_count(shape):
        raise InvalidRequest(
            f"input {name!r}: BYTES {list(shape)} has {element_count(shape)} elements, got {len(elements)}", field=name
        )
    array = np.empty(len(elements), np.object_)
    try:
        array[:] = [element.decode() for element in elements]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {name!r}: an element is no UTF-8 text ({error.reason})", field=name) from None
    return array.reshape(shape)


def to_raw(array: Array) -> bytes:
    """Returns the raw contents of a tensor, row-major."""
    if array.dtype == np.object_:
        encoded = [element.encode() for element in array.reshape(-1)]
        return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))
    return array.tobytes()


def to_typed(array: Array) -> list[Any] | bytes:
    """Returns a tensor for typed contents, flat and row-major: floats packed, other numbers as Python values, text as bytes."""
    if array.dtype == np.object_:
        return [element.encode() for element in array.reshape(-1)]
    if array.dtype.kind == "f":
        return array.tobytes()
    flat: list[Any] = array.reshape(-1).tolist()
    return flat


def bfloat16_values(bits: Array) -> Array:
    """Returns the numbers in BF16's bits as float32: BF16 is the upper half of a float32."""
    values: Array = (bits.astype(np.uint32) << 16).view(np.float32)
    return values
