"""
Reads an ONNX file: whether it is one, its signature, and which other files it needs. The only importer of onnx.

Runs nothing and loads no weights from other files. The format: https://github.com/onnx/onnx/blob/main/docs/IR.md
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from registry.errors import InvalidModel
from registry.external_data import check_external_files
from registry.onnx_skim import skimmed
from registry.signature import Signature, TensorSpec
from registry.zip_maps import ScoreMap, check_classes, score_maps

_TENSOR = onnx.TensorProto
_DATATYPES: dict[int, str] = {
    _TENSOR.BOOL: "BOOL",
    _TENSOR.UINT8: "UINT8",
    _TENSOR.UINT16: "UINT16",
    _TENSOR.UINT32: "UINT32",
    _TENSOR.UINT64: "UINT64",
    _TENSOR.INT8: "INT8",
    _TENSOR.INT16: "INT16",
    _TENSOR.INT32: "INT32",
    _TENSOR.INT64: "INT64",
    _TENSOR.FLOAT16: "FP16",
    _TENSOR.BFLOAT16: "BF16",
    _TENSOR.FLOAT: "FP32",
    _TENSOR.DOUBLE: "FP64",
    _TENSOR.STRING: "BYTES",
}
_OTHER_FORMATS = (
    (b"version https://git-lfs", "a Git LFS pointer: fetch the real file with `git lfs pull`"),
    (b"PK\x03\x04", "a ZIP archive (a PyTorch or Keras file?): export the model to ONNX first"),
    (b"\x80", "a Python pickle: export the model to ONNX first (skl2onnx, torch.onnx)"),
    (b"\x89HDF", "an HDF5 file (Keras?): export the model to ONNX first (tf2onnx)"),
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"ORTM", "in ONNX Runtime's own format: register the .onnx file that it was made from"),
)
_MAX_BYTES = 2**31 - 1  # of one protobuf message
_HEAD_BYTES = 200  # of a file, by which other formats are known
_CAST_ADVICE = "cast it inside the model to a type that has"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """
    The facts that an ONNX file states. ``sha256`` (hex) and ``size_bytes`` are of the very bytes that were read.
    ``external_files`` are the relative POSIX paths, below the file's folder, of the weights that it keeps elsewhere.
    ``score_maps`` are outputs that are maps in the file and tensors of scores in the signature.
    """

    path: Path
    signature: Signature
    external_files: tuple[str, ...]
    sha256: str
    size_bytes: int
    score_maps: tuple[ScoreMap, ...] = ()


def read_model(path: Path, *, follows_links: bool = False) -> ModelFile:
    """
    Checks the ONNX file at ``path`` and reads its signature. Raises InvalidModel that says which check failed: not a file,
    not ONNX, a type that the protocol does not have, classes that share a name, or external data that is missing, cut short
    or outside the folder.
    ``follows_links``: external data may be links, since the caller copies what they point at.
    """
    with _opened(path) as file:
        model = _parsed(path.name, file)
        sha256, size_bytes = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    graph = model.graph
    inputs = tuple(_spec("input", value, _is_optional(model, value)) for value in _real_inputs(model))
    maps = {one.output: one for one in score_maps(model)}
    for one in maps.values():
        check_classes(one)
    outputs = tuple(
        TensorSpec(value.name, "FP32", (-1, len(maps[value.name].classes)))
        if value.name in maps
        else _spec("output", value, is_optional=False)
        for value in graph.output
    )
    return ModelFile(
        path=path,
        signature=Signature(inputs, outputs),
        external_files=check_external_files(path.parent, _external_tensors(model), follows_links=follows_links),
        sha256=sha256,
        size_bytes=size_bytes,
        score_maps=tuple(maps.values()),
    )


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        if path.exists() and not path.is_file():
            raise InvalidModel(f"{path}: expected an ONNX file, this is a folder or device")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise InvalidModel(f"{path}: cannot be read: {error.strerror or error}") from error


def _parsed(name: str, file: BufferedReader) -> onnx.ModelProto:
    """Returns the model without the values of its large weights, which are not read."""
    size = os.fstat(file.fileno()).st_size
    if not size:
        raise InvalidModel(f"{name}: the file is empty")
    if size > _MAX_BYTES:
        raise InvalidModel(f"{name}: {size} bytes, protobuf ends at {_MAX_BYTES}: save the weights as external data")
    content = _Content(file.read(_HEAD_BYTES), size)
    model = onnx.ModelProto()
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as whole:
            model.ParseFromString(skimmed(whole))
    except (DecodeError, ValueError) as error:
        raise InvalidModel(f"{name}: {_what_came(content)}") from error
    finally:
        file.seek(0)
    if not model.ir_version or not model.graph.output or not model.opset_import:
        raise InvalidModel(f"{name}: {_what_came(content)}")
    return model


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file begins with, and its size in bytes."""

    head: bytes
    size: int


