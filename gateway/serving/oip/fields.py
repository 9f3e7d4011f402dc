"""
Protobuf fields of the Open Inference Protocol, by hand where that is faster: lengths, tags, typed contents. Pure.

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from gateway.errors import InvalidRequest

LENGTH_DELIMITED = 2  # protobuf's wire type of bytes, texts, messages and packed numbers
# The field of InferTensorContents that holds the typed contents of each datatype.
TYPED_FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def read_varint(message: bytes, position: int) -> tuple[int, int]:
    """Returns the number at ``position`` and the position after it. Raises InvalidRequest if it does not end."""
    value = shift = 0
    try:
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
            if shift > 63:
                break
    except IndexError:
        pass
    raise InvalidRequest("malformed ModelInferRequest: a number does not end")


def varint(value: int) -> bytes:
    """Encodes a number as protobuf encodes lengths."""
    if value < 0x80:
        return value.to_bytes(1, "little")
    if value < 0x4000:
        return (value & 0x7F | 0x80 | value >> 7 << 8).to_bytes(2, "little")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
