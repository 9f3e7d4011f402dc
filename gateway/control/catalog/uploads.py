"""Files on their way into the registry: spooled under the home folder, never outside it, never more than allowed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gateway.errors import InvalidRequest, NotReady
from registry.examples import Example, check_bounds

MAX_FILES = 1000
MAX_PATH = 1024  # characters


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of the file at the relative POSIX ``path``."""

    path: str
    data: bytes


Part = Chunk | Example  # what comes in an upload


@dataclass(frozen=True, slots=True)
class Received:
    """What came: the folder it lies in, how many files and bytes."""

    folder: Path
    files: tuple[str, ...]
    size_bytes: int


def without_examples(parts: Iterator[Part], examples: list[Example]) -> Iterator[Chunk]:
    """The files' pieces; examples among them are put aside. Raises InvalidValue when there are too many, or too large ones."""
    for part in parts:
        if isinstance(part, Chunk):
            yield part
        else:
            examples.append(part)
            check_bounds(examples)


@contextmanager
def spooled(root: Path, chunks: Iterator[Chunk], *, max_bytes: int, size_bytes: int = 0) -> Iterator[Received]:
    """
    Writes the files to a fresh folder under ``root`` and removes it at the end of the block. ``size_bytes`` of all files
    were announced; 0: not said.

    Raises InvalidRequest for a path that is not inside, comes twice or is not a file's, for more than ``max_bytes`` and for
    other than ``size_bytes``, NotReady when the disk does not take it, and whatever the iterator raises.
    """
    if size_bytes > max_bytes:
        raise InvalidRequest(f"size_bytes: {size_bytes} bytes, at most {max_bytes} a version", field="size_bytes")
    folder = root / uuid.uuid4().hex
    try:
        try:
            folder.mkdir(parents=True)
            received = _Spool(folder, max_bytes).take(chunks)
        except OSError as error:
            raise NotReady(f"the upload cannot be written to {root}: {error.strerror or error}") from error
        if size_bytes and received.size_bytes != size_bytes:
            came = f"{received.size_bytes} bytes came, {size_bytes} were announced"
            raise InvalidRequest(f"upload: {came}; it was cut off, or a file changed meanwhile", field="size_bytes")
        yield received
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Spool:
    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder, self._max_bytes = folder, max_bytes
        self._size_bytes = 0
        self._files: dict[str, None] = {}  # in their order

    def take(self, chunks: Iterator[Chunk]) -> Received:
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
        return Received(self._folder, tuple(self._files), self._size_bytes)

    def _open(self, path: str) -> BinaryIO:
        check_relative(path)
        if path in self._files:
            raise InvalidRequest(f"chunk.path: {path!r} came before; files come one after the other", field="chunk.path")
        if len(self._files) >= MAX_FILES:
            raise InvalidRequest(f"chunk.path: at most {MAX_FILES} files", field="chunk.path")
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
            raise InvalidRequest(f"chunk.data: at most {self._max_bytes} bytes a version", field="chunk.data")


def check_relative(path: str) -> None:
    """Raises InvalidRequest unless ``path`` is a relative POSIX path that stays inside its folder."""
    parts = path.split("/")
    is_odd = "\\" in path or "\0" in path or len(path) > MAX_PATH
    if is_odd or any(part in ("", ".", "..") or len(part.encode(errors="replace")) > 255 for part in parts):
        raise InvalidRequest(
            f"chunk.path: expected a relative path inside the upload, with '/' between names; got {path[:200]!r}",
            field="chunk.path",
        )


def clear(root: Path) -> None:
    """Removes what uploads of an earlier process left."""
    shutil.rmtree(root, ignore_errors=True)
