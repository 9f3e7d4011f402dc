"""
Folders that are being filled. Each is locked by the process that fills it, so folders of killed processes are found and
removed.

When a folder is whole and synced it is renamed to its final name; a final name never stands for half a folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Incoming:
    """The folder ``root`` for folders that are being filled. Several processes and threads may share it. Raises OSError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        for folder in root.iterdir():
            _sweep(folder)

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Makes an empty folder, which is removed at the end unless it was renamed."""
        folder, lock = self._locked_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def _locked_folder(self) -> tuple[Path, int]:
        while True:
            folder = Path(tempfile.mkdtemp(dir=self._root))
            try:
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # another process swept it before it was locked
            fcntl.flock(lock, fcntl.LOCK_SH)
            if folder.exists():
                folder.chmod(0o755)
                return folder, lock
            os.close(lock)


def _sweep(folder: Path) -> None:
    """Removes a folder whose process died. A locked one is in use."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


def sync_folders(root: Path) -> None:
    """Syncs the names in this folder and in all below it to disk."""
    for folder, _, _ in os.walk(root):
        sync(Path(folder))


def sync(folder: Path) -> None:
    """Syncs the names in this folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
