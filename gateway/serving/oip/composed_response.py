"""
Encodes the response to a request with outputs in shared memory or classified. Pure. Each is a message of its own.

As in Triton, `raw_output_contents` has an entry for every output, empty for those in shared memory, since clients find a
tensor by its position among the outputs. Parameters say where an output lies and how many bytes were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.encode import Output, fill_typed
from gateway.serving.oip.placement import BYTE_SIZE, OFFSET, REGION, Placement


@dataclass(frozen=True, slots=True)
class Answered:
    """The version and arm that answered, as every response tells them."""

    model: str
    version: int
    arm: str
    prediction_id: str


def composed_response(
    answered: Answered,
    outputs: Sequence[Output],
    contents: Sequence[Placement | bytes | list[Any]],
    id_field: bytes,
    *,
    is_binary: bool = True,
) -> bytes:
    """
    Returns the encoded response. ``contents`` has one entry per output: its placement with the bytes written, else its raw
    contents, or if not ``is_binary`` those for `fill_typed`. Raises InvalidRequest for a datatype without typed contents.
    """
    message = pb.ModelInferResponse(model_name=answered.model, model_version=str(answered.version))
    message.parameters["arm"].string_param = answered.arm
    message.parameters["prediction_id"].string_param = answered.prediction_id
    for (name, datatype, shape), content in zip(outputs, contents, strict=True):
        tensor = message.outputs.add(name=name, datatype=datatype, shape=shape)
        if isinstance(content, Placement):
            _add_placement(tensor.parameters, content)
        elif not is_binary:
            fill_typed(tensor, content)
        if is_binary:
            message.raw_output_contents.append(content if isinstance(content, bytes) else b"")
    encoded: bytes = message.SerializeToString()
    return encoded + id_field


def _add_placement(parameters: Any, placement: Placement) -> None:
    parameters[REGION].string_param = placement.region
    parameters[BYTE_SIZE].int64_param = placement.byte_size
    if placement.offset:
        parameters[OFFSET].int64_param = placement.offset
