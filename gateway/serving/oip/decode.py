"""
Decodes ModelInferRequest: message bytes to an `InferRequest`. Pure: no call, no model, no clock.

Most requests of one caller differ only in their contents (and in `id`). The protobuf *header*, all the rest, is
parsed once and becomes an interned `RequestSignature`. Whatever depends on the signature alone (validation, batching key,
response template) is cached by it. There are three ways to decode, and the first that fits is taken:

1. *Same bytes*: the message has a known length, starts with a known header, and its raw fields start where they did. It
   is cut at the known positions. The header seen last in a message of that length is tried first. If several are in use
   (many models called in turn), a slice of the message finds the right one.
2. *Same header*: the top-level fields are walked here. `id` and `parameters` vary by request and are not part of the key.
   Typed contents stand within the inputs and are cut out of them (`typed_contents`); the rest is the header.
3. *New header*: protobuf parses it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.classification import class_count_of
from gateway.serving.oip.fields import LENGTH_DELIMITED, TYPED_FIELDS, read_varint
from gateway.serving.oip.placement import REGION, Placement, placement_of
from gateway.serving.oip.typed_contents import SMALL_BYTES, cut_inputs, framed_inputs

MAX_SIGNATURES = 4096  # interned signatures; at the bound all are forgotten, which costs a parse each and nothing else
MAX_SIGNATURE_BYTES = 32 * 1024**2  # bytes of their headers, likewise
MAX_HEAD_SIZES = 4  # header sizes tried for one length of message; names of models have few different lengths
SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")  # parameters of Triton that ask for state between requests
_ID, _PARAMETERS, _INPUTS, _RAW = 3, 4, 5, 7  # fields of ModelInferRequest


@dataclass(frozen=True, slots=True)
class InputSignature:
    """
    One input as the request describes it, without its contents; they are in shared memory if there is a ``placement``.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    placement: Placement | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RequestSignature:
    """
    The part of a request that repeats: model, version, input signatures, requested outputs, and the sizes of the raw
    contents (of the inputs that are not in shared memory, in their order). ``placements`` are those of the requested
    outputs, ``class_counts`` the numbers of classes that they are to be answered with; empty if none has one. Compared by
    identity, so it is a quick key of caches.
    """

    model: str
    version: str
    inputs: tuple[InputSignature, ...]
    outputs: tuple[str, ...]  # requested ones; empty: all
    raw_sizes: tuple[int, ...]
    placements: tuple[Placement | None, ...] = ()
    class_counts: tuple[int, ...] = ()
    has_placed_inputs: bool = False


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a request that the gateway reads. ``priority``: 1 is highest, 0 unset; ``timeout_us`` bounds the wait."""

    unit_id: str = ""
    priority: int = 0
    timeout_us: int = 0
    is_binary: bool = True


NO_PARAMETERS = Parameters()


class InferRequest:
    """
    A decoded request. ``contents`` are the raw contents in the order of the inputs, or the typed ones if the signature has
    no raw sizes: one encoded InferTensorContents per input. ``id_field`` is the encoded `id`.
    """

    __slots__ = ("contents", "id_field", "parameters", "signature")

    def __init__(
        self,
        signature: RequestSignature,
        contents: list[bytes | memoryview],
        id_field: bytes,
        parameters: Parameters = NO_PARAMETERS,
    ) -> None:
        self.signature = signature
        self.contents = contents
        self.id_field = id_field
        self.parameters = parameters

    @property
    def id(self) -> str:
        """The caller's own id; "" if there is none."""
        return id_text(self.id_field)


def id_text(id_field: bytes) -> str:
    """Returns the text in an encoded `id` field."""
    return pb.ModelInferRequest.FromString(id_field).id if id_field else ""


def id_field_of(message: bytes) -> bytes:
    """Returns the encoded `id` field of a message; empty if there is none or the message is malformed."""
    try:
        id_field = _Fields(message).id_field
        id_text(id_field)
    except (InvalidRequest, DecodeError):
        return b""
    return id_field


@dataclass(frozen=True, slots=True)
class _KnownMessage:
    """The positions of the raw contents of a known message (way 1). ``only`` is the one cut of a small message."""

    head: bytes
    only: slice | None
    frames: tuple[tuple[int, bytes], ...]  # (offset, tag and length) of the second and further raw fields
    cuts: tuple[tuple[int, int], ...]
    signature: RequestSignature


