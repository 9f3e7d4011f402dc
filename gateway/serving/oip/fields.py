"""
Protobuf fields of the Open Inference Protocol, by hand where that is faster: lengths, tags, typed contents. Pure.

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from gateway.errors import InvalidRequest

LENGTH_DELIMITED = 2  # protobuf's wire type of bytes, texts, messages and packed numbers
VARINT = 0
FIXED_BYTES = {1: 8, 5: 4}  # bytes by wire type
# The field of InferTensorContents that holds the typed contents of each datatype.
TYPED_FIELDS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def read_varint(message: bytes | memoryview, position: int) -> tuple[int, int]:
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


def skipped(message: bytes, wire_type: int, position: int, end: int) -> int:
    """Returns the position after the value of a field that begins at ``position``. Raises InvalidRequest beyond ``end``."""
    if wire_type == LENGTH_DELIMITED:
        size, position = read_varint(message, position)
        position += size
    elif wire_type == VARINT:
        _, position = read_varint(message, position)
    elif wire_type in FIXED_BYTES:
        position += FIXED_BYTES[wire_type]
    else:
        raise InvalidRequest(f"malformed ModelInferRequest: wire type {wire_type}")
    if position > end:
        raise InvalidRequest("malformed ModelInferRequest: a field of an input ends after the input")
    return position


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
