"""ModelMetadata and ModelConfig messages of a version, in Triton's conventions. Pure: values in, messages out."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.contract.desired import DesiredVersion
from gateway.protocol.pb import inference_pb2
from registry.batching import is_batched
from registry.signature import TensorSpec

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"


def metadata_message(model: str, version: DesiredVersion, ready: Iterable[int]) -> inference_pb2.ModelMetadataResponse:
    """Returns names, datatypes and whole shapes (-1: variable); ``ready`` are the versions that can be asked for."""
    tensor = inference_pb2.ModelMetadataResponse.TensorMetadata

    def tensors(specs: tuple[TensorSpec, ...]) -> list[inference_pb2.ModelMetadataResponse.TensorMetadata]:
        return [tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs]

    return inference_pb2.ModelMetadataResponse(
        name=model,
        versions=[str(number) for number in sorted(ready)],
        platform=PLATFORM,
        inputs=tensors(version.signature.inputs),
        outputs=tensors(version.signature.outputs),
    )


def config_message(model: str, version: DesiredVersion) -> inference_pb2.ModelConfig:
    """
    Returns Triton's model configuration. If ``max_batch_size`` is not 0, dims are without the batch axis.
    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
    """
    max_batch_size = max_batch_rows(version)
    skipped = 1 if max_batch_size else 0
    config = inference_pb2.ModelConfig(
        name=model,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=max_batch_size,
        input=[
            inference_pb2.ModelInput(
                name=spec.name, data_type=data_type(spec.datatype), dims=spec.shape[skipped:], optional=spec.is_optional
            )
            for spec in version.signature.inputs
        ],
        output=[
            inference_pb2.ModelOutput(name=spec.name, data_type=data_type(spec.datatype), dims=spec.shape[skipped:])
            for spec in version.signature.outputs
        ],
    )
    if max_batch_size:
        batching = version.batching
        config.dynamic_batching.preferred_batch_size.extend(batching.preferred_rows)
        config.dynamic_batching.max_queue_delay_microseconds = batching.queue_delay_us
        config.dynamic_batching.default_queue_policy.max_queue_size = batching.max_waiting
    return config


def max_batch_rows(version: DesiredVersion) -> int:
    """Returns the rows of the largest batch, 0 if this version is not batched."""
    batching = version.batching
    is_on = is_batched(batching, is_batchable=version.is_batchable, can_split=version.can_split)
    specs = (*version.signature.inputs, *version.signature.outputs)
    has_batch_axis = all(spec.shape and spec.shape[0] < 0 for spec in specs)
    return batching.max_rows if is_on and has_batch_axis else 0


def data_type(datatype: str) -> str:
    """Returns the model configuration's name of a protocol datatype."""
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
