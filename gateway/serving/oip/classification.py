"""
The classification extension: an output as the largest values of each row, with their positions and labels. Pure.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidRequest
from gateway.runtime.tensor_contents import bfloat16_values, element_count
from gateway.serving.oip.placement import REGION
from registry.signature import TensorSpec
from registry.versions import Prediction

CLASSIFICATION = "classification"  # parameter of a requested output: the number of classes
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Classes:
    """
    What a request wants to know of one output: the ``count`` largest values. ``labels`` are the names of its columns, as far
    as they are known. ``has_rows``: each entry of the first axis is classified by itself, else the tensor as a whole.
    """

    count: int
    labels: tuple[str, ...]
    datatype: str
    has_rows: bool


def class_count_of(what: str, parameters: Any) -> int:
    """
    Returns the number of classes in the parameters of a requested output; 0 if none are requested. ``what`` names the output
    in errors. Raises InvalidRequest.
    """
    if CLASSIFICATION not in parameters:
        return 0
    choice = parameters[CLASSIFICATION].WhichOneof("parameter_choice")
    count = getattr(parameters[CLASSIFICATION], choice) if choice else None
    if type(count) is not int or count < 0:
        raise InvalidRequest(
            f"{what}: parameter {CLASSIFICATION!r}: expected a number of classes, got {count!r}", field=CLASSIFICATION
        )
    if count and REGION in parameters:
        raise InvalidRequest(f"{what}: {CLASSIFICATION} cannot go to shared memory, as its size is not known", field=REGION)
    return count


def classes_of(spec: TensorSpec, count: int, prediction: Prediction | None, *, is_batched: bool) -> Classes | None:
    """Returns how an output is classified; None if it goes out as it is. Raises InvalidRequest for one without numbers."""
    if not count:
        return None
    if spec.datatype in ("BYTES", "BOOL"):
        raise InvalidRequest(f"output {spec.name!r}: {CLASSIFICATION} needs numbers, it is {spec.datatype}", field=spec.name)
    labels = prediction.classes if prediction is not None and prediction.output == spec.name else ()
    has_rows = is_batched or (len(spec.shape) > 1 and spec.shape[0] < 0)
    return Classes(count, labels, spec.datatype, has_rows)


def class_texts(array: Array, classes: Classes) -> Array:
    """
    Returns texts "value:position" or "value:position:label", the largest value first, of equal ones the first: [rows, count]
    if ``classes.has_rows``, else [count]; fewer if there are fewer values. What is not a number comes last.
    """
    values = bfloat16_values(array) if classes.datatype == "BF16" else array
    rows = len(values) if classes.has_rows else 1
    values = values.reshape(rows, element_count(values.shape[1:]) if classes.has_rows else values.size)
    reverse = -values if values.dtype.kind == "f" else ~values
    order = np.argsort(reverse, axis=1, kind="stable")[:, : classes.count]
    texts = np.empty(order.shape, np.object_)
    for row, positions in enumerate(order.tolist()):
        for place, position in enumerate(positions):
            texts[row, place] = _text(values[row, position].item(), position, classes.labels)
    return texts if classes.has_rows else texts[0]


def _text(value: float, position: int, labels: tuple[str, ...]) -> str:
    number = f"{value:f}" if isinstance(value, float) else str(value)
    return f"{number}:{position}:{labels[position]}" if position < len(labels) else f"{number}:{position}"
