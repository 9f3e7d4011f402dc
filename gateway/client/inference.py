"""A prediction as a value, and its conversion to and from the Open Inference Protocol's messages. Pure; makes no calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from gateway.client.tensors import Array, TensorError, datatype_of, decode, dtype_of, encode
from gateway.protocol.messages import inference

_TYPED = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """
    A model's answer. ``outputs`` are by name (BYTES as object arrays of bytes). ``version`` is the one that served, ``arm``
    the reason (default, candidate, pinned). Ground truth refers to ``prediction_id`` later.
    """

    model: str
    version: str
    arm: str
    prediction_id: str
    request_id: str
    outputs: Mapping[str, Array]

    def __getitem__(self, output: str) -> Array:
        """The output of that name."""
        return self.outputs[output]

    @property
    def output(self) -> Array:
        """Returns the only output. Raises ValueError that names them if there are several."""
        if len(self.outputs) != 1:
            raise ValueError(
                f"{self.model} gives {len(self.outputs)} outputs ({', '.join(self.outputs)}): take one by its name"
            )
        return next(iter(self.outputs.values()))


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a model; -1 in ``shape`` is a variable dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model's inputs and outputs. ``versions`` are those that are ready to serve."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


def request_message(
    model: str,
    inputs: Mapping[str, Array],
    *,
    version: str = "",
    unit_id: str | None = None,
    request_id: str = "",
    outputs: Sequence[str] | None = None,
    datatypes: Mapping[str, str] | None = None,
) -> inference.ModelInferRequest:
    """
    Returns the request with raw tensors. ``datatypes`` overrides what the dtypes say (BF16 as uint16). Raises TensorError.
    """
    request = inference.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    if unit_id is not None:
        request.parameters["unit_id"].string_param = unit_id
    for name, given in inputs.items():
        array = np.asarray(given)
        datatype = (datatypes or {}).get(name) or datatype_of(array, name)
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(encode(array, datatype, name))
    for name in outputs or ():
        request.outputs.add(name=name)
    return request


def prediction(response: inference.ModelInferResponse) -> Prediction:
    """Returns the response as a value; reads raw and typed outputs. Raises TensorError if sizes do not fit."""
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise TensorError(f"{len(response.outputs)} outputs came with {len(raw)} raw contents")
    outputs = {
        tensor.name: decode(raw[at], tensor.datatype, tuple(tensor.shape), tensor.name) if raw else _typed(tensor)
        for at, tensor in enumerate(response.outputs)
    }
    parameters = response.parameters
    return Prediction(
        model=response.model_name,
        version=response.model_version,
        arm=parameters["arm"].string_param if "arm" in parameters else "",
        prediction_id=parameters["prediction_id"].string_param if "prediction_id" in parameters else "",
        request_id=response.id,
        outputs=MappingProxyType(outputs),
    )


def model_info(response: inference.ModelMetadataResponse) -> ModelInfo:
    """Returns the metadata as a value."""
    return ModelInfo(
        response.name, tuple(response.versions), response.platform, _tensors(response.inputs), _tensors(response.outputs)
    )


def only_input(info: ModelInfo) -> str:
    """Returns the name of a model's only input. Raises TensorError that names them if there are several."""
    if len(info.inputs) != 1:
        names = ", ".join(tensor.name for tensor in info.inputs)
        raise TensorError(f"{info.name} takes {len(info.inputs)} inputs ({names}): give a mapping of name to array")
    return info.inputs[0].name


def _typed(tensor: inference.ModelInferResponse.InferOutputTensor) -> Array:
    field = _TYPED.get(tensor.datatype)
    if field is None:
        raise TensorError(f"output {tensor.name!r}: {tensor.datatype} has no typed form")
    values = getattr(tensor.contents, field)
    array = np.empty(len(values), dtype_of(tensor.datatype))
    array[:] = list(values)
    if array.size != int(np.prod(tensor.shape, dtype=np.int64)):
        raise TensorError(f"output {tensor.name!r}: {array.size} elements do not fit shape {list(tensor.shape)}")
    return array.reshape(tuple(tensor.shape))


def _tensors(messages: Sequence[inference.ModelMetadataResponse.TensorMetadata]) -> tuple[TensorInfo, ...]:
    return tuple(TensorInfo(message.name, message.datatype, tuple(message.shape)) for message in messages)
