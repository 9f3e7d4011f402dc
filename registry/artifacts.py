"""
The files that may become an artifact, and the protocol of the stores that keep artifacts.

A `Selection` is a list of relative paths below one root; an `ArtifactStore` copies exactly those. The folder walk here only
selects: the store checks again, on the opened file, that a path is a plain file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from registry.errors import InvalidModel, InvalidValue
from registry.external_data import checked_path
from registry.onnx_file import ModelFile, read_model
from registry.versions import Artifact, ArtifactFile

MAX_FILES = 1000  # files of one artifact


@dataclass(frozen=True, slots=True)
class Selection:
    """
    The files that become the artifact: ``paths`` (relative POSIX, sorted) below ``root``; ``model_file`` is the ONNX file
    among them.
    """

    root: Path
    model_file: str
    paths: tuple[str, ...]
    model: ModelFile


class ArtifactStore(Protocol):
    """Keeps immutable files by the digest of their manifest. Raises RegistryUnavailable if the store cannot be used."""

    def ingest(self, selection: Selection) -> Artifact:
        """
        Copies the selected files in. They are durable when this returns. Content that is already there is used again. Raises
        InvalidModel if a file is no plain file, cannot be read or is not the one that was checked.
        """
        ...

    def keep(self, name: str, content: bytes) -> Artifact:
        """Stores an artifact of one file with that name and content. It is durable when this returns."""
        ...

    def path(self, artifact: Artifact) -> Path:
        """
        Returns the ONNX (or the only) file on this machine. Raises ArtifactCorrupt if a file is missing or has another size.
        """
        ...

    def verify(self, artifact: Artifact) -> None:
        """Reads every byte. Raises ArtifactCorrupt that names the file that does not match its digest."""
        ...


def manifest(files: Iterable[ArtifactFile]) -> bytes:
    """Returns the canonical list of an artifact's files: one line ``<sha256> <size> <path>`` per file, sorted by path."""
    lines = (f"{file.sha256} {file.size_bytes} {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return "".join(lines).encode()


def artifact(model_file: str, files: Iterable[ArtifactFile]) -> Artifact:
    """Returns the artifact of these files, with its digest."""
    ordered = tuple(sorted(files, key=lambda file: file.path))
    return Artifact(hashlib.sha256(manifest(ordered)).hexdigest(), model_file, ordered)


def select(source: Path, model_file: str | None = None) -> Selection:
    """
    Returns the selection of ``source``: of a file, the file and the external data that it needs; of a folder, all its files.
    ``model_file`` names the model in a folder; it may be left out if there is one ``.onnx`` file. Raises InvalidValue if
    ``model_file`` is not there, InvalidModel if the content cannot be admitted.
    """
    try:
        place = source.resolve(strict=True)  # a link that the caller named is meant; links inside are not followed
    except (OSError, RuntimeError) as error:
        raise InvalidModel(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return _of_folder(place, model_file) if place.is_dir() else _of_file(place, model_file)


def _of_file(place: Path, model_file: str | None) -> Selection:
    if model_file not in (None, "", place.name):
        raise InvalidValue(
            f"model_file: {model_file!r} was named, but the source is the file {place.name!r}", field="model_file"
        )
    model = read_model(place)
    paths = tuple(sorted({place.name, *model.external_files}))
    return _checked(Selection(place.parent, place.name, paths, model))


def _of_folder(root: Path, model_file: str | None) -> Selection:
    paths = _files_below(root)
    chosen = _chosen(root, paths, model_file)
    model = read_model(root / chosen)
    return _checked(Selection(root, chosen, paths, model))


def _checked(selection: Selection) -> Selection:
    for path in selection.paths:
        if not path.isprintable():
            raise InvalidModel(f"{path!r}: a file name of an artifact must be printable text", path=repr(path))
    return selection


def _chosen(root: Path, paths: tuple[str, ...], model_file: str | None) -> str:
    if model_file:
        chosen = checked_path(model_file, owner="model_file")
        if chosen not in paths:
            raise InvalidValue(f"model_file: {model_file!r} is not among the files of {root.name!r}", field="model_file")
        return chosen
    models = [path for path in paths if path.lower().endswith(".onnx")]
    if len(models) != 1:
        found = f"{len(models)}: {', '.join(models[:5])}" if models else "none"
        raise InvalidModel(f"{root}: expected one .onnx file or a `model_file` that names it, found {found}")
    return models[0]


def _files_below(root: Path) -> tuple[str, ...]:
    found: list[str] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        for entry in _entries(root / folder):
            path = f"{folder}{entry.name}"
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                folders.append(f"{path}/")
            elif stat.S_ISREG(mode):
                found.append(path)
            else:
                what = "a symbolic link: put the file itself there" if stat.S_ISLNK(mode) else "not a plain file"
                raise InvalidModel(f"{root / path}: is {what}", path=path)
        if len(found) > MAX_FILES:
            raise InvalidModel(f"{root}: an artifact has at most {MAX_FILES} files, this folder has more")
    return tuple(sorted(found))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InvalidModel(f"{folder}: cannot be read: {error.strerror or error}") from error
