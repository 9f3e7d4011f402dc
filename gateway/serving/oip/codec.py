"""
ModelInfer on the wire: request bytes to a `Request`, outputs to response bytes. Pure: no call, no model, no clock.

Theory of operation. Most requests of one caller differ only in their raw contents (and in `id`). The protobuf *header*,
everything else, is parsed once and becomes an interned `Layout`; what depends on it (validation, batching key, response
template) is cached by whoever holds the layout. Three ways in, the first that fits:

1. *Same bytes*: a message of known length that starts with a known header, and whose further raw fields start where
   they did, is cut at the known places. Tried first is the header seen last in a message of that length; where several
   are in use (many models called in turn), they are found by a slice of the message.
2. *Same header*: the top-level fields are walked here; `id` and `parameters` vary by request and are left out of the key.
3. *New header*: protobuf parses it.

Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.placement import REGION, Placement, placement_of

MAX_LAYOUTS = 4096  # interned layouts; at the bound all are forgotten, which costs a parse each and nothing else
MAX_HEAD_SIZES = 4  # sizes of header looked up for one length of message; names of models differ in a few lengths only
SMALL_BYTES = 16_384  # raw contents up to this size are copied out, larger ones stay views of the request
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_NAME, _VERSION, _ID, _PARAMETERS, _INPUTS, _OUTPUTS, _RAW = range(1, 8)
_LENGTH_DELIMITED = 2
_RAW_OUTPUT_TAG = bytes([6 << 3 | _LENGTH_DELIMITED])
_PACKED_TAGS = {"FP32": bytes([6 << 3 | _LENGTH_DELIMITED]), "FP64": bytes([7 << 3 | _LENGTH_DELIMITED])}


@dataclass(frozen=True, slots=True)
class InputLayout:
    """
    One input as the request describes it. ``typed`` holds its typed contents (the elements of BYTES, else protobuf's packed
    form of the field), None when they are raw or ``placement`` says where in shared memory they lie.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    typed: bytes | list[bytes] | None = None
    placement: Placement | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """
    The part of a request that repeats: model, version, input descriptions, requested outputs, sizes of raw contents (of the
    inputs that are not in shared memory, in their order). ``placements`` are those of the requested outputs, empty when none
    has one. Compared by identity, so that whatever depends on it can be cached on it.
    """

    model: str
    version: str
    inputs: tuple[InputLayout, ...]
    outputs: tuple[str, ...]  # requested ones; empty: all
    raw_sizes: tuple[int, ...]
    placements: tuple[Placement | None, ...] = ()

    @property
    def is_typed(self) -> bool:
        """Whether it holds contents of its own, so that it belongs to one request alone."""
        return any(tensor.typed is not None for tensor in self.inputs)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Request parameters that the gateway reads. ``priority`` 1 is highest, 0 unset; ``timeout_us`` bounds the queue wait."""

    unit_id: str = ""
    priority: int = 0
    timeout_us: int = 0
    is_binary: bool = True


NO_PARAMETERS = Parameters()


class Request:
    """One decoded request. ``raw`` are the raw contents in the order of the inputs; ``id_field`` is `id` as encoded."""

    __slots__ = ("id_field", "layout", "parameters", "raw")

    def __init__(
        self, layout: Layout, raw: list[bytes | memoryview], id_field: bytes, parameters: Parameters = NO_PARAMETERS
    ) -> None:
        self.layout = layout
        self.raw = raw
        self.id_field = id_field
        self.parameters = parameters

    @property
    def id(self) -> str:
        """The caller's own id; empty when there is none."""
        return id_text(self.id_field)


def id_text(id_field: bytes) -> str:
    """The text in an encoded `id` field."""
    return pb.ModelInferRequest.FromString(id_field).id if id_field else ""


def id_field_of(message: bytes) -> bytes:
    """The `id` field of a request as encoded; empty where there is none that can be read, as in a malformed message."""
    try:
        id_field = _Fields(message).id_field
        id_text(id_field)
    except (InvalidRequest, DecodeError):
        return b""
    return id_field


