"""
Artifacts as folders on a local disk, named by the SHA-256 of their manifest.

    <root>/<digest>/manifest        the manifest
    <root>/<digest>/files/...       the files, read-only
    <root>/incoming/<random>/...    copies in the making, each locked by its process; unlocked ones are swept at open

An artifact is written under a temporary name, synced (files, folders), then renamed: its name exists only when it is whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.artifacts import Selection, artifact, manifest
from registry.durable_file import write_synced
from registry.errors import ArtifactCorrupt, InvalidModel, RegistryUnavailable
from registry.stores.incoming import Incoming, sync, sync_folders
from registry.versions import Artifact, ArtifactFile

_CHUNK_BYTES = 1 << 20
_Stamp = tuple[int, int, int]  # size, time of the last write in ns, inode


class FileArtifacts:
    """`registry.artifacts.ArtifactStore` on the folder ``root``; several processes and threads may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verified: dict[Path, tuple[_Stamp, bool]] = {}  # files that were read whole, and whether they were as registered
        with self._usable():
            self._incoming = Incoming(root / "incoming")

    def ingest(self, selection: Selection) -> Artifact:
        with self._usable(), self._incoming.opened() as folder:
            files = [_copied(selection.root, path, folder / "files" / path) for path in selection.paths]
            made = artifact(selection.model_file, files)
            _check_unchanged(selection, made)
            write_synced(folder / "manifest", manifest(files))
            sync_folders(folder)
            self._publish(folder, made)
        return made

    def keep(self, name: str, content: bytes) -> Artifact:
        with self._usable(), self._incoming.opened() as folder:
            made = artifact(name, (ArtifactFile(name, hashlib.sha256(content).hexdigest(), len(content)),))
            (folder / "files").mkdir()
            write_synced(folder / "files" / name, content)
            write_synced(folder / "manifest", manifest(made.files))
            sync_folders(folder)
            self._publish(folder, made)
        return made

    def path(self, artifact: Artifact) -> Path:
        for file in artifact.files:
            place = self._file(artifact, file.path)
            try:
                size = place.stat().st_size
            except OSError as error:
                raise _corrupt(artifact, file, f"cannot be read ({error.strerror})") from error
            if size != file.size_bytes:
                raise _corrupt(artifact, file, f"has {size} bytes, expected {file.size_bytes}")
        return self._file(artifact, artifact.model_file)

    def verify(self, artifact: Artifact) -> None:
        self.path(artifact)
        if hashlib.sha256(manifest(artifact.files)).hexdigest() != artifact.digest:
            raise ArtifactCorrupt(f"artifact {artifact.digest[:12]}: its list of files does not match the digest")
        for file in artifact.files:
            if not self._is_sound(self._file(artifact, file.path), file):
                raise _corrupt(artifact, file, "does not match its SHA-256")

    def _is_sound(self, path: Path, file: ArtifactFile) -> bool:
        """Reads the file whole, unless this process has done so since it was last written."""
        with path.open("rb") as content:
            facts = os.fstat(content.fileno())
            stamp = (facts.st_size, facts.st_mtime_ns, facts.st_ino)
            known, is_sound = self._verified.get(path, (None, False))
            if known != stamp:
                is_sound = hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
                self._verified[path] = stamp, is_sound
        return is_sound

    def _file(self, artifact: Artifact, path: str) -> Path:
        return self._root / artifact.digest / "files" / path

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RegistryUnavailable(f"cannot store artifacts in {self._root}: {error.strerror or error}") from error

    def _publish(self, folder: Path, made: Artifact) -> None:
        target = self._root / made.digest
        try:
            os.rename(folder, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self.verify(made)  # the same content is there already; it must be whole to be used again
        sync(self._root)


def _copied(root: Path, path: str, target: Path) -> ArtifactFile:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    source = _opened(root, path)
    try:
        with target.open("xb") as copy:
            while chunk := os.read(source, _CHUNK_BYTES):
                digest.update(chunk)
                size += copy.write(chunk)
            copy.flush()
            os.fchmod(copy.fileno(), 0o444)
            os.fsync(copy.fileno())
    finally:
        os.close(source)
    return ArtifactFile(path, digest.hexdigest(), size)


def _opened(root: Path, path: str) -> int:
    """A descriptor of the plain file; no part of ``path`` may be a link, even one put there since it was looked at."""
    *folders, name = path.split("/")
    place = -1
    try:
        place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for folder in folders:
            deeper = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            os.close(place)
            place = deeper
        # Without O_NONBLOCK the open of a named pipe would wait for a writer for ever.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except OSError as error:
        is_link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        what = "is or passes a symbolic link" if is_link else f"cannot be read: {error.strerror}"
        raise InvalidModel(f"{path}: {what}", path=path) from error
    finally:
        if place >= 0:
            os.close(place)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidModel(f"{path}: is not a plain file", path=path)
    return file


def _check_unchanged(selection: Selection, made: Artifact) -> None:
    copied = next(file for file in made.files if file.path == selection.model_file)
    if copied.sha256 != selection.model.sha256:
        raise InvalidModel(f"{selection.model_file}: the file was changed while it was being registered")


def _corrupt(artifact: Artifact, file: ArtifactFile, what: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"artifact {artifact.digest[:12]}: file {file.path!r} {what}", digest=artifact.digest, file=file.path
    )
