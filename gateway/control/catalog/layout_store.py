"""
The serving layouts on disk: made once per artifact and machine, verified before they are used, collected when nobody does.

    <root>/<artifact digest>/<key>[~n]/layout.json   what it is; the folder's name exists only when it is whole
    <root>/<artifact digest>/<key>[~n]/...           model.onnx and links to its weights
    <root>/blobs/<sha256>                            the weights' files, each once for all layouts
    <root>/incoming/<random>/...                     layouts in the making

Without a layout the registered file is served, so nothing here can stop a version. `chosen` never blocks; the rest does.
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
from registry.serving_layout import MODEL_FILE, WORTH_BYTES, write_synced
from registry.stores.incoming import Incoming, sync, sync_folders
from registry.versions import ModelVersion

FORMAT = 2  # of layout.json and of what `registry.serving_layout` writes
NOTE = "layout.json"
UNUSED_S = 7 * 86_400.0  # a layout that no version in use needs is kept so long

_log = structlog.get_logger("interlock.layouts")


@dataclass(frozen=True, slots=True)
class LayoutFile:
    """One file of a layout beside its note."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Layout:
    """
    The note of a layout. ``mode`` and ``reason`` are those of `layout_rewrite.Built`; of the mode ``original`` there
    are no files. ``weights_bytes`` are mapped by every process that loads it, ``private_bytes`` come on top in each.
    """

    mode: str
    reason: str
    config: Mapping[str, str] = field(default_factory=dict)
    files: tuple[LayoutFile, ...] = ()
    private_bytes: int = 0
    weights_bytes: int = 0
    figures: Mapping[str, Figures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    What a version is served from: ``folder`` holds it, or the note that the registered file is better. Empty: no layout
    could be made, and it is tried again when the version is asked for again.
    """

    layout: Layout
    folder: str = ""

    @property
    def path(self) -> str:
        """The ONNX file to load; empty when that is the registered one."""
        return f"{self.folder}/{MODEL_FILE}" if self.layout.files else ""


class Build(Protocol):
    """`gateway.runtime.layout_rewrite.build`."""

    def __call__(self, path: Path, folder: Path, *, is_batchable: bool, size_bytes: int) -> Built:
        """Makes a layout in ``folder``. Raises LayoutFailed."""
        ...


class Layouts:
    """All layouts of a gateway. Thread-safe; ``key`` names the machine and its ONNX Runtime (`machine.layout_key`)."""

    def __init__(self, root: Path, key: str, clock: Clock, *, build: Build = build) -> None:
        self._root, self._key, self._clock, self._build = root.absolute(), key, clock, build
        self._working = threading.Lock()  # one at a time: making one takes a core and the memory of a load
        self._chosen: dict[str, Chosen] = {}  # by artifact digest; replaced, never changed
        self._verified: set[str] = set()  # names of blobs that were read since the start
        self._incoming: Incoming | None = None

    def chosen(self, version: ModelVersion) -> Chosen | None:
        """What the version is served from, as far as `ensure` has seen to it."""
        return self._chosen.get(version.artifact.digest)

    def is_settled(self, version: ModelVersion) -> bool:
        """Whether `ensure` has nothing to do for the version."""
        known = self._chosen.get(version.artifact.digest)
        return version.artifact.size_bytes < WORTH_BYTES or (known is not None and self._is_there(known))

    def ensure(self, version: ModelVersion, model_file: Path) -> None:
        """
        Sees to it that the version has its layout, or that it is known to need none: finds and verifies it, or makes it.
        Never raises: what goes wrong is logged and shown, and the registered file is served.
        """
        digest = version.artifact.digest
        with self._working:
            if self.is_settled(version):
                return
            try:
                chosen = self._found(digest) or self._made(version, model_file)
            except (LayoutFailed, OSError) as error:
                what = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
                _log.warning("layout_not_made", model=version.model, version=version.number, reason=what)
                chosen = Chosen(Layout(ORIGINAL, f"no serving layout: {what}"))
            self._chosen = {**self._chosen, digest: chosen}

    def _is_there(self, chosen: Chosen) -> bool:
        """Whether what was chosen can still be used, by its files' sizes."""
        folder = Path(chosen.folder)
        return bool(chosen.folder) and all(_size(folder / file.name) == file.size_bytes for file in chosen.layout.files)

    # ---- finding ---------------------------------------------------------------------------------------------------

    def _folders(self, digest: str) -> list[Path]:
        """This machine's layouts of an artifact, the newest first."""
        place = self._root / digest
        names = (path for path in place.iterdir()) if place.is_dir() else ()
        mine = [path for path in names if path.name.partition("~")[0] == self._key]
        return sorted(mine, key=_generation, reverse=True)

    def _found(self, digest: str) -> Chosen | None:
        for folder in self._folders(digest):
            layout = self._read(folder)
            if layout is not None:
                self._touch(folder)
                return Chosen(layout, str(folder))
        return None

    def _touch(self, folder: Path) -> None:
        """Notes when a layout was used last."""
        os.utime(folder, (self._clock.now(), self._clock.now()))

    def _read(self, folder: Path) -> Layout | None:
        """The layout in a folder; None when a byte of it is not as it was written."""
        try:
            layout = msgspec.json.decode((folder / NOTE).read_bytes(), type=Layout)
            wrong = [file.name for file in layout.files if not self._is_whole(folder / file.name, file)]
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("layout_damaged", path=str(folder), error=str(error))
            return None
        if wrong:
            _log.error("layout_damaged", path=str(folder), files=wrong)
        return None if wrong else layout

    def _is_whole(self, path: Path, file: LayoutFile) -> bool:
        if _size(path) != file.size_bytes:
            return False
        is_known = file.name in self._verified and _is_linked(path, self._root / "blobs" / file.name)
        if not is_known and _sha256(path) != file.sha256:
            return False
        if file.name == file.sha256:
            self._verified.add(file.name)
        return True

    # ---- making ----------------------------------------------------------------------------------------------------

    def _made(self, version: ModelVersion, model_file: Path) -> Chosen:
        began = self._clock.monotonic()
        if self._incoming is None:
            self._incoming = Incoming(self._root / "incoming")  # sweeps what a killed process left
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
        return Chosen(layout, str(path))

    def _completed(self, built: Built, folder: Path) -> Layout:
        """The note of what was built, each weight's file shared with those that have the same content."""
        weights = tuple(self._shared(folder / name) for name in built.blobs)
        model = folder / MODEL_FILE
        files = (_described(model), *weights) if weights else ()
        weights_bytes = sum(file.size_bytes for file in weights)
        return Layout(built.mode, built.reason, built.config, files, built.private_bytes, weights_bytes, built.figures)

    def _shared(self, path: Path) -> LayoutFile:
        """Makes ``path`` and the blob of its name one file: the blob when it is whole, else ``path`` takes its place."""
        file = _described(path)
        if file.name != file.sha256:
            raise LayoutFailed(f"the weight {file.name} was not written as it was read")
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
        self._verified.add(file.name)
        return file

    def _published(self, folder: Path, digest: str, layout: Layout) -> Path:
        """Gives the whole layout its name. A damaged one keeps its own, so that workers are sent to the new one."""
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
                continue  # another process was first, with its own; ours is as good and newer
            sync(self._root / digest)
            sync(self._root)
            return target

    # ---- collecting ------------------------------------------------------------------------------------------------

    def collect(self, used: Collection[str]) -> None:
        """
        Removes what nobody needs: of the artifacts in ``used`` (digests) all but what was chosen, of all others what was not
        used for UNUSED_S seconds, and then weights that no layout has any more. Never raises.
        """
        now = self._clock.now()
        try:
            with self._working:
                for place in self._root.iterdir() if self._root.is_dir() else ():
                    if place.name not in ("blobs", "incoming"):
                        self._collect_artifact(place, is_used=place.name in used, now=now)
                for blob in (self._root / "blobs").iterdir() if (self._root / "blobs").is_dir() else ():
                    if blob.stat().st_nlink == 1:
                        blob.unlink()
        except OSError as error:
            _log.warning("layouts_not_collected", error=str(error))

    def _collect_artifact(self, place: Path, *, is_used: bool, now: float) -> None:
        chosen = self._chosen.get(place.name)
        kept = chosen.folder if chosen is not None and is_used else ""
        for folder in place.iterdir():
            is_replaced = bool(kept) and str(folder) != kept
            is_old = not is_used and now - folder.stat().st_mtime > UNUSED_S
            if is_replaced or is_old:
                shutil.rmtree(folder, ignore_errors=True)
        if not any(place.iterdir()):
            place.rmdir()


def _generation(folder: Path) -> int:
    number = folder.name.partition("~")[2]
    return int(number) if number.isdigit() else 1


def _described(path: Path) -> LayoutFile:
    return LayoutFile(path.name, path.stat().st_size, _sha256(path))


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
