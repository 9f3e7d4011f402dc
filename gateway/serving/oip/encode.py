"""Encodes ModelInferResponse: heads that repeat, raw contents, typed contents. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.fields import LENGTH_DELIMITED, TYPED_FIELDS, varint

_RAW_OUTPUT_TAG = bytes([6 << 3 | LENGTH_DELIMITED])
_PACKED_TAGS = {"FP32": bytes([6 << 3 | LENGTH_DELIMITED]), "FP64": bytes([7 << 3 | LENGTH_DELIMITED])}
Output = tuple[str, str, tuple[int, ...]]  # name, datatype, shape
PREDICTION_ID_CHARS = 36  # a UUID as text


def response_head(model: str, version: int, arm: str, outputs: tuple[Output, ...]) -> bytes:
    """
    Returns the part of a raw response that repeats. It ends where the 36 characters of the prediction id go; the raw
    outputs follow as `raw_frame` + bytes, then the `id` field, which may stand anywhere between fields.
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
    """Returns tag and length of one raw_output_contents entry of ``size`` bytes."""
    return _RAW_OUTPUT_TAG + varint(size)


def check_typed(name: str, datatype: str) -> None:
    """Raises InvalidRequest for an output whose datatype has no typed contents."""
    if datatype not in TYPED_FIELDS:
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
    Returns a response with typed contents (request parameter ``binary_data_output`` = false). ``values`` are flat per
    output; bytes are packed floats.
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
    Sets the typed contents of a response's output; bytes are packed floats. Raises InvalidRequest for a datatype that has
    none.
    """
    check_typed(tensor.name, tensor.datatype)
    if isinstance(flat, bytes):
        tensor.contents.MergeFromString(_PACKED_TAGS[tensor.datatype] + varint(len(flat)) + flat)
    else:
        getattr(tensor.contents, TYPED_FIELDS[tensor.datatype]).extend(flat)
