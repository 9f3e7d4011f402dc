"""
Reads an ONNX file without its weights: what the raw contents of large initializers hold is skipped, not read.

Only the protobuf framing is walked, so a file of gigabytes costs the memory of its graph.
https://protobuf.dev/programming-guides/encoding/, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Iterator

KEPT_BYTES = 4096  # of raw contents that are small enough to be kept
_RAW_DATA = (7, 5, 9)  # ModelProto.graph, GraphProto.initializer, TensorProto.raw_data
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
Buffer = memoryview


def skimmed(message: Buffer) -> bytes:
    """Returns the ModelProto without large raw contents of initializers. Raises ValueError if the framing is broken."""
    return _without(message, 0, len(message), _RAW_DATA)


def _without(message: Buffer, start: int, end: int, path: tuple[int, ...]) -> bytes:
    kept: list[bytes] = []
    for number, wire, begin, at, stop in _fields(message, start, end):
        is_on_path = wire == _BYTES and number == path[0]
        if is_on_path and len(path) > 1:
            inner = _without(message, at, stop, path[1:])
            kept += (_varint_of(number << 3 | _BYTES), _varint_of(len(inner)), inner)
        elif not is_on_path or stop - at <= KEPT_BYTES:
            kept.append(bytes(message[begin:stop]))
    return b"".join(kept)


def _fields(message: Buffer, start: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yields number, wire type, and the places where each field begins, where its value does, and where it ends."""
    while start < end:
        tag, at = _varint(message, start, end)
        wire = tag & 7
        if wire == _BYTES:
            size, at = _varint(message, at, end)
            stop = at + size
        elif wire == _VARINT:
            _, stop = _varint(message, at, end)
        elif wire in (_FIXED32, _FIXED64):
            stop = at + (8 if wire == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {wire}")
        if stop > end:
            raise ValueError("a field is longer than its message")
        yield tag >> 3, wire, start, at, stop
        start = stop


def _varint(message: Buffer, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is cut off")


def _varint_of(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)