@dataclass(frozen=True, slots=True)
class _KnownMessage:
    """Where the raw contents of a known message begin and end: way 1. ``only`` is the one cut of a small message."""

    head: bytes
    only: slice | None
    frames: tuple[tuple[int, bytes], ...]  # (offset, tag and length) of the second and further raw fields
    cuts: tuple[tuple[int, int], ...]
    layout: Layout


class _SameLength:
    """The known messages of one length, by header: those of as many models, at the price of one look-up."""

    __slots__ = ("_by_head", "_sizes")

    def __init__(self) -> None:
        self._by_head: dict[bytes, _KnownMessage] = {}
        self._sizes: tuple[int, ...] = ()

    def find(self, message: bytes) -> _KnownMessage | None:
        """The known message that starts as this one."""
        for size in self._sizes:
            known = self._by_head.get(message[:size])
            if known is not None:
                return known
        return None

    def add(self, known: _KnownMessage) -> None:
        """Remembers it. Sizes of header beyond MAX_HEAD_SIZES are forgotten, so that a look-up stays short."""
        size = len(known.head)
        if size not in self._sizes:
            if len(self._sizes) >= MAX_HEAD_SIZES:
                self._by_head.clear()
                self._sizes = ()
            self._sizes = (*self._sizes, size)
        self._by_head[known.head] = known


R = TypeVar("R", bound=Request)


class Decoder(Generic[R]):
    """Decodes requests into objects of ``kind``, which is made as `Request` is; not thread-safe (one per taking thread)."""

    def __init__(self, kind: type[R]) -> None:
        self._kind = kind
        self._by_length: dict[int, _KnownMessage] = {}
        self._alike: dict[int, _SameLength] = {}
        self._layouts: dict[tuple[bytes, tuple[int, ...]], Layout] = {}

    def decode(self, message: bytes) -> R:
        """The request in a message. Raises InvalidRequest when it is no ModelInferRequest."""
        known = self._by_length.get(len(message))
        if known is not None and (message.startswith(known.head) or (known := self._alike[len(message)].find(message))):
            if known.only is not None:
                return self._kind(known.layout, [message[known.only]], b"")
            for offset, frame in known.frames:
                if not message.startswith(frame, offset):
                    break
            else:
                return self._kind(known.layout, _cut(message, known.cuts), b"")
        return self._walk(message)

    def _walk(self, message: bytes) -> R:
        fields = _Fields(message)
        sizes = tuple(end - start for start, end in fields.cuts)
        key = (fields.header, sizes)
        layout = self._layouts.get(key)
        if layout is None:
            layout = parse_layout(fields.header, sizes)
            if not layout.is_typed:
                self._remember(key, layout)
        if not fields.id_field and not fields.parameters and fields.is_raw_last and layout.raw_sizes:
            known = self._by_length[len(message)] = _known(message, fields, layout)
            self._alike.setdefault(len(message), _SameLength()).add(known)
        parameters = parse_parameters(fields.parameters) if fields.parameters else NO_PARAMETERS
        return self._kind(layout, _cut(message, fields.cuts), fields.id_field, parameters)

    def _remember(self, key: tuple[bytes, tuple[int, ...]], layout: Layout) -> None:
        if len(self._layouts) >= MAX_LAYOUTS:
            self._layouts.clear()
            self._by_length.clear()
            self._alike.clear()
        self._layouts[key] = layout


def _cut(message: bytes, cuts: Any) -> list[bytes | memoryview]:
    return [message[start:end] if end - start <= SMALL_BYTES else memoryview(message)[start:end] for start, end in cuts]


def _known(message: bytes, fields: _Fields, layout: Layout) -> _KnownMessage:
    ends = [end for _, end in fields.cuts]
    frames = tuple((end, message[end:start]) for end, (start, _) in zip(ends, fields.cuts[1:], strict=False))
    start, end = fields.cuts[0]
    only = slice(start, end) if len(fields.cuts) == 1 and end - start <= SMALL_BYTES else None
    return _KnownMessage(message[:start], only, frames, tuple(fields.cuts), layout)