def _what_came(content: _Content) -> str:
    for magic, what in _OTHER_FORMATS:
        if content.head.startswith(magic):
            return f"expected an ONNX model, got {what}"
    head = content.head.decode("utf-8", errors="replace")
    if head.isascii() and all(c.isprintable() or c.isspace() for c in head):
        return f"expected an ONNX model, got text that begins with {head[:40]!r}"
    if content.head[0] == 0x08:  # the tag of ir_version, which every ONNX file begins with
        return f"an ONNX model that is damaged or cut short ({content.size} bytes): copy or download the file again"
    return f"expected an ONNX model, got {content.size} bytes of something else, damaged or cut short"


def _initializers(model: onnx.ModelProto) -> set[str]:
    dense = {tensor.name for tensor in model.graph.initializer}
    return dense | {tensor.values.name for tensor in model.graph.sparse_initializer}


def _real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    # Before IR version 4 every weight had to be listed as an input too, and was none.
    weights = _initializers(model) if model.ir_version < 4 else set()
    return [value for value in model.graph.input if value.name not in weights]


def _is_optional(model: onnx.ModelProto, value: onnx.ValueInfoProto) -> bool:
    return value.name in _initializers(model)


def _spec(role: str, value: onnx.ValueInfoProto, is_optional: bool) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise InvalidModel(f"{role} {value.name!r} {_other_kind(value.type, kind)}", tensor=value.name)
    tensor = value.type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if datatype is None:
        known = tensor.elem_type in _TENSOR.DataType.values()
        name = _TENSOR.DataType.Name(tensor.elem_type) if known else f"number {tensor.elem_type}"
        raise InvalidModel(
            f"{role} {value.name!r} has the element type {name}, for which the protocol has no form: {_CAST_ADVICE}",
            tensor=value.name,
        )
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else -1 for d in tensor.shape.dim)
    return TensorSpec(value.name, datatype, shape, is_optional, is_ranked=tensor.HasField("shape"))


def _other_kind(value: onnx.TypeProto, kind: str | None) -> str:
    if kind == "sequence_type" and value.sequence_type.elem_type.WhichOneof("value") == "map_type":
        return (
            "is a sequence of maps, for which the protocol has no form unless it is the output of a ZipMap that names its "
            "classes: export the tensor that the maps are made of"
        )
    advice = {
        "sequence_type": "is a sequence, for which the protocol has no form: export its tensors, or ConcatFromSequence of them",
        "map_type": "is a map, for which the protocol has no form: make it a tensor with a column for each key",
        "optional_type": "is of an optional type, for which the protocol has no form: make it a plain tensor",
        "sparse_tensor_type": "is a sparse tensor, for which the protocol has no form: make it dense inside the model",
        None: "has no type: the file is damaged or was written by a tool that left types out",
    }
    return advice.get(kind, f"is of the kind {kind}, for which the protocol has no form: {_CAST_ADVICE}")


def _external_tensors(model: onnx.ModelProto) -> list[tuple[str, dict[str, str]]]:
    """Yields name and external-data entries of every tensor that keeps its values in another file, at any depth."""
    return [
        (tensor.name or "(unnamed)", {entry.key: entry.value for entry in tensor.external_data})
        for tensor in every_tensor(model)
        if tensor.data_location == _TENSOR.EXTERNAL or tensor.external_data
    ]


def every_tensor(model: onnx.ModelProto) -> Iterable[onnx.TensorProto]:
    """Yields every tensor of the model at any depth: weights, attributes, parts of sparse tensors."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    for info in model.training_info:
        graphs += [info.initialization, info.algorithm]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            yield from _dense_parts(graph.sparse_initializer)
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            yield from [attribute.t, *attribute.tensors]
            yield from _dense_parts([attribute.sparse_tensor, *attribute.sparse_tensors])
            graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _dense_parts(tensors: Iterable[onnx.SparseTensorProto]) -> Iterable[onnx.TensorProto]:
    for tensor in tensors:
        yield tensor.values
        yield tensor.indices
