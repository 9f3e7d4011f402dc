"""
Rewrites an ONNX file for serving: each large weight becomes a file of its own beside it, named by its SHA-256.

Such files are mapped into memory instead of read into it, so all processes share them, and versions with equal weights
too when their files are linked. The format: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import onnx

from registry.durable_file import write_synced
from registry.errors import InvalidModel
from registry.external_data import check_external_files, checked_path
from registry.onnx_file import every_tensor
from registry.weight_pieces import cut_factors

MODEL_FILE = "model.onnx"
LARGE_BYTES = 64 * 1024  # a weight below this stays inside the model's file
WORTH_BYTES = 1024**2  # of large weights together; below this a model is left alone
PIECE_BYTES = 2 * 1024**2
MAX_PIECES = 256
MAX_BLOBS = 512  # each is a mapping of its own in every worker, of which a process has 65,530
PAGE_BYTES = 4096
PREPACKED = "prepacked_"  # ONNX Runtime's entries beside a weight: <kernel>|<offset>;<length>;<checksum>|...

_TENSOR = onnx.TensorProto
_ITEM_BYTES: dict[int, int] = {
    _TENSOR.BOOL: 1, _TENSOR.INT8: 1, _TENSOR.UINT8: 1, _TENSOR.INT16: 2, _TENSOR.UINT16: 2, _TENSOR.INT32: 4,
    _TENSOR.UINT32: 4, _TENSOR.INT64: 8, _TENSOR.UINT64: 8, _TENSOR.FLOAT16: 2, _TENSOR.BFLOAT16: 2, _TENSOR.FLOAT: 4,
    _TENSOR.DOUBLE: 8,
}  # fmt: skip


def rewrite(source: Path, target: Path, *, is_cut: bool = False) -> tuple[str, ...]:
    """
    Writes ``model.onnx`` and its large weights, one file each, into the folder ``target``. Gives the weights' file names
    (the SHA-256 of their contents in hex), or none when the large weights are less than WORTH_BYTES: then nothing is written.
    ``is_cut``: factors of matrix products come in pieces of PIECE_BYTES, or more where they would be more than MAX_PIECES;
    then nothing is written when there is nothing to cut either.

    Only dense weights of the main graph with a fixed item size move out; everything else comes inside, wherever it was.
    Raises InvalidModel when the file or its external data cannot be read, OSError when ``target`` cannot be written.
    """
    model = _read(source)
    large = _large(model)
    size = sum(map(_size, large))
    if size < WORTH_BYTES:
        return ()
    if is_cut:
        if not cut_factors(model, max(PIECE_BYTES, size // MAX_PIECES), lambda tensor: _content(tensor, source.parent)):
            return ()
        large = _large(model)
    names = [_move_out(tensor, source.parent, target) for tensor in large]
    for tensor in every_tensor(model):
        if tensor.data_location == _TENSOR.EXTERNAL and _entries(tensor).get("location") not in names:
            _keep_inside(tensor, source.parent)
    write_synced(target / MODEL_FILE, model.SerializeToString())
    return tuple(dict.fromkeys(names))


def _read(source: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(source, load_external_data=False)
    except Exception as error:  # protobuf's and onnx' own, which have nothing in common
        raise InvalidModel(f"{source.name}: cannot be read: {error}") from error
    tensors = [tensor for tensor in every_tensor(model) if tensor.data_location == _TENSOR.EXTERNAL]
    check_external_files(source.parent, [(tensor.name, _entries(tensor)) for tensor in tensors])
    return model


def _large(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The weights to move out; at most MAX_BLOBS, the largest."""
    found = [tensor for tensor in model.graph.initializer if _size(tensor) >= LARGE_BYTES]
    return sorted(found, key=_size, reverse=True)[:MAX_BLOBS]


def _size(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims) * _ITEM_BYTES.get(tensor.data_type, 0)


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _keep_inside(tensor: onnx.TensorProto, folder: Path) -> None:
    entries = _entries(tensor)
    tensor.raw_data = _section(folder, entries, int(entries.get("offset") or 0), int(entries.get("length") or -1))
    tensor.ClearField("external_data")
    tensor.data_location = _TENSOR.DEFAULT


def _section(folder: Path, entries: Mapping[str, str], offset: int, length: int) -> bytes:
    with (folder / checked_path(entries.get("location", ""), owner="external data")).open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _content(tensor: onnx.TensorProto, folder: Path) -> bytes:
    if tensor.data_location == _TENSOR.EXTERNAL:
        entries = _entries(tensor)
        content = _section(folder, entries, int(entries.get("offset") or 0), _size(tensor))
    else:
        content = tensor.raw_data if tensor.HasField("raw_data") else onnx.numpy_helper.to_array(tensor).tobytes()
    if len(content) != _size(tensor):
        raise InvalidModel(f"weight {tensor.name!r}: {list(tensor.dims)} is {_size(tensor)} bytes, got {len(content)}")
    return content


def _move_out(tensor: onnx.TensorProto, folder: Path, target: Path) -> str:
    """The weight at the start of its file, what ONNX Runtime packed of it behind, each on a page of its own."""
    before = _entries(tensor)
    content = bytearray(_content(tensor, folder))
    packed = {key: _append_packed(content, text, folder, before) for key, text in _packed(before)}
    name = hashlib.sha256(content).hexdigest()
    if not (target / name).exists():
        write_synced(target / name, bytes(content))
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(field)
    tensor.data_location = _TENSOR.EXTERNAL
    for key, value in {"location": name, "offset": "0", "length": str(_size(tensor)), **packed}.items():
        tensor.external_data.add(key=key, value=value)
    return name


def _packed(entries: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((key, text) for key, text in entries.items() if key.startswith(PREPACKED))


def _append_packed(content: bytearray, text: str, folder: Path, entries: Mapping[str, str]) -> str:
    """Appends the sections that a prepacked entry names; the entry with their new offsets."""
    kernel, *sections = text.split("|")
    moved = [kernel]
    for section in sections:
        offset, length, *rest = section.split(";")
        content += bytes(-len(content) % PAGE_BYTES)
        moved.append(";".join((str(len(content)), length, *rest)))
        content += _section(folder, entries, int(offset), int(length))
    return "|".join(moved)
