"""
Reads the files of `predict --input`: .npy, .npz, or JSON, told apart by content, and fits them to the model's inputs.

JSON: `{"input": [[…]]}`, the array itself if the model has one input, or the Open Inference Protocol's HTTP form `{"inputs":
[{"name", "shape", "data"}]}`. Values are converted to the model's datatype if nothing but precision is lost: fractions are
rounded, whole numbers that change are told on standard error, numbers that the datatype cannot hold are refused. NaN and
infinities that are given as such are kept.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from gateway.cli.output import say
from gateway.cli.problems import CommandError
from gateway.client.inference import ModelInfo, TensorInfo
from gateway.client.tensors import Array, dtype_of

_LARGEST = {"FP16": 65504.0, "BF16": 3.3895314e38, "FP32": 3.4028235e38, "FP64": 1.7976931348623157e308}  # by datatype
_FLOAT_MAX = Decimal(_LARGEST["FP64"])


def read_inputs(content: bytes, info: ModelInfo, where: str) -> dict[str, Array]:
    """Returns arrays by input name, with the model's datatypes. Raises CommandError that names the file or the input."""
    named = _named(_parse(content, where), info, where)
    known = {spec.name: spec for spec in info.inputs}
    if unknown := [name for name in named if name not in known]:
        raise CommandError(f"{where}: {info.name} has no input {unknown[0]!r}; it takes {describe(info)}")
    return {name: _shaped(cast(value, known[name]), known[name]) for name, value in named.items()}


def describe(info: ModelInfo) -> str:
    """Describes the inputs of a model in words."""
    return ", ".join(f"{spec.name} {spec.datatype} [{_dims(spec.shape)}]" for spec in info.inputs)


def cast(value: Any, spec: TensorInfo) -> Array:
    """Converts the value to an array of the input's datatype. Raises CommandError that names the input."""
    try:
        array = value if isinstance(value, np.ndarray) else _numbers(_from_json(value, spec.datatype), spec)
    except (ValueError, TypeError, OverflowError) as error:
        raise CommandError(f"input {spec.name!r}: not an array of {spec.datatype}: {error}") from error
    if array.dtype.kind in "SU" and spec.datatype != "BYTES":
        raise CommandError(f"input {spec.name!r}: expected {spec.datatype}, got text")
    if spec.datatype == "BYTES":
        if array.dtype.kind not in "OSU":
            raise CommandError(f"input {spec.name!r}: expected BYTES (text), got {array.dtype}")
        return array
    return _converted(array, spec)


def _converted(array: Array, spec: TensorInfo) -> Array:
    wanted = dtype_of(spec.datatype)
    if array.dtype == wanted:
        return array
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise CommandError(f"input {spec.name!r}: expected {spec.datatype}, got {array.dtype}")
    if wanted.kind in "iu" and spec.datatype != "BF16":
        _check_integers(array, spec, wanted)
    if wanted.kind == "b" and not np.isin(array, (0, 1)).all():
        raise CommandError(f"input {spec.name!r}: expected BOOL (true, false, 0 or 1), got other numbers")
    with np.errstate(over="ignore"):
        converted = array.astype(wanted)
    if spec.datatype.startswith("FP") or wanted.name == "bfloat16":
        _check_floats(array, converted, spec)
    return converted


def _check_floats(array: Array, converted: Array, spec: TensorInfo) -> None:
    """Raises CommandError for a number that became infinite. Warns of a whole number that changed."""
    lost = np.isfinite(array) & ~np.isfinite(converted)
    if lost.any():
        raise _beyond(array[lost].flat[0], spec)
    if array.dtype.kind in "iu":
        changed = converted.astype(np.longdouble) != array.astype(np.longdouble)
        if changed.any():
            before, after = array[changed].flat[0], converted[changed].flat[0]
            say(f"warning: input {spec.name!r}: {spec.datatype} rounds {before} to {float(after):.17g}")