class _SameLength:
    """The known messages of one length, by header: one look-up, however many models they are for."""

    __slots__ = ("_by_head", "_sizes")

    def __init__(self) -> None:
        self._by_head: dict[bytes, _KnownMessage] = {}
        self._sizes: tuple[int, ...] = ()

    def find(self, message: bytes) -> _KnownMessage | None:
        """Returns the known message with the same header."""
        for size in self._sizes:
            known = self._by_head.get(message[:size])
            if known is not None:
                return known
        return None

    def add(self, known: _KnownMessage) -> None:
        """Adds a message. Beyond MAX_SIGNATURE_BYTES = 32 * 1024**2  # bytes of their headers, likewise
        MAX_HEAD_SIZES header sizes all are forgotten, so that a look-up stays short."""
        size = len(known.head)
        if size not in self._sizes:
            if len(self._sizes) >= MAX_HEAD_SIZES:
                self._by_head.clear()
                self._sizes = ()
            self._sizes = (*self._sizes, size)
        self._by_head[known.head] = known


R = TypeVar("R", bound=InferRequest)
_Key = tuple[bytes, tuple[int, ...] | tuple[bytes, ...]]  # header and raw sizes, or rest and descriptions of the inputs


class Decoder(Generic[R]):
    """Decodes requests into objects of ``kind``, constructed like `InferRequest`. Not thread-safe: one per taking thread."""

    def __init__(self, kind: type[R]) -> None:
        self._kind = kind
        self._by_length: dict[int, _KnownMessage] = {}
        self._alike: dict[int, _SameLength] = {}
        self._signatures: dict[_Key, RequestSignature] = {}
        self._signature_bytes = 0
        self._heads: dict[bytes, tuple[bytes, ...]] = {}  # descriptions of the inputs of the last typed request, by the rest

    def decode(self, message: bytes) -> R:
        """Returns the request in a message. Raises InvalidRequest if it is no ModelInferRequest."""
        known = self._by_length.get(len(message))
        if known is not None and (message.startswith(known.head) or (known := self._alike[len(message)].find(message))):
            if known.only is not None:
                return self._kind(known.signature, [message[known.only]], b"")
            for offset, frame in known.frames:
                if not message.startswith(frame, offset):
                    break
            else:
                return self._kind(known.signature, _cut(message, known.cuts), b"")
        return self._walk(message)

    def _walk(self, message: bytes) -> R:
        fields = _Fields(message)
        if fields.inputs and not fields.cuts:
            return self._typed(message, fields)
        sizes = tuple(end - start for start, end in fields.cuts)
        key = (fields.header, sizes)
        signature = self._signatures.get(key)
        if signature is None:
            signature = parse_signature(fields.header, sizes)
            self._remember(key, signature, len(fields.header))
        if not fields.id_field and not fields.parameters and fields.is_raw_last and signature.raw_sizes:
            known = self._by_length[len(message)] = _known(message, fields, signature)
            self._alike.setdefault(len(message), _SameLength()).add(known)
        parameters = parse_parameters(fields.parameters) if fields.parameters else NO_PARAMETERS
        return self._kind(signature, _cut(message, fields.cuts), fields.id_field, parameters)

    def _typed(self, message: bytes, fields: _Fields) -> R:
        """Decodes a request without raw contents: the descriptions of its inputs are its header, without their contents."""
        rest = b"".join(fields.rest)
        expected = self._heads.get(rest, ())
        heads, contents = cut_inputs(message, fields.inputs, expected)
        signature = self._signatures.get((rest, heads))
        if signature is None:
            header = rest + framed_inputs(heads)
            signature = parse_signature(header, ())
            self._remember((rest, heads), signature, len(header))
        self._heads[rest] = heads
        if signature.has_placed_inputs:
            _check_placed(signature, contents)
        parameters = parse_parameters(fields.parameters) if fields.parameters else NO_PARAMETERS
        return self._kind(signature, contents, fields.id_field, parameters)

    def _remember(self, key: _Key, signature: RequestSignature, header_bytes: int) -> None:
        self._signature_bytes += header_bytes
        if len(self._signatures) >= MAX_SIGNATURES or self._signature_bytes > MAX_SIGNATURE_BYTES:
            for known in (self._signatures, self._by_length, self._alike, self._heads):
                known.clear()
            self._signature_bytes = header_bytes
        self._signatures[key] = signature


def _check_placed(signature: RequestSignature, contents: list[bytes | memoryview]) -> None:
    for tensor, own in zip(signature.inputs, contents, strict=True):
        if tensor.placement is not None and own:
            raise InvalidRequest(f"input {tensor.name!r}: has contents beside {REGION}, expected one form", field=tensor.name)


def _cut(message: bytes, cuts: Any) -> list[bytes | memoryview]:
    return [message[start:end] if end - start <= SMALL_BYTES else memoryview(message)[start:end] for start, end in cuts]


def _known(message: bytes, fields: _Fields, signature: RequestSignature) -> _KnownMessage:
    ends = [end for _, end in fields.cuts]
    frames = tuple((end, message[end:start]) for end, (start, _) in zip(ends, fields.cuts[1:], strict=False))
    start, end = fields.cuts[0]
    only = slice(start, end) if len(fields.cuts) == 1 and end - start <= SMALL_BYTES else None
    return _KnownMessage(message[:start], only, frames, tuple(fields.cuts), signature)


