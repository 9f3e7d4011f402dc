"""The upload of a version: its files, and the messages that carry them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gateway.client.call_errors import CannotSend
from gateway.client.tensors import Array, datatype_of, encode
from gateway.protocol.messages import admin

CHUNK_BYTES = 1 << 20


class UploadError(CannotSend):
    """The path has no model to upload. The text says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The origin of a version. Everything is optional."""

    run_id: str = ""
    source_commit: str = ""
    datasets: tuple[str, ...] = ()
    parent_version: int = 0

    def message(self) -> admin.Lineage:
        """For the wire."""
        return admin.Lineage(
            run_id=self.run_id, source_commit=self.source_commit, datasets=self.datasets, parent_version=self.parent_version
        )


def example_message(
    inputs: Mapping[str, Array], *, datatypes: Mapping[str, str] | None = None, name: str = ""
) -> admin.Example:
    """
    An example request of these arrays by input name; ``datatypes`` where an array's dtype does not tell (BF16), ``name`` for
    messages. Raises TensorError naming the input that the protocol has no form for.
    """
    message = admin.Example(name=name)
    for tensor, array in inputs.items():
        array = np.asarray(array)
        datatype = (datatypes or {}).get(tensor) or datatype_of(array, tensor)
        message.inputs.add(name=tensor, datatype=datatype, shape=array.shape, contents=encode(array, datatype, tensor))
    return message


@dataclass(frozen=True, slots=True)
class Upload:
    """
    Files of one artifact: ``files`` are relative POSIX paths under ``root``, ``model_file`` the ONNX file among them. A file
    may be a link, as in a Hugging Face cache: what it points at is uploaded.
    """

    root: Path
    model_file: str
    files: tuple[str, ...]

    @staticmethod
    def of(path: Path, *, model_file: str | None = None) -> Upload:
        """
        Makes an upload of a whole folder, with ``model_file`` or the one .onnx file in it; or of an .onnx file with the
        external data it refers to. Raises UploadError, and the registry's InvalidModel if the file is no ONNX model or
        refers to files elsewhere.
        """
        if path.is_dir():
            return _folder(path, model_file)
        if not path.exists():
            raise UploadError(f"{path}: no such file or folder")
        if not path.is_file():
            raise UploadError(f"{path}: expected an .onnx file or a folder with one")
        return Upload(path.parent, path.name, (path.name, *_external_data(path)))

    def size_bytes(self) -> int:
        """Sum of the sizes of all files."""
        return sum((self.root / file).stat().st_size for file in self.files)

    @contextmanager
    def without_links(self) -> Iterator[Upload]:
        """Gives the same upload with plain files, for readers that follow no links. Links are copied for the time being."""
        if not any(_is_link(self.root, file) for file in self.files):
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="interlock-") as folder:
            for file in self.files:
                (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.root / file, Path(folder) / file)
            yield replace(self, root=Path(folder))


def parts(
    header: admin.RegisterVersionRequest.Header,
    examples: Iterable[admin.Example],
    upload: Upload,
    progress: Callable[[int, int], None] | None,
) -> Iterator[admin.RegisterVersionRequest]:
    """The messages: header, examples, then file after file in pieces of 1 MiB (an empty file is one empty piece)."""
    total, sent = upload.size_bytes(), 0
    yield admin.RegisterVersionRequest(header=header)
    for example in examples:
        yield admin.RegisterVersionRequest(example=example)
    for path in upload.files:
        for data in _pieces(upload.root / path):
            yield admin.RegisterVersionRequest(chunk=admin.RegisterVersionRequest.Chunk(path=path, data=data))
            sent += len(data)
            if progress is not None:
                progress(sent, total)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield file.read(CHUNK_BYTES)
        while data := file.read(CHUNK_BYTES):
            yield data


def _is_link(root: Path, file: str) -> bool:
    """Returns whether a path below ``root`` has a symbolic link in it, or the file has several names."""
    path = root / file
    return path.resolve() != root.resolve() / file or path.stat().st_nlink > 1


def _folder(folder: Path, model_file: str | None) -> Upload:
    files = tuple(sorted(_files_below(folder)))
    if model_file is not None:
        if model_file not in files:
            raise UploadError(f"{folder}: has no file {model_file!r}")
        return Upload(folder, model_file, files)
    models = [file for file in files if file.endswith(".onnx")]
    top = [file for file in models if "/" not in file] or models
    if "model.onnx" in top:
        return Upload(folder, "model.onnx", files)
    if len(top) != 1:
        found = ", ".join(top) or "none"
        raise UploadError(f"{folder}: expected one .onnx file, found {found}; name the model's file itself")
    return Upload(folder, top[0], files)


def _files_below(folder: Path) -> Iterator[str]:
    """Yields relative paths, links followed. Names that begin with two dots are a mounted ConfigMap's own, behind its links."""
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith("..")]
        for name in names:
            path = Path(parent) / name
            if path.is_file() and not name.startswith(".."):
                yield path.relative_to(folder).as_posix()


def _external_data(path: Path) -> tuple[str, ...]:
    from registry.onnx_file import read_model  # imports onnx, which only an upload needs

    return tuple(read_model(path, follows_links=True).external_files)
