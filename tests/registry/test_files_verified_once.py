"""Files of an artifact are read whole once, and again after they were written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from registry.errors import ArtifactCorrupt
from registry.stores.files import FileArtifacts
from registry.versions import Artifact


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read whole."""
    seen: list[str] = []
    digest = hashlib.file_digest

    def noted(content: Any, name: str) -> Any:
        seen.append(Path(content.name).name)
        return digest(content, name)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    return seen


@pytest.fixture
def store(tmp_path: Path) -> FileArtifacts:
    return FileArtifacts(tmp_path)


@pytest.fixture
def kept(store: FileArtifacts) -> Artifact:
    return store.keep("a.bin", b"sound")


def rewrite(path: Path, content: bytes) -> None:
    os.chmod(path, 0o600)
    path.write_bytes(content)


def test_a_file_is_read_once(store: FileArtifacts, kept: Artifact, reads: list[str]) -> None:
    store.verify(kept)
    store.verify(kept)
    assert reads == ["a.bin"]


def test_a_damaged_file_is_read_once_and_refused_each_time(store: FileArtifacts, kept: Artifact, reads: list[str]) -> None:
    rewrite(store.path(kept), b"SOUND")
    for _ in range(2):
        with pytest.raises(ArtifactCorrupt):
            store.verify(kept)
    assert reads == ["a.bin"]


def test_a_file_that_was_written_is_read_again(store: FileArtifacts, kept: Artifact) -> None:
    store.verify(kept)
    rewrite(store.path(kept), b"SOUND")
    with pytest.raises(ArtifactCorrupt):
        store.verify(kept)
    rewrite(store.path(kept), b"sound")
    store.verify(kept)