class _Fields:
    """The top-level fields of a ModelInferRequest: raw contents as (start, end), the rest as bytes."""

    __slots__ = ("cuts", "header", "id_field", "is_raw_last", "parameters")

    def __init__(self, message: bytes) -> None:
        self.cuts: list[tuple[int, int]] = []
        self.id_field = self.parameters = b""
        self.is_raw_last = True
        header, position, size = [], 0, len(message)
        while position < size:
            start = position
            tag, position = _varint(message, position)
            if tag & 7 != _LENGTH_DELIMITED:
                raise InvalidRequest(f"malformed ModelInferRequest: field {tag >> 3} has wire type {tag & 7}")
            length, position = _varint(message, position)
            end = position + length
            if end > size:
                raise InvalidRequest(
                    f"malformed ModelInferRequest: field {tag >> 3} claims {length} bytes, {size - position} are left"
                )
            number = tag >> 3
            if number == _RAW:
                self.cuts.append((position, end))
            else:
                self.is_raw_last = self.is_raw_last and not self.cuts
                if number == _ID:
                    self.id_field = message[start:end]
                elif number == _PARAMETERS:
                    self.parameters += message[start:end]
                else:
                    header.append(message[start:end])
            position = end
        self.header = b"".join(header)


def _varint(message: bytes, position: int) -> tuple[int, int]:
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


def parse_layout(header: bytes, raw_sizes: tuple[int, ...]) -> Layout:
    """The layout in a header (a ModelInferRequest without raw contents). Raises InvalidRequest."""
    try:
        message = pb.ModelInferRequest.FromString(header)
    except DecodeError as error:
        raise InvalidRequest(f"malformed ModelInferRequest: {error}") from None
    names = [tensor.name for tensor in message.inputs]
    for name in {name for name in names if names.count(name) > 1}:
        raise InvalidRequest(f"input {name!r}: given {names.count(name)} times, expected once", field=name)
    inputs = tuple(_input_layout(tensor, is_raw=bool(raw_sizes)) for tensor in message.inputs)
    sent = sum(tensor.placement is None for tensor in inputs)
    if raw_sizes and len(raw_sizes) != sent:
        raise InvalidRequest(
            f"raw_input_contents: {len(raw_sizes)} entries for {sent} inputs, expected one each",
            field="raw_input_contents",
        )
    outputs = tuple(tensor.name for tensor in message.outputs)
    placements = tuple(placement_of(f"output {tensor.name!r}", tensor.parameters) for tensor in message.outputs)
    is_placed = any(placement is not None for placement in placements)
    return Layout(message.model_name, message.model_version, inputs, outputs, raw_sizes, placements if is_placed else ())


def _input_layout(tensor: Any, *, is_raw: bool) -> InputLayout:
    name, shape = tensor.name, tuple(tensor.shape)
    if any(dim < 0 for dim in shape):
        raise InvalidRequest(f"input {name!r}: shape {list(shape)} has a negative dimension", field=name)
    placement = placement_of(f"input {name!r}", tensor.parameters) if tensor.parameters else None
    if placement is not None:
        if tensor.HasField("contents"):
            raise InvalidRequest(f"input {name!r}: has contents beside {REGION}, expected one form", field=name)
        return InputLayout(name, tensor.datatype, shape, placement=placement)
    if is_raw and tensor.HasField("contents"):
        raise InvalidRequest(f"input {name!r}: has typed contents beside raw_input_contents, expected one form", field=name)
    if is_raw:
        return InputLayout(name, tensor.datatype, shape)
    attribute = _CONTENTS.get(tensor.datatype)
    if attribute is None:
        raise InvalidRequest(
            f"input {name!r}: datatype {tensor.datatype!r} has no typed contents, expected raw_input_contents "
            f"or one of {', '.join(_CONTENTS)}",
            field=name,
        )
    filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if filled not in ([], [attribute]):
        raise InvalidRequest(
            f"input {name!r}: datatype {tensor.datatype} takes {attribute}, got {', '.join(filled)}", field=name
        )
    return InputLayout(name, tensor.datatype, shape, _typed(tensor))


def _typed(tensor: Any) -> bytes | list[bytes]:
    """The typed contents, of which only the one field that fits is filled: numbers stay packed, to be read as a whole."""
    if tensor.datatype == "BYTES":
        return list(tensor.contents.bytes_contents)
    field: bytes = tensor.contents.SerializeToString()
    if not field:
        return b""
    _, start = _varint(field, 1)  # the tag is one byte, the length follows
    return field[start:]


