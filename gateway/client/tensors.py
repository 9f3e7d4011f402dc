"""
Tensors between numpy and the Open Inference Protocol's raw form. Pure.

Raw form: the elements in row-major order, little-endian; BOOL one byte each; BYTES for each element its length as four
bytes and then the bytes. FP16 and BF16 exist only raw. BF16 is numpy's `bfloat16` where `ml_dtypes` is installed, and
`uint16` holding the bits where it is not.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.client.call_errors import CannotSend

Array = NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_DATATYPES = {(dtype.kind, dtype.itemsize): name for name, dtype in _DTYPES.items()}


class TensorError(CannotSend):
    """An array that the protocol has no form for, or bytes that do not fit what was announced; names the tensor."""


def bfloat16() -> np.dtype[Any] | None:
    """numpy's dtype for BF16, or None where `ml_dtypes` is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def datatype_of(array: Array, name: str = "") -> str:
    """The protocol's datatype of an array, by its dtype. Raises TensorError naming the tensor."""
    dtype = array.dtype
    if dtype.kind in "OSU":
        return "BYTES"
    if dtype.name == "bfloat16":
        return "BF16"
    datatype = _DATATYPES.get((dtype.kind, dtype.itemsize))
    if datatype is None:
        raise TensorError(f"input {name!r}: dtype {dtype} has no datatype in the protocol; use one of {', '.join(_DTYPES)}")
    return datatype


def dtype_of(datatype: str) -> np.dtype[Any]:
    """The numpy dtype that holds a datatype (BYTES: object). Raises TensorError for an unknown one."""
    if datatype == "BYTES":
        return np.dtype(object)
    if datatype == "BF16":
        return bfloat16() or np.dtype("<u2")
    if datatype not in _DTYPES:
        raise TensorError(f"unknown datatype {datatype!r}")
    return _DTYPES[datatype]


def encode(array: Array, datatype: str, name: str = "") -> bytes:
    """
    The raw form of an array of any shape, whose dtype is the datatype's (BF16 also: `uint16` with the bits; BYTES:
    bytes or str elements, str as UTF-8). Raises TensorError naming the tensor.
    """
    if datatype == "BYTES":
        return _encode_bytes(array, name)
    wanted = dtype_of(datatype)
    if datatype == "BF16" and array.dtype == np.uint16:
        wanted = np.dtype("<u2")
    if (array.dtype.kind, array.dtype.itemsize) != (wanted.kind, wanted.itemsize):
        raise TensorError(f"input {name!r}: {datatype} was asked for, but the array's dtype is {array.dtype}")
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def decode(raw: bytes, datatype: str, shape: tuple[int, ...], name: str = "") -> Array:
    """The array of a raw tensor; BYTES become an object array of `bytes`. Raises TensorError when the sizes do not fit."""
    count = int(np.prod(shape, dtype=np.int64))
    if datatype == "BYTES":
        return _decode_bytes(raw, count, name).reshape(shape)
    dtype = dtype_of(datatype)
    expected = count * dtype.itemsize
    if len(raw) != expected:
        raise TensorError(
            f"output {name!r}: {len(raw)} bytes do not fit {datatype} of shape {list(shape)}, which takes {expected}"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def _encode_bytes(array: Array, name: str) -> bytes:
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    if array.dtype.kind == "S":
        elements = array.reshape(-1).tolist()
    else:
        elements = [_as_bytes(element, name) for element in array.reshape(-1).tolist()]
    lengths = np.fromiter(map(len, elements), "<u4", len(elements)).tobytes()
    parts: list[bytes] = [b""] * (2 * len(elements))
    parts[0::2] = [lengths[at : at + 4] for at in range(0, len(lengths), 4)]
    parts[1::2] = elements
    return b"".join(parts)


def _as_bytes(element: object, name: str) -> bytes:
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        return element.encode()
    raise TensorError(f"input {name!r}: BYTES takes str or bytes elements, got {type(element).__name__}")


def _decode_bytes(raw: bytes, count: int, name: str) -> Array:
    result = np.empty(count, object)
    equal = _equally_long(raw, count)
    if equal is not None:
        result[:] = equal
        return result
    at = 0
    for index in range(count):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw) or start > len(raw):
            raise TensorError(f"output {name!r}: ends inside element {index} of {count}")
        result[index] = raw[start:at]
    if at != len(raw):
        raise TensorError(f"output {name!r}: {len(raw) - at} bytes too many for {count} elements")
    return result


def _equally_long(raw: bytes, count: int) -> list[bytes] | None:
    """The elements when all have the same length (class labels often have): cut without a loop in Python; else None."""
    if count == 0 or len(raw) % count or len(raw) // count < 4:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(count, -1)
    length = rows.shape[1] - 4
    if not (np.ascontiguousarray(rows[:, :4]).view("<u4") == length).all():
        return None
    if length == 0:
        return [b""] * count
    cut: list[bytes] = np.ascontiguousarray(rows[:, 4:]).view(f"V{length}").reshape(-1).tolist()
    return cut
