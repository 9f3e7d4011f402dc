"""
The response of a request that wants outputs in shared memory. Pure; a message each, since the tensors do not travel in it.

As in Triton, `raw_output_contents` has an entry for every output, empty for those in shared memory: clients look a tensor
up by its place among the outputs. Parameters say where each lies and how many bytes were written.
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
    """Who answered, as every response says it."""

    model: str
    version: int
    arm: str
    prediction_id: str


def placed_response(
    answered: Answered,
    outputs: Sequence[Output],
    contents: Sequence[Placement | bytes | list[Any]],
    id_field: bytes,
    *,
    is_binary: bool = True,
) -> bytes:
    """
    The encoded response. ``contents`` has for each output where it was put (with the bytes written), else its raw contents, or
    where not ``is_binary`` those for `fill_typed`. Raises InvalidRequest for a datatype without typed contents.
    """
    message = pb.ModelInferResponse(model_name=answered.model, model_version=str(answered.version))
    message.parameters["arm"].string_param = answered.arm
    message.parameters["prediction_id"].string_param = answered.prediction_id
    for (name, datatype, shape), content in zip(outputs, contents, strict=True):
        tensor = message.outputs.add(name=name, datatype=datatype, shape=shape)
        if isinstance(content, Placement):
            _tell_place(tensor.parameters, content)
        elif not is_binary:
            fill_typed(tensor, content)
        if is_binary:
            message.raw_output_contents.append(content if isinstance(content, bytes) else b"")
    encoded: bytes = message.SerializeToString()
    return encoded + id_field


def _tell_place(parameters: Any, placement: Placement) -> None:
    parameters[REGION].string_param = placement.region
    parameters[BYTE_SIZE].int64_param = placement.byte_size
    if placement.offset:
        parameters[OFFSET].int64_param = placement.offset