def parse_parameters(encoded: bytes) -> Parameters:
    """The parameters that the gateway reads; others are the model's business and are ignored. Raises InvalidRequest."""
    try:
        given = pb.ModelInferRequest.FromString(encoded).parameters
    except DecodeError as error:
        raise InvalidRequest(f"malformed ModelInferRequest: parameters: {error}") from None
    priority = int(_parameter(given, "priority", int, 0))
    if priority < 0:
        raise InvalidRequest(f"parameter 'priority': expected 1 (highest) or more, got {priority}", field="priority")
    return Parameters(
        unit_id=str(_parameter(given, "unit_id", str, "")),
        priority=priority,
        timeout_us=int(_parameter(given, "timeout", int, 0)),
        is_binary=bool(_parameter(given, "binary_data_output", bool, True)),
    )


def _parameter(given: Any, name: str, kind: type, default: Any) -> Any:
    if name not in given:
        return default
    choice = given[name].WhichOneof("parameter_choice")
    value = getattr(given[name], choice) if choice else None
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if type(value) is not kind:
        raise InvalidRequest(f"parameter {name!r}: expected {kind.__name__}, got {value!r}", field=name)
    return value


# ---- responses ------------------------------------------------------------------------------------------------------

Output = tuple[str, str, tuple[int, ...]]  # name, datatype, shape
PREDICTION_ID_CHARS = 36


def response_head(model: str, version: int, arm: str, outputs: tuple[Output, ...]) -> bytes:
    """
    The part of a raw response that repeats, ending where the 36 characters of the prediction id go. What follows them
    are the raw outputs as `raw_frame` + bytes; an `id` field fits anywhere between fields, so it goes last.
    """
    message = pb.ModelInferResponse(model_name=model, model_version=str(version))
    message.parameters["arm"].string_param = arm
    for name, datatype, shape in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=shape)
    empty_id = pb.ModelInferResponse()
    empty_id.parameters["prediction_id"].string_param = "0" * PREDICTION_ID_CHARS
    encoded: bytes = message.SerializeToString()
    return encoded + empty_id.SerializeToString()[:-PREDICTION_ID_CHARS]


def raw_frame(size: int) -> bytes:
    """Tag and length of one raw_output_contents entry of ``size`` bytes."""
    return _RAW_OUTPUT_TAG + _length(size)


def _length(size: int) -> bytes:
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def check_typed(name: str, datatype: str) -> None:
    """Raises InvalidRequest for an output that typed contents have no field for."""
    if datatype not in _CONTENTS:
        raise InvalidRequest(
            f"output {name!r}: datatype {datatype} has no typed contents, leave binary_data_output unset", field=name
        )


def typed_response(
    model: str,
    version: int,
    arm: str,
    prediction_id: str,
    outputs: tuple[Output, ...],
    values: Sequence[list[Any] | bytes],
    id_field: bytes,
) -> bytes:
    """
    A response with typed contents (request parameter ``binary_data_output`` = false); ``values`` are flat per output, bytes
    where they are packed floats.
    """
    message = pb.ModelInferResponse(model_name=model, model_version=str(version))
    message.parameters["arm"].string_param = arm
    message.parameters["prediction_id"].string_param = prediction_id
    for (name, datatype, shape), flat in zip(outputs, values, strict=True):
        fill_typed(message.outputs.add(name=name, datatype=datatype, shape=shape), flat)
    encoded: bytes = message.SerializeToString()
    return encoded + id_field


def fill_typed(tensor: Any, flat: list[Any] | bytes) -> None:
    """
    Gives an output of a response its typed contents, bytes where they are packed floats. Raises InvalidRequest for a datatype
    that has none.
    """
    check_typed(tensor.name, tensor.datatype)
    if isinstance(flat, bytes):
        tensor.contents.MergeFromString(_PACKED_TAGS[tensor.datatype] + _length(len(flat)) + flat)
    else:
        getattr(tensor.contents, _CONTENTS[tensor.datatype]).extend(flat)


def prediction_id_of(response: bytes) -> str:
    """The prediction id in an encoded response."""
    return str(pb.ModelInferResponse.FromString(response).parameters["prediction_id"].string_param)
