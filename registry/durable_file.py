"""Writes a file that is never changed again: read-only, and on disk when the call returns. Nothing else lives here."""

from __future__ import annotations

import os
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Writes a new read-only file. It is on disk when this returns; its name is once the folder is synced. Raises OSError."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