def _beyond(value: Any, spec: TensorInfo) -> CommandError:
    largest = _LARGEST[spec.datatype]
    return CommandError(f"input {spec.name!r}: {spec.datatype} holds up to ±{largest:.8g}, got {value!s:.40}")


def _check_integers(array: Array, spec: TensorInfo, wanted: np.dtype[Any]) -> None:
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (np.floor(array) == array).all()):
        raise CommandError(f"input {spec.name!r}: expected {spec.datatype}, got numbers that are not whole")
    limits = np.iinfo(wanted)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise CommandError(f"input {spec.name!r}: {spec.datatype} holds {limits.min} to {limits.max}, got others")


def _from_json(value: Any, datatype: str) -> Array:
    if datatype == "BYTES":
        array = np.array(value, dtype=object)
        if not all(isinstance(element, str) for element in array.reshape(-1)):
            raise ValueError("expected text, all rows of one length")
        return array
    if datatype == "UINT64":
        return np.array(value, dtype=np.uint64) if _is_all_int(value) else np.asarray(value)
    return np.asarray(value)


def _numbers(value: Any, spec: TensorInfo) -> Any:
    """Returns floats for an array that numpy left as objects because of very large numbers. Raises CommandError for those."""
    if not isinstance(value, np.ndarray) or value.dtype != object or spec.datatype not in _LARGEST:
        return value
    elements = value.reshape(-1).tolist()
    if not all(isinstance(element, int | float | Decimal) for element in elements):
        return value
    for element in elements:
        if isinstance(element, int | Decimal) and abs(Decimal(element)) > _FLOAT_MAX:
            raise _beyond(element, spec)
    return value.astype(np.float64)


def _is_all_int(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_all_int(item) for item in value)
    return isinstance(value, int)


def _shaped(array: Array, spec: TensorInfo) -> Array:
    """Returns the array, with a batch dimension if only that is missing. Raises CommandError if the shape does not fit."""
    for candidate in (array, array[np.newaxis]):
        if _fits(candidate.shape, spec.shape):
            return candidate
    raise CommandError(f"input {spec.name!r}: shape [{_dims(array.shape)}] does not fit [{_dims(spec.shape)}]")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, got) for want, got in zip(wanted, shape, strict=True))


def _dims(shape: tuple[int, ...]) -> str:
    return ", ".join("?" if dim < 0 else str(dim) for dim in shape)


def _float(text: str) -> float | Decimal:
    """Reads a number of a JSON file. One that no float can hold stays a Decimal, so that it can be refused by name."""
    number = float(text)
    return Decimal(text) if math.isinf(number) else number


def _named(value: Any, info: ModelInfo, where: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        protocol = value.get("inputs")
        if "inputs" not in {spec.name for spec in info.inputs} and isinstance(protocol, list):
            return {_field(tensor, "name", where): _protocol_tensor(tensor, where) for tensor in protocol}
        return value
    if len(info.inputs) != 1:
        raise CommandError(f"{where}: {info.name} takes {len(info.inputs)} inputs, name each: {describe(info)}")
    return {info.inputs[0].name: value}


def _protocol_tensor(tensor: Any, where: str) -> Any:
    data = _field(tensor, "data", where)
    if "shape" not in tensor:
        return data
    try:
        return np.array(data).reshape(tensor["shape"]).tolist()
    except (ValueError, TypeError) as error:
        raise CommandError(f"{where}: input {tensor.get('name')!r}: {error}") from error


def _field(tensor: Any, field: str, where: str) -> Any:
    if not isinstance(tensor, dict) or field not in tensor:
        raise CommandError(f"{where}: an entry of `inputs` has no {field!r}")
    return tensor[field]


def _parse(content: bytes, where: str) -> Any:
    try:
        if content.startswith(b"\x93NUMPY"):
            return np.load(io.BytesIO(content), allow_pickle=False)
        if content.startswith(b"PK"):
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise CommandError(f"{where}: not a readable numpy file: {error}") from error
    try:
        return json.loads(content, parse_float=_float)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{where}: expected .npy, .npz or JSON: {error}") from error
