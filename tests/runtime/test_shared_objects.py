"""Shared memory objects: what may be opened, what a shrunk one does, and that every one is closed."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.contract.desired import Region
from gateway.errors import InvalidRequest, NotAllowed, Overloaded
from gateway.runtime.shared_object import open_object
from gateway.serving.shared_memory.regions import OpenRegions

FOLDER = Path("/dev/shm")


def open_files(key: str) -> int:
    """How many descriptors of this process are the object's."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(entry))
        except OSError:
            pass  # that of the listing itself
    return sum(link.startswith(str(FOLDER / key.lstrip("/"))) for link in links)


def test_it_reads_and_writes_where_it_is_told(make_object: Callable[..., str]) -> None:
    key = make_object(b"0123456789")
    opened, buffer = open_object(key), bytearray(4)
    assert opened.read_into(memoryview(buffer), 3) == 4
    assert buffer == b"3456"
    opened.write(memoryview(b"ab"), 8)
    assert (FOLDER / key[1:]).read_bytes() == b"01234567ab"


def test_a_key_needs_no_slash(make_object: Callable[..., str]) -> None:
    assert open_object(make_object(b"12")[1:]).size() == 2


def test_of_a_shrunk_object_only_what_is_left_is_read(make_object: Callable[..., str]) -> None:
    key = make_object(bytes(8192))
    opened = open_object(key)
    os.truncate(FOLDER / key[1:], 100)
    assert opened.read_into(memoryview(bytearray(8192)), 0) == 100
    assert opened.read_into(memoryview(bytearray(8192)), 4096) == 0


@pytest.mark.parametrize("key", ["", "/", ".", "..", "/..", "../etc/passwd", "/a/b", "/etc/passwd", "a\0b", "x" * 256])
def test_what_is_no_name_of_an_object_is_refused(key: str) -> None:
    with pytest.raises(InvalidRequest, match="expected the name of a shared memory object"):
        open_object(key)


def test_what_is_not_there_is_refused_by_key() -> None:
    with pytest.raises(InvalidRequest, match=r"'/no-such-object'.*No such file"):
        open_object("/no-such-object")


def test_a_symbolic_link_is_not_followed(make_object: Callable[..., str]) -> None:
    target = make_object(b"secret")
    link = FOLDER / f"{target[1:]}-link"
    link.symlink_to(FOLDER / target[1:])
    try:
        with pytest.raises(InvalidRequest, match="symbolic link"):
            open_object(link.name)
    finally:
        link.unlink()


def test_a_pipe_or_a_folder_is_no_object(make_object: Callable[..., str]) -> None:
    name = make_object(b"")[1:]
    pipe, folder = FOLDER / f"{name}-pipe", FOLDER / f"{name}-folder"
    os.mkfifo(pipe)
    folder.mkdir()
    try:
        for path in (pipe, folder):
            with pytest.raises(InvalidRequest):
                open_object(path.name)
    finally:
        pipe.unlink()
        folder.rmdir()
    assert open_files(pipe.name) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_object_of_another_user_is_refused_even_to_root(make_object: Callable[..., str]) -> None:
    key = make_object(b"12345678")
    os.chown(FOLDER / key[1:], 65534, 65534)
    with pytest.raises(NotAllowed, match="another user"):
        open_object(key)
    assert open_files(key) == 0


def test_no_descriptor_left_is_told_as_overload(make_object: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(Overloaded):
        open_object("/some")


def test_a_hundred_registrations_leave_no_file_open(make_object: Callable[..., str]) -> None:
    key, regions = make_object(bytes(64)), OpenRegions(is_on=True)
    region = Region("r", key, 0, 64, open_object(key).identity)
    for _ in range(100):
        regions.update((region,))
        assert open_files(key) == 1
        regions.update(())
    assert open_files(key) == 0


def test_a_region_that_stays_is_not_opened_again(make_object: Callable[..., str]) -> None:
    key, regions = make_object(bytes(64)), OpenRegions(is_on=True)
    region = Region("r", key, 0, 64, open_object(key).identity)
    regions.update((region,))
    (FOLDER / key[1:]).unlink()  # a later state must not need the name any more
    regions.update((region, Region("other", "/no-such-object", 0, 1, "")))
    assert open_files(key) == 1


def test_another_object_of_the_same_key_is_not_taken_for_it(make_object: Callable[..., str]) -> None:
    key, regions = make_object(bytes(64)), OpenRegions(is_on=True)
    regions.update((Region("r", key, 0, 64, "1:1"),))
    gc.collect()
    assert open_files(key) == 0
