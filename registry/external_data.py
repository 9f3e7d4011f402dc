"""
Checks the files outside its ONNX file in which a model keeps weights: they must be plain files below its own folder.

ONNX Runtime itself refuses `..`, absolute paths and symbolic links, but follows a hard link out of the folder, so all of it
is checked here. The rules: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from registry.errors import InvalidModel


def check_external_files(
    folder: Path, tensors: Iterable[tuple[str, Mapping[str, str]]], *, follows_links: bool = False
) -> tuple[str, ...]:
    """
    Returns the relative POSIX paths that ``tensors`` (name, external-data entries) need below ``folder``, sorted. Raises
    InvalidModel that names tensor and file if one lies outside, is missing, is a link or no plain file, or is too short.
    ``follows_links``: the files are the reader's own, who copies what links point at, so a file may be a link.
    """
    sizes: dict[str, int] = {}
    for name, entries in tensors:
        path = checked_path(entries.get("location", ""), owner=f"external data of tensor {name!r}")
        if path not in sizes:
            sizes[path] = _followed_size(folder, path, name) if follows_links else _plain_file_size(folder, path, name)
        _check_range(name, path, sizes[path], entries)
    return tuple(sorted(sizes))


def checked_path(path: str, *, owner: str) -> str:
    """Returns ``path`` normalised. Raises InvalidModel that says whose it is if it is not relative or leaves the folder."""
    parts = PurePosixPath(path).parts
    if not path or not parts or "\0" in path or "\\" in path:
        raise InvalidModel(f"{owner}: expected a relative path, got {path!r}", path=path)
    if path.startswith("/") or ".." in parts:
        raise InvalidModel(f"{owner}: {path!r} points outside the model's folder", path=path)
    return "/".join(parts)


def _followed_size(folder: Path, path: str, name: str) -> int:
    owner = f"external data of tensor {name!r}"
    try:
        found = os.stat(folder / path)
    except OSError as error:
        raise InvalidModel(f"{owner}: file {path!r} is not beside the model: {error.strerror}", path=path) from error
    if not stat.S_ISREG(found.st_mode):
        raise InvalidModel(f"{owner}: {path!r} is not a plain file", path=path)
    return found.st_size


def _plain_file_size(folder: Path, path: str, name: str) -> int:
    owner = f"external data of tensor {name!r}"
    place = folder
    for part in path.split("/"):
        place = place / part
        try:
            found = os.lstat(place)
        except OSError as error:
            raise InvalidModel(f"{owner}: file {path!r} is not beside the model: {error.strerror}", path=path) from error
        if stat.S_ISLNK(found.st_mode):
            raise InvalidModel(f"{owner}: {path!r} is or passes a symbolic link: put the file itself there", path=path)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidModel(f"{owner}: {path!r} is not a plain file", path=path)
    if found.st_nlink > 1:
        raise InvalidModel(f"{owner}: {path!r} is a hard link to a file that also lies elsewhere: put a copy there", path=path)
    return found.st_size


def _check_range(name: str, path: str, size: int, entries: Mapping[str, str]) -> None:
    try:
        offset, length = (int(entries.get(key) or 0) for key in ("offset", "length"))
    except ValueError as error:
        raise InvalidModel(f"external data of tensor {name!r}: offset and length must be whole numbers ({error})") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise InvalidModel(
            f"external data of tensor {name!r}: {path!r} has {size} bytes, but offset {offset} and length {length} "
            "were announced: the file is cut short or belongs to another model",
            path=path,
        )