class _Fields:
    """
    The top-level fields of a ModelInferRequest: raw contents and inputs as (start, end), all but the raw contents as bytes,
    and ``rest`` without the inputs too.
    """

    __slots__ = ("cuts", "header", "id_field", "inputs", "is_raw_last", "parameters", "rest")

    def __init__(self, message: bytes) -> None:
        self.cuts: list[tuple[int, int]] = []
        self.inputs: list[tuple[int, int]] = []
        self.rest: list[bytes] = []
        self.id_field = self.parameters = b""
        self.is_raw_last = True
        header, position, size = [], 0, len(message)
        while position < size:
            start = position
            tag, position = read_varint(message, position)
            if tag & 7 != LENGTH_DELIMITED:
                raise InvalidRequest(f"malformed ModelInferRequest: field {tag >> 3} has wire type {tag & 7}")
            length, position = read_varint(message, position)
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
                    if number == _INPUTS:
                        self.inputs.append((position, end))
                    else:
                        self.rest.append(header[-1])
            position = end
        self.header = b"".join(header)


def parse_signature(header: bytes, raw_sizes: tuple[int, ...]) -> RequestSignature:
    """Returns the signature in a header (a ModelInferRequest without raw contents). Raises InvalidRequest."""
    try:
        message = pb.ModelInferRequest.FromString(header)
    except DecodeError as error:
        raise InvalidRequest(f"malformed ModelInferRequest: {error}") from None
    for name, count in Counter(tensor.name for tensor in message.inputs).items():
        if count > 1:
            raise InvalidRequest(f"input {name!r}: given {count} times, expected once", field=name)
    inputs = tuple(_input_signature(tensor, is_raw=bool(raw_sizes)) for tensor in message.inputs)
    sent = sum(tensor.placement is None for tensor in inputs)
    if raw_sizes and len(raw_sizes) != sent:
        raise InvalidRequest(
            f"raw_input_contents: {len(raw_sizes)} entries for {sent} inputs, expected one each",
            field="raw_input_contents",
        )
    outputs = tuple(tensor.name for tensor in message.outputs)
    placements = tuple(placement_of(f"output {tensor.name!r}", tensor.parameters) for tensor in message.outputs)
    class_counts = tuple(class_count_of(f"output {tensor.name!r}", tensor.parameters) for tensor in message.outputs)
    return RequestSignature(
        message.model_name,
        message.model_version,
        inputs,
        outputs,
        raw_sizes,
        placements if any(placements) else (),
        class_counts if any(class_counts) else (),
        sent < len(inputs),
    )


def _input_signature(tensor: Any, *, is_raw: bool) -> InputSignature:
    name, shape = tensor.name, tuple(tensor.shape)
    if any(dim < 0 for dim in shape):
        raise InvalidRequest(f"input {name!r}: shape {list(shape)} has a negative dimension", field=name)
    placement = placement_of(f"input {name!r}", tensor.parameters) if tensor.parameters else None
    if placement is not None:
        if tensor.HasField("contents"):
            raise InvalidRequest(f"input {name!r}: has contents beside {REGION}, expected one form", field=name)
        return InputSignature(name, tensor.datatype, shape, placement=placement)
    if is_raw and tensor.HasField("contents"):
        raise InvalidRequest(f"input {name!r}: has typed contents beside raw_input_contents, expected one form", field=name)
    if is_raw:
        return InputSignature(name, tensor.datatype, shape)
    if tensor.datatype not in TYPED_FIELDS:
        raise InvalidRequest(
            f"input {name!r}: datatype {tensor.datatype!r} has no typed contents, expected raw_input_contents "
            f"or one of {', '.join(TYPED_FIELDS)}",
            field=name,
        )
    return InputSignature(name, tensor.datatype, shape)


def parse_parameters(encoded: bytes) -> Parameters:
    """Returns the parameters that the gateway reads; others are hints and ignored. Raises InvalidRequest."""
    try:
        given = pb.ModelInferRequest.FromString(encoded).parameters
    except DecodeError as error:
        raise InvalidRequest(f"malformed ModelInferRequest: parameters: {error}") from None
    for name in SEQUENCES:
        if name in given and _value(given[name]):
            raise InvalidRequest(f"parameter {name!r}: sequences are not supported, every request stands alone", field=name)
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
    value = _value(given[name])
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if type(value) is not kind:
        raise InvalidRequest(f"parameter {name!r}: expected {kind.__name__}, got {value!r}", field=name)
    return value


def _value(parameter: Any) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, choice) if choice else None
