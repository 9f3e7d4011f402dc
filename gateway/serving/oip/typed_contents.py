"""
Typed contents of inputs, cut from the description of the tensor that they belong to. Pure.

A typed request carries its numbers within each input, where raw contents stand apart. Without them, what is left of the
inputs repeats from request to request, so that its signature is found instead of parsed.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.runtime.tensor_contents import DTYPES, Buffer
from gateway.serving.oip.fields import LENGTH_DELIMITED, TYPED_FIELDS, read_varint, skipped, varint

SMALL_BYTES = 16_384  # bytes of contents up to which they are copied; larger ones stay views of the message
_INPUTS_TAG = bytes([5 << 3 | LENGTH_DELIMITED])
_CONTENTS_TAG = 5 << 3 | LENGTH_DELIMITED  # in an input
_FIELDS = pb.InferTensorContents.DESCRIPTOR.fields_by_name
_TAGS = {datatype: _FIELDS[name].number << 3 | LENGTH_DELIMITED for datatype, name in TYPED_FIELDS.items()}


def cut_inputs(
    message: bytes, inputs: Sequence[tuple[int, int]], expected: Sequence[bytes]
) -> tuple[tuple[bytes, ...], list[bytes | memoryview]]:
    """
    Returns the description and the contents of every input; ``inputs`` are their positions in the message. ``expected`` are
    the descriptions to try first: those of a request like this one.
    """
    heads, contents = [], []
    for index, (position, end) in enumerate(inputs):
        head = expected[index] if index < len(expected) else None
        start = _start_after(message, head, position, end) if head is not None else -1
        if head is None or start < 0:
            head, own = _cut(message, position, end)
            contents.append(own)
        else:
            contents.append(_part(message, start, end))
        heads.append(head)
    return tuple(heads), contents


def _part(message: bytes, start: int, end: int) -> bytes | memoryview:
    """Returns the bytes from ``start`` to ``end``: a copy if they are few, else a view."""
    return message[start:end] if end - start <= SMALL_BYTES else memoryview(message)[start:end]


def framed_inputs(heads: Sequence[bytes]) -> bytes:
    """Returns descriptions as the inputs of a ModelInferRequest."""
    return b"".join(piece for head in heads for piece in (_INPUTS_TAG, varint(len(head)), head))


def typed_values(name: str, datatype: str, contents: Buffer) -> Buffer | list[bytes]:
    """
    Returns the values in typed contents: the elements of BYTES, else the packed form of the one field that the datatype
    takes. Raises InvalidRequest that names the input.
    """
    if datatype != "BYTES" and _is_packed(datatype, contents):
        return contents[read_varint(contents, 1)[1] :] if contents else b""
    try:
        message = pb.InferTensorContents.FromString(bytes(contents))
    except DecodeError as error:
        raise InvalidRequest(f"input {name!r}: malformed contents: {error}", field=name) from None
    attribute = TYPED_FIELDS[datatype]
    filled = [descriptor.name for descriptor, _ in message.ListFields()]
    if filled not in ([], [attribute]):
        raise InvalidRequest(f"input {name!r}: datatype {datatype} takes {attribute}, got {', '.join(filled)}", field=name)
    if datatype == "BYTES":
        return list(message.bytes_contents)
    packed: bytes = message.SerializeToString()
    return packed[read_varint(packed, 1)[1] :] if packed else b""


def _is_packed(datatype: str, contents: Buffer) -> bool:
    """Whether contents are what clients send: nothing, or the fitting field once, whole and packed."""
    if not contents:
        return True
    if contents[0] != _TAGS[datatype]:
        return False
    size, start = read_varint(contents, 1)
    dtype = DTYPES[datatype]
    is_whole = size % dtype.itemsize == 0 if dtype.kind == "f" else contents[-1] < 0x80
    return start + size == len(contents) and is_whole


def _start_after(message: bytes, head: bytes, position: int, end: int) -> int:
    """Returns where the contents begin after ``head``, ``end`` if there are none; -1 if the input is not of that form."""
    after = position + len(head)
    if after > end or not message.startswith(head, position):
        return -1
    if after == end:
        return end
    if message[after] != _CONTENTS_TAG:
        return -1
    size, start = read_varint(message, after + 1)
    return start if start + size == end else -1


def _cut(message: bytes, position: int, end: int) -> tuple[bytes, bytes | memoryview]:
    """Walks the fields of one input, in any order."""
    head: list[bytes] = []
    contents: list[bytes | memoryview] = []
    while position < end:
        start = position
        tag, position = read_varint(message, position)
        after = skipped(message, tag & 7, position, end)
        if tag == _CONTENTS_TAG:
            _, position = read_varint(message, position)
            contents.append(_part(message, position, after))
        else:
            head.append(message[start:after])
        position = after
    return b"".join(head), contents[0] if len(contents) == 1 else b"".join(contents)
