"""
Serving layouts on disk. A layout is made once per artifact and machine, verified before use, and deleted once unused.

    <root>/<artifact digest>/<key>[~n]/layout.json   its description; a folder gets this name only when it is complete
    <root>/<artifact digest>/<key>[~n]/...           model.onnx and links to its weights
    <root>/blobs/<sha256>                            the weights' files, each stored once for all layouts
    <root>/incoming/<random>/...                     layouts that are being made

A version without a layout is served from its registered file, so no failure here can stop a version. `LayoutStore.chosen`
never blocks; the other methods do.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from gateway.clock import Clock
from gateway.runtime.layout_choice import Figures
from gateway.runtime.layout_rewrite import ORIGINAL, Built, LayoutFailed, build
from registry.durable_file import write_synced
from registry.serving_layout import MODEL_FILE, WORTH_BYTES
from registry.stores.incoming import Incoming, sync, sync_folders
from registry.versions import ModelVersion

FORMAT = 2  # version of layout.json and of the files that `registry.serving_layout` writes
NOTE = "layout.json"
UNUSED_S = 7 * 86_400.0  # s; a layout is kept this long after its last use, in case its version is deployed again

_Stamp = tuple[int, int, int]  # size, time of the last write in ns, inode

_log = structlog.get_logger("interlock.layouts")


@dataclass(frozen=True, slots=True)
class LayoutFile:
    """One file of a layout, other than layout.json."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ServingLayout:
    """
    The description of a layout: the content of layout.json.

    ``mode`` and ``reason`` are those of `layout_rewrite.Built`. The mode ``original`` has no files. ``weights_bytes`` are
    mapped and shared by all processes that load the layout; each process needs ``private_bytes`` on top.
    """

    mode: str
    reason: str
    config: Mapping[str, str] = field(default_factory=dict)
    files: tuple[LayoutFile, ...] = ()
    private_bytes: int = 0
    weights_bytes: int = 0
    figures: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChosenLayout:
    """
    The layout that a version is served from.

    ``folder`` holds the layout, or only a layout.json which says that the registered file is better. It is empty if no
    layout could be made; making it is tried again the next time that the version is needed.
    """

    layout: ServingLayout
    folder: str = ""

    @property
    def path(self) -> str:
        """The ONNX file to load; empty for the registered file."""
        return f"{self.folder}/{MODEL_FILE}" if self.layout.files else ""


class BuildLayout(Protocol):
    """The function that makes layouts: `gateway.runtime.layout_rewrite.build`, or a fake of it."""

    def __call__(self, path: Path, folder: Path, *, is_batchable: bool, size_bytes: int) -> Built:
        """Makes a layout of the model at ``path`` in ``folder``. Raises LayoutFailed."""
        ...


