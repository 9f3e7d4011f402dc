"""What becomes an artifact, and how it is kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
from pathlib import Path

import pytest
from registry_makers import write_adder, write_external

from registry.artifacts import manifest, select
from registry.errors import ArtifactCorrupt, InvalidModel, InvalidValue, RegistryUnavailable
from registry.stores import files as files_module
from registry.stores.files import FileArtifacts


@pytest.fixture
def store(tmp_path: Path) -> FileArtifacts:
    return FileArtifacts(tmp_path / "artifacts")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_a_file_is_ingested_alone(store: FileArtifacts, source: Path) -> None:
    path = write_adder(source / "model.onnx")
    (source / "notes.txt").write_text("not needed")
    artifact = store.ingest(select(path))
    assert [file.path for file in artifact.files] == ["model.onnx"]
    assert store.path(artifact).read_bytes() == path.read_bytes()


def test_a_file_brings_the_external_data_it_needs(store: FileArtifacts, source: Path) -> None:
    (source / "weights").mkdir()
    (source / "weights" / "w.bin").write_bytes(bytes(8))
    (source / "other.bin").write_bytes(bytes(8))
    artifact = store.ingest(select(write_external(source / "model.onnx", "weights/w.bin", length=8)))
    assert [file.path for file in artifact.files] == ["model.onnx", "weights/w.bin"]
    assert (store.path(artifact).parent / "weights" / "w.bin").read_bytes() == bytes(8)


def test_a_folder_is_ingested_whole(store: FileArtifacts, source: Path) -> None:
    write_adder(source / "deep" / "model.onnx")
    (source / "notes.txt").write_text("kept")
    artifact = store.ingest(select(source))
    assert artifact.model_file == "deep/model.onnx"
    assert [file.path for file in artifact.files] == ["deep/model.onnx", "notes.txt"]


def test_a_link_that_the_caller_names_itself_is_followed(store: FileArtifacts, source: Path) -> None:
    write_adder(source / "v3.onnx")
    (source / "current.onnx").symlink_to("v3.onnx")
    assert store.ingest(select(source / "current.onnx")).model_file == "v3.onnx"


def test_the_digest_is_that_of_the_manifest_and_says_nothing_of_when_or_where(store: FileArtifacts, source: Path) -> None:
    write_adder(source / "a" / "model.onnx")
    write_adder(source / "b" / "model.onnx")
    first, second = store.ingest(select(source / "a")), store.ingest(select(source / "b"))
    assert first == second
    content = (source / "a" / "model.onnx").read_bytes()
    line = f"{hashlib.sha256(content).hexdigest()} {len(content)} model.onnx\n"
    assert first.digest == hashlib.sha256(line.encode()).hexdigest()
    assert manifest(first.files) == line.encode()


def test_content_that_is_there_is_used_again(store: FileArtifacts, source: Path) -> None:
    path = store.path(store.ingest(select(write_adder(source / "model.onnx"))))
    inode = path.stat().st_ino
    store.ingest(select(source))
    assert path.stat().st_ino == inode
    assert not list((path.parents[2] / "incoming").iterdir())


def test_stored_files_cannot_be_written(store: FileArtifacts, source: Path) -> None:
    path = store.path(store.ingest(select(write_adder(source / "model.onnx"))))
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_the_copy_shares_nothing_with_the_source(store: FileArtifacts, source: Path) -> None:
    path = write_adder(source / "model.onnx")
    artifact = store.ingest(select(path))
    path.write_bytes(b"overwritten")
    store.verify(artifact)


def test_a_folder_needs_one_model_or_a_word_which(source: Path) -> None:
    with pytest.raises(InvalidModel, match="found none"):
        select(source)
    write_adder(source / "a.onnx")
    write_adder(source / "b.onnx", 2)
    with pytest.raises(InvalidModel, match=r"found 2: a.onnx, b.onnx"):
        select(source)
    assert select(source, "b.onnx").model_file == "b.onnx"


@pytest.mark.parametrize(
    ("name", "error"), [("nope.onnx", InvalidValue), ("../a.onnx", InvalidModel), ("/a.onnx", InvalidModel)]
)
def test_a_model_file_that_is_not_among_the_files_is_refused(source: Path, name: str, error: type[Exception]) -> None:
    write_adder(source / "a.onnx")
    with pytest.raises(error, match="model_file"):
        select(source, name)


def test_links_and_devices_in_a_folder_are_refused(source: Path) -> None:
    write_adder(source / "model.onnx")
    (source / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InvalidModel, match="symbolic link"):
        select(source)
    (source / "passwd").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(InvalidModel, match="not a plain file"):
        select(source)


def test_too_many_files_and_unprintable_names_are_refused(source: Path) -> None:
    write_adder(source / "model.onnx")
    odd = source / "two\nlines"
    odd.touch()
    with pytest.raises(InvalidModel, match="printable"):
        select(source)
    odd.unlink()
    for number in range(1000):
        (source / f"f{number}").touch()
    with pytest.raises(InvalidModel, match="at most 1000 files"):
        select(source)


def test_a_link_put_there_after_the_check_is_not_followed(store: FileArtifacts, source: Path) -> None:
    write_adder(source / "model.onnx")
    (source / "extra").mkdir()
    (source / "extra" / "notes").write_text("fine")
    selection = select(source)
    (source / "extra").rename(source / "was")
    (source / "extra").symlink_to("was")
    with pytest.raises(InvalidModel, match="symbolic link"):
        store.ingest(selection)
    (source / "extra").unlink()
    (source / "extra").mkdir()
    (source / "extra" / "notes").symlink_to("/etc/passwd")
    with pytest.raises(InvalidModel, match="symbolic link"):
        store.ingest(selection)


def test_a_pipe_put_there_after_the_check_does_not_block(store: FileArtifacts, source: Path) -> None:
    write_adder(source / "model.onnx")
    (source / "notes").touch()
    selection = select(source)
    (source / "notes").unlink()
    os.mkfifo(source / "notes")
    with pytest.raises(InvalidModel, match="not a plain file"):
        store.ingest(selection)


def test_a_model_that_changed_after_the_check_is_refused(store: FileArtifacts, source: Path, tmp_path: Path) -> None:
    selection = select(write_adder(source / "model.onnx"))
    write_adder(source / "model.onnx", 2)
    with pytest.raises(InvalidModel, match="changed while it was being registered"):
        store.ingest(selection)
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == ["incoming"]


def test_a_flipped_bit_is_found(store: FileArtifacts, source: Path) -> None:
    artifact = store.ingest(select(write_adder(source / "model.onnx")))
    path = store.path(artifact)
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"'model.onnx' does not match its SHA-256"):
        store.verify(artifact)
    with pytest.raises(ArtifactCorrupt):
        store.ingest(select(source))


def test_a_cut_or_missing_file_is_found_without_reading(store: FileArtifacts, source: Path) -> None:
    artifact = store.ingest(select(write_adder(source / "model.onnx")))
    path = store.path(artifact)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactCorrupt, match="expected"):
        store.path(artifact)
    path.unlink()
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        store.path(artifact)


def test_a_list_of_files_that_is_not_the_digests_is_found(store: FileArtifacts, source: Path) -> None:
    write_adder(source / "model.onnx")
    (source / "notes").touch()
    artifact = store.ingest(select(source))
    with pytest.raises(ArtifactCorrupt, match="list of files"):
        store.verify(dataclasses.replace(artifact, files=artifact.files[:1]))


def test_what_a_dead_process_left_is_swept_and_what_a_live_one_writes_is_not(tmp_path: Path, store: FileArtifacts) -> None:
    incoming = tmp_path / "artifacts" / "incoming"
    (incoming / "dead" / "files").mkdir(parents=True)
    (incoming / "dead" / "files" / "half").write_bytes(b"ha")
    with store._incoming.opened() as alive:
        FileArtifacts(tmp_path / "artifacts")
        assert list(incoming.iterdir()) == [alive]


def test_files_and_folders_are_synced_before_the_name_exists(
    store: FileArtifacts, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_adder(source / "deep" / "model.onnx")
    calls: list[str] = []
    sync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), sync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (calls.append("rename"), rename(a, b)))
    store.ingest(select(source))
    before, after = calls[: calls.index("rename")], calls[calls.index("rename") + 1 :]
    assert {"model.onnx", "manifest", "deep", "files"} <= {Path(call).name for call in before}
    assert [Path(call).name for call in after] == ["artifacts"]


def test_a_full_disk_is_reported_and_leaves_nothing(
    store: FileArtifacts, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module, "write_synced", full)
    with pytest.raises(RegistryUnavailable, match="No space left"):
        store.ingest(select(write_adder(source / "model.onnx")))
    assert not list((tmp_path / "artifacts" / "incoming").iterdir())
