"""A user's own links are followed, and what they point at is uploaded: a Hugging Face cache, a mounted ConfigMap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.client.upload import Upload, parts
from gateway.protocol.messages import admin
from registry.errors import InvalidModel


def saved(path: Path) -> Path:
    """A model with its weights in ``weights.bin`` beside it."""
    weights = numpy_helper.from_array(np.ones((4, 512), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 512])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """``snapshots/x`` of a cache: the model and its weights are links into ``blobs``."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "x"
    blobs.mkdir(), snapshot.mkdir(parents=True)
    saved(tmp_path / "model.onnx")
    for name, blob in {"model.onnx": "aa", "weights.bin": "bb"}.items():
        (tmp_path / name).rename(blobs / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    return snapshot


def sent(upload: Upload) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for message in parts(admin.RegisterVersionRequest.Header(model="m"), [], upload, None):
        if message.HasField("chunk"):
            files[message.chunk.path] = files.get(message.chunk.path, b"") + message.chunk.data
    return files


@pytest.mark.parametrize("what", ["model.onnx", "."])
def test_links_into_a_cache_are_followed(cache: Path, what: str) -> None:
    files = sent(Upload.of(cache / what))
    assert files == {name: (cache / name).read_bytes() for name in ("model.onnx", "weights.bin")}


def test_hard_links_are_followed(tmp_path: Path) -> None:
    saved(tmp_path / "model.onnx")
    os.link(tmp_path / "weights.bin", tmp_path / "elsewhere")
    assert set(sent(Upload.of(tmp_path / "model.onnx"))) == {"model.onnx", "weights.bin"}


def test_a_mounted_config_map_is_one_copy_of_its_files(tmp_path: Path) -> None:
    data = tmp_path / "..2026_11_28"
    data.mkdir()
    saved(data / "model.onnx")
    (tmp_path / "..data").symlink_to(data.name)
    for name in ("model.onnx", "weights.bin"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert set(sent(Upload.of(tmp_path))) == {"model.onnx", "weights.bin"}


def test_a_location_outside_stays_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    model = onnx.load_model(saved(tmp_path / "m.onnx"), load_external_data=False)
    next(one for one in model.graph.initializer[0].external_data if one.key == "location").value = "../weights.bin"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModel, match="points outside"):
        Upload.of(folder / "model.onnx")


def test_validate_runs_what_links_point_at(cache: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "gateway", "validate", str(cache / "model.onnx")], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "batching proved" in ran.stdout
