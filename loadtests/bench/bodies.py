"""Requests in their form on the wire: ModelInferRequests in gRPC's frame."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gateway.demo.models import INPUT, scans
from gateway.protocol.messages import inference

DATATYPES = {"float32": "FP32", "int64": "INT64"}


def framed(message: bytes) -> bytes:
    """Returns a message in gRPC's frame: a byte that says "not compressed", four of length."""
    return struct.pack(">BI", 0, len(message)) + message


def infer(model: str, inputs: Mapping[str, NDArray[np.generic]], *, is_typed: bool = False) -> bytes:
    """Returns a framed request with these tensors as raw contents, or FP32 ones as typed contents."""
    request = inference.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        tensor = request.inputs.add(name=name, datatype=DATATYPES[array.dtype.name], shape=array.shape)
        if is_typed:
            tensor.contents.fp32_contents.extend(array.ravel().tolist())
        else:
            request.raw_input_contents.append(array.tobytes())
    return framed(request.SerializeToString())


def digits(model: str) -> bytes:
    """Returns a framed request with one real image for the digits models."""
    return infer(model, {INPUT: scans()[1].images[:1].astype(np.float32)})