class LayoutStore:
    """All serving layouts of a gateway. Thread-safe. ``key`` names the machine and its ONNX Runtime (`machine.layout_key`)."""

    def __init__(self, root: Path, key: str, clock: Clock, *, build: BuildLayout = build) -> None:
        self._root, self._key, self._clock, self._build = root.absolute(), key, clock, build
        self._working = threading.Lock()  # making a layout takes a core and the memory of a load: one at a time
        self._chosen: dict[str, ChosenLayout] = {}  # by artifact digest; replaced as a whole, so it is read without the lock
        self._verified: dict[str, _Stamp | None] = {}  # the blobs that were verified since the start, by name
        self._stamps: dict[str, tuple[_Stamp | None, ...]] = {}  # of the chosen layout's files, by artifact digest
        self._incoming: Incoming | None = None

    def __repr__(self) -> str:
        return f"LayoutStore({str(self._root)!r}, key={self._key!r}, chosen={len(self._chosen)})"

    def chosen(self, version: ModelVersion) -> ChosenLayout | None:
        """Returns the layout that the version is served from; None before `ensure` has run for it."""
        return self._chosen.get(version.artifact.digest)

    def is_settled(self, version: ModelVersion) -> bool:
        """Returns whether `ensure` has nothing left to do for the version."""
        known = self._chosen.get(version.artifact.digest)
        return version.artifact.size_bytes < WORTH_BYTES or (known is not None and self._is_unchanged(version, known))

    def forget_changed(self, version: ModelVersion) -> None:
        """Forgets the version's layout if its files were written since they were verified, until `ensure` has run for it."""
        digest = version.artifact.digest
        known = self._chosen.get(digest)
        if known is not None and known.path and not self._is_unchanged(version, known):
            self._chosen = {name: chosen for name, chosen in self._chosen.items() if name != digest}

    def ensure(self, version: ModelVersion, model_file: Path) -> None:
        """
        Finds and verifies the version's layout, or makes one, or finds out that the version needs none.

        Never raises. A failure is logged and becomes the layout's reason, and the registered file is served.
        """
        digest = version.artifact.digest
        with self._working:
            if self.is_settled(version):
                return
            try:
                chosen = self._found(digest) or self._made(version, model_file)
            except (LayoutFailed, OSError) as error:
                reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
                _log.warning("layout_not_made", model=version.model, version=version.number, reason=reason)
                chosen = ChosenLayout(ServingLayout(ORIGINAL, f"no serving layout: {reason}"))
            self._stamps[digest] = _stamps(chosen)
            self._chosen = {**self._chosen, digest: chosen}

    def _is_unchanged(self, version: ModelVersion, chosen: ChosenLayout) -> bool:
        """Returns whether all files are as they were verified. Compares their stamps only, since it runs often."""
        stamps = self._stamps.get(version.artifact.digest)
        return bool(chosen.folder) and None not in (stamps or ()) and stamps == _stamps(chosen)

    # ---- finding ---------------------------------------------------------------------------------------------------

    def _folders(self, digest: str) -> list[Path]:
        """This machine's layouts of an artifact, newest first."""
        parent = self._root / digest
        paths = (path for path in parent.iterdir()) if parent.is_dir() else ()
        own = [path for path in paths if path.name.partition("~")[0] == self._key]
        return sorted(own, key=_generation, reverse=True)

    def _found(self, digest: str) -> ChosenLayout | None:
        for folder in self._folders(digest):
            layout = self._read(folder)
            if layout is not None:
                self._touch(folder)
                return ChosenLayout(layout, str(folder))
        return None

    def _touch(self, folder: Path) -> None:
        """Records the time of the last use as the folder's modification time; `collect` reads it."""
        try:
            os.utime(folder, (self._clock.now(), self._clock.now()))
        except OSError as error:  # on a disk that takes no writes: the layout is as good, `collect` judges it by an older time
            _log.warning("layout_use_not_recorded", path=str(folder), error=str(error))

    def _read(self, folder: Path) -> ServingLayout | None:
        """The layout in a folder; None if a byte of it has changed."""
        try:
            layout = msgspec.json.decode((folder / NOTE).read_bytes(), type=ServingLayout)
            damaged = [file.name for file in layout.files if not self._is_intact(folder / file.name, file)]
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("layout_damaged", path=str(folder), error=str(error))
            return None
        if damaged:
            _log.error("layout_damaged", path=str(folder), files=damaged)
        return None if damaged else layout

    def _is_intact(self, path: Path, file: LayoutFile) -> bool:
        if _size(path) != file.size_bytes:
            return False
        is_known = self._verified.get(file.name) == _stamp(path) and _is_linked(path, self._root / "blobs" / file.name)
        if not is_known and _sha256(path) != file.sha256:
            return False
        if file.name == file.sha256:
            self._verified[file.name] = _stamp(path)
        return True

    # ---- making ----------------------------------------------------------------------------------------------------

    def _made(self, version: ModelVersion, model_file: Path) -> ChosenLayout:
        began = self._clock.monotonic()
        if self._incoming is None:
            self._incoming = Incoming(self._root / "incoming")  # deletes the leftovers of a killed process
            (self._root / "blobs").mkdir(exist_ok=True)
        with self._incoming.opened() as work:
            size_bytes = version.artifact.size_bytes
            built = self._build(model_file, work, is_batchable=version.facts.is_batchable, size_bytes=size_bytes)
            folder = work / (built.folder or "none")
            folder.mkdir(exist_ok=True)
            layout = self._completed(built, folder)
            path = self._published(folder, version.artifact.digest, layout)
        facts = {"mode": layout.mode, "reason": layout.reason, "seconds": round(self._clock.monotonic() - began, 2)}
        _log.info("layout_made", model=version.model, version=version.number, path=str(path), **facts)
        return ChosenLayout(layout, str(path))

    def _completed(self, built: Built, folder: Path) -> ServingLayout:
        """Shares each weight's file with all layouts that have the same weight, and returns the layout's description."""
        weights = tuple(self._shared(folder / name) for name in built.blobs)
        model = folder / MODEL_FILE
        files = (_described(model), *weights) if weights else ()
        weights_bytes = sum(file.size_bytes for file in weights)
        return ServingLayout(built.mode, built.reason, built.config, files, built.private_bytes, weights_bytes, built.figures)

    def _shared(self, path: Path) -> LayoutFile:
        """Makes ``path`` and the blob of its name one file. Keeps the blob if it is intact, else replaces it by ``path``."""
        file = _described(path)
        if file.name != file.sha256:
            raise LayoutFailed(f"the file of weight {file.name} has another content than its name says")
        blob = self._root / "blobs" / file.name
        try:
            os.link(path, blob)
        except FileExistsError:
            if _size(blob) == file.size_bytes and _sha256(blob) == file.sha256:
                path.unlink()
                os.link(blob, path)
            else:
                aside = path.with_suffix(".new")
                os.link(path, aside)
                os.replace(aside, blob)
        self._verified[file.name] = _stamp(path)
        return file

    def _published(self, folder: Path, digest: str, layout: ServingLayout) -> Path:
        """
        Renames the complete layout to its final name. A damaged layout keeps its name and the new one gets the next number,
        so that workers are sent to the new path.
        """
        write_synced(folder / NOTE, msgspec.json.encode(layout))
        self._touch(folder)
        sync_folders(folder)
        sync(self._root / "blobs")
        (self._root / digest).mkdir(exist_ok=True)
        while True:
            before = self._folders(digest)
            target = self._root / digest / (f"{self._key}~{_generation(before[0]) + 1}" if before else self._key)
            try:
                os.rename(folder, target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                continue  # another process took the name first; this layout is as good, and gets the next number
            sync(self._root / digest)
            sync(self._root)
            return target

    # ---- collecting ------------------------------------------------------------------------------------------------

    def collect(self, used: Collection[str]) -> None:
        """
        Deletes layouts that are not needed, then weights that no layout links to. Never raises.

        Of an artifact in ``used`` (digests), every layout but the chosen one goes; of any other artifact, layouts that were
        not used for UNUSED_S seconds.
        """
        now = self._clock.now()
        try:
            with self._working:
                for artifact in self._root.iterdir() if self._root.is_dir() else ():
                    if artifact.name not in ("blobs", "incoming"):
                        self._collect_artifact(artifact, is_used=artifact.name in used, now=now)
                for blob in (self._root / "blobs").iterdir() if (self._root / "blobs").is_dir() else ():
                    if blob.stat().st_nlink == 1:
                        blob.unlink()
        except OSError as error:
            _log.warning("layouts_not_collected", error=str(error))

    def _collect_artifact(self, artifact: Path, *, is_used: bool, now: float) -> None:
        chosen = self._chosen.get(artifact.name)
        kept = chosen.folder if chosen is not None and is_used else ""
        for folder in artifact.iterdir():
            is_replaced = bool(kept) and str(folder) != kept
            is_old = not is_used and now - folder.stat().st_mtime > UNUSED_S
            if is_replaced or is_old:
                shutil.rmtree(folder, ignore_errors=True)
        if not any(artifact.iterdir()):
            artifact.rmdir()


def _generation(folder: Path) -> int:
    number = folder.name.partition("~")[2]
    return int(number) if number.isdigit() else 1


def _described(path: Path) -> LayoutFile:
    return LayoutFile(path.name, path.stat().st_size, _sha256(path))


def _stamps(chosen: ChosenLayout) -> tuple[_Stamp | None, ...]:
    return tuple(_stamp(Path(chosen.folder) / file.name) for file in chosen.layout.files)


def _stamp(path: Path) -> _Stamp | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _is_linked(path: Path, blob: Path) -> bool:
    try:
        return path.samefile(blob)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
