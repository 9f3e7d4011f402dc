"""
Uploads: files on their way into the registry. They are spooled to a folder under HOME, and never leave it or exceed the
allowed size.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gateway.errors import InvalidRequest, NotReady
from registry.errors import InvalidModel
from registry.examples import Example, check_bounds
from registry.external_data import checked_path

MAX_FILES = 1000  # files of a version
MAX_PATH = 1024  # characters of a file's path
MAX_PART = 255  # bytes of one name in a path: the limit of Linux file systems


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that follow in the file at the relative POSIX ``path``."""

    path: str
    data: bytes


Part = Chunk | Example  # one message of an upload


@dataclass(frozen=True, slots=True)
class UploadedFiles:
    """A complete upload: its folder, the paths of its files, and their total size."""

    folder: Path
    files: tuple[str, ...]
    size_bytes: int


def without_examples(parts: Iterator[Part], examples: list[Example]) -> Iterator[Chunk]:
    """
    Yields the chunks of files and appends the examples to ``examples``. Raises InvalidValue if there are too many examples or
    if they are too large.
    """
    for part in parts:
        if isinstance(part, Chunk):
            yield part
        else:
            examples.append(part)
            check_bounds(examples)


@contextmanager
def spooled(root: Path, chunks: Iterator[Chunk], *, max_bytes: int, size_bytes: int = 0) -> Iterator[UploadedFiles]:
    """
    Writes the files to a new folder under ``root`` and deletes it at the end of the block. ``size_bytes`` is the announced
    size of all files; 0 if none was announced.

    Raises InvalidRequest for a path that leaves the folder, is repeated, or is both a file and a folder; for more than
    ``max_bytes``; and for a total other than ``size_bytes``. Raises NotReady if the disk cannot be written, and whatever the
    iterator raises.
    """
    if size_bytes > max_bytes:
        raise InvalidRequest(f"size_bytes: a version may have at most {max_bytes} bytes, got {size_bytes}", field="size_bytes")
    folder = root / uuid.uuid4().hex
    try:
        try:
            folder.mkdir(parents=True)
            received = _Spool(folder, max_bytes).take(chunks)
        except OSError as error:
            raise NotReady(f"the upload cannot be written to {root}: {error.strerror or error}") from error
        if size_bytes and received.size_bytes != size_bytes:
            found = f"{received.size_bytes} bytes came, {size_bytes} were announced"
            raise InvalidRequest(f"upload: {found}; it was cut off, or a file changed meanwhile", field="size_bytes")
        yield received
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Spool:
    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._size_bytes = 0
        self._files: dict[str, None] = {}  # paths in the order of arrival

    def take(self, chunks: Iterator[Chunk]) -> UploadedFiles:
        file: BinaryIO | None = None
        try:
            for chunk in chunks:
                if file is None or chunk.path != next(reversed(self._files)):
                    if file is not None:
                        file.close()
                    file = self._open(chunk.path)
                self._count(len(chunk.data))
                file.write(chunk.data)
        finally:
            if file is not None:
                file.close()
        return UploadedFiles(self._folder, tuple(self._files), self._size_bytes)

    def _open(self, path: str) -> BinaryIO:
        check_relative(path)
        if path in self._files:
            raise InvalidRequest(f"chunk.path: {path!r} was sent before; send one file after the other", field="chunk.path")
        if len(self._files) >= MAX_FILES:
            raise InvalidRequest(
                f"chunk.path: a version may have at most {MAX_FILES} files, which cannot be set, and {path!r} is number "
                f"{len(self._files) + 1}: save the weights into one file (onnx.save_model with all_tensors_to_one_file=True)",
                field="chunk.path",
            )
        self._files[path] = None
        target = self._folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return target.open("xb")
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidRequest(f"chunk.path: {path!r} is a file and a folder", field="chunk.path") from error

    def _count(self, size_bytes: int) -> None:
        self._size_bytes += size_bytes
        if self._size_bytes > self._max_bytes:
            raise InvalidRequest(f"chunk.data: a version may have at most {self._max_bytes} bytes", field="chunk.data")


def check_relative(path: str) -> None:
    """Raises InvalidRequest unless ``path`` is a normalised relative POSIX path that stays inside its folder."""
    is_short = len(path) <= MAX_PATH and all(len(part.encode(errors="replace")) <= MAX_PART for part in path.split("/"))
    if not (is_short and _is_inside(path)):
        raise InvalidRequest(
            f"chunk.path: expected a relative path inside the upload, with '/' between names; got {path[:200]!r}",
            field="chunk.path",
        )


def _is_inside(path: str) -> bool:
    try:
        return checked_path(path, owner="chunk.path") == path
    except InvalidModel:
        return False


def clear(root: Path) -> None:
    """Deletes the leftovers of an earlier process' uploads."""
    shutil.rmtree(root, ignore_errors=True)
