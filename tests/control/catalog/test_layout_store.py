"""Serving layouts on disk: whole or not there, shared, repaired, and never in the way of serving."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from control_fakes import SetClock

from gateway.control.catalog.layout_store import UNUSED_S, LayoutStore
from gateway.runtime.layout_rewrite import Built, LayoutFailed
from registry.serving_layout import MODEL_FILE
from registry.signature import Signature
from registry.versions import Artifact, ArtifactFile, Facts, ModelVersion

FACTS = Facts(Signature((), ()))


def version(number: int) -> ModelVersion:
    return ModelVersion("m", number, Artifact(f"{number:064}", "m.onnx", (ArtifactFile("m.onnx", "", 2 << 20),)), FACTS)


def writes(*contents: bytes) -> Callable[..., Built]:
    """A `build` that gives these weights."""

    def build(path: Path, folder: Path, *, is_batchable: bool, size_bytes: int) -> Built:
        (folder / "plain").mkdir()
        (folder / "plain" / MODEL_FILE).write_bytes(b"model")
        names = tuple(hashlib.sha256(content).hexdigest() for content in contents)
        for name, content in zip(names, contents, strict=True):
            (folder / "plain" / name).write_bytes(content)
        return Built("unpacked", "as a test says", "plain", names, {"k": "v"})

    return build


def fails(error: Exception) -> Callable[..., Built]:
    def build(path: Path, folder: Path, *, is_batchable: bool, size_bytes: int) -> Built:
        raise error

    return build


@pytest.fixture
def layouts(tmp_path: Path) -> Callable[..., LayoutStore]:
    def make(build: Callable[..., Built], *, key: str = "1-here", clock: SetClock | None = None) -> LayoutStore:
        return LayoutStore(tmp_path / "layouts", key, clock or SetClock(), build=build)

    return make


def path_of(store: LayoutStore, number: int = 1) -> Path:
    store.ensure(version(number), Path("/registered"))
    return Path(store.chosen(version(number)).path)


def test_a_layout_is_made_once_and_found_again(layouts: Callable[..., LayoutStore]) -> None:
    path = path_of(layouts(writes(b"a", b"b")))
    again = layouts(fails(AssertionError()))
    assert path_of(again) == path
    assert again.chosen(version(1)).layout.config == {"k": "v"}
    assert path.read_bytes() == b"model"


def test_versions_share_the_weights_they_have_in_common(layouts: Callable[..., LayoutStore]) -> None:
    first, second = path_of(layouts(writes(b"same", b"one"))), path_of(layouts(writes(b"same", b"two")), 2)
    name = hashlib.sha256(b"same").hexdigest()
    assert (first.parent / name).samefile(second.parent / name)
    assert (first.parent / name).stat().st_nlink == 3


def test_another_machine_makes_its_own(layouts: Callable[..., LayoutStore]) -> None:
    assert path_of(layouts(writes(b"a"))) != path_of(layouts(writes(b"a"), key="1-there"))


@pytest.mark.parametrize("break_it", [Path.unlink, lambda path: (path.chmod(0o644), path.write_bytes(b"xyz"))])
def test_a_damaged_layout_is_made_again_under_another_name(
    layouts: Callable[..., LayoutStore], break_it: Callable[[Path], object]
) -> None:
    path = path_of(layouts(writes(b"abc")))
    weight = path.parent / hashlib.sha256(b"abc").hexdigest()
    break_it(weight)
    again = path_of(layouts(writes(b"abc")))
    assert again != path
    assert (again.parent / weight.name).read_bytes() == b"abc"


def test_one_that_goes_missing_while_it_is_used_is_made_again(layouts: Callable[..., LayoutStore]) -> None:
    store = layouts(writes(b"abc"))
    path = path_of(store)
    assert store.is_settled(version(1))
    path.unlink()
    assert not store.is_settled(version(1))
    assert path_of(store) not in (path, Path())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), LayoutFailed("its process ended")])
def test_without_a_layout_the_registered_file_is_served_and_it_is_tried_again(
    layouts: Callable[..., LayoutStore], tmp_path: Path, error: Exception
) -> None:
    store = layouts(fails(error))
    store.ensure(version(1), Path("/registered"))
    chosen = store.chosen(version(1))
    assert (chosen.path, chosen.layout.mode) == ("", "original")
    assert chosen.layout.reason.startswith("no serving layout: ")
    assert not store.is_settled(version(1))
    assert list((tmp_path / "layouts" / "incoming").iterdir()) == []


def test_a_verdict_about_the_model_is_kept(layouts: Callable[..., LayoutStore]) -> None:
    store = layouts(lambda path, folder, **_: Built(reason="its answers vary"))
    store.ensure(version(1), Path("/registered"))
    again = layouts(fails(AssertionError()))
    again.ensure(version(1), Path("/registered"))
    assert (again.chosen(version(1)).path, again.chosen(version(1)).layout.reason) == ("", "its answers vary")
    assert again.is_settled(version(1))


def test_a_weight_that_is_not_what_its_name_says_is_not_taken(layouts: Callable[..., LayoutStore]) -> None:
    def build(path: Path, folder: Path, **_: object) -> Built:
        (folder / "plain").mkdir()
        (folder / "plain" / MODEL_FILE).write_bytes(b"model")
        (folder / "plain" / ("0" * 64)).write_bytes(b"other")
        return Built("mapped", "", "plain", ("0" * 64,))

    store = layouts(build)
    store.ensure(version(1), Path("/registered"))
    assert store.chosen(version(1)).path == ""


def test_a_layout_that_was_written_since_is_not_served(layouts: Callable[..., LayoutStore]) -> None:
    store = layouts(writes(b"weights"))
    before = path_of(store)
    store.forget_changed(version(1))
    assert store.chosen(version(1)) is not None
    weight = before.parent / hashlib.sha256(b"weights").hexdigest()
    os.chmod(weight, 0o600)
    weight.write_bytes(b"WEIGHTS")
    store.forget_changed(version(1))
    assert store.chosen(version(1)) is None
    assert path_of(store) != before
    assert (path_of(store).parent / weight.name).read_bytes() == b"weights"


def test_small_models_are_left_alone(layouts: Callable[..., LayoutStore], tmp_path: Path) -> None:
    small = ModelVersion("m", 1, Artifact("d", "m.onnx", (ArtifactFile("m.onnx", "", 1000),)), FACTS)
    store = layouts(fails(AssertionError()))
    store.ensure(small, Path("/registered"))
    assert store.chosen(small) is None
    assert store.is_settled(small)
    assert not (tmp_path / "layouts").exists()


def test_unused_layouts_and_weights_are_collected(layouts: Callable[..., LayoutStore], tmp_path: Path) -> None:
    clock = SetClock()
    store = layouts(writes(b"old"), key="0-before", clock=clock)
    path_of(store), path_of(store, 2)
    clock.time += UNUSED_S + 1
    now = layouts(writes(b"new"), clock=clock)
    used = path_of(now)
    now.collect({version(1).artifact.digest})
    left = sorted(path.relative_to(tmp_path / "layouts") for path in (tmp_path / "layouts").rglob("*") if path.is_file())
    blob = hashlib.sha256(b"new").hexdigest()
    folder = used.parent.relative_to(tmp_path / "layouts")
    assert left == sorted([folder / blob, folder / "layout.json", folder / MODEL_FILE, Path("blobs") / blob])


def test_an_unused_layout_is_kept_for_a_while(layouts: Callable[..., LayoutStore]) -> None:
    store = layouts(writes(b"a"))
    path = path_of(store)
    store.collect(set())
    assert path.exists()


def test_a_process_killed_half_way_leaves_nothing_that_counts(layouts: Callable[..., LayoutStore], tmp_path: Path) -> None:
    script = f"""
        import sys, time
        from pathlib import Path
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from control_fakes import SetClock
        from gateway.control.catalog.layout_store import LayoutStore
        from test_layout_store import version, writes
        def build(path, folder, **options):
            built = writes(b"abc")(path, folder, **options)
            print("half", flush=True)
            time.sleep(60)
        store = LayoutStore(Path({str(tmp_path / "layouts")!r}), "1-here", SetClock(), build=build)
        store.ensure(version(1), Path("/registered"))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "half\n"
        os.kill(process.pid, signal.SIGKILL)
    incoming = tmp_path / "layouts" / "incoming"
    assert len(list(incoming.iterdir())) == 1
    assert path_of(layouts(writes(b"abc"))).exists()
    assert list(incoming.iterdir()) == []
