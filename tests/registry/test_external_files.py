"""Weights outside the ONNX file: only plain files below its folder, long enough."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from registry_makers import external, model_of, tensor, write_external, write_model

from registry.errors import InvalidModel
from registry.onnx_file import read_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.bin").write_bytes(b"secret!!" * 4)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def test_files_beside_and_below_the_model_are_listed(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "w.bin").write_bytes(bytes(8))
    assert read_model(write_external(folder / "m.onnx", "./deep/w.bin", offset=0, length=8)).external_files == ("deep/w.bin",)


@pytest.mark.parametrize("location", ["../secret.bin", "a/../../secret.bin", "/etc/passwd", "", "a\\b", "..", "."])
def test_a_location_outside_the_folder_is_refused(folder: Path, location: str) -> None:
    with pytest.raises(InvalidModel, match=r"tensor 'amount': (expected a relative path|.* points outside)"):
        read_model(write_external(folder / "m.onnx", location))


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"'w.bin' is not beside the model"):
        read_model(write_external(folder / "m.onnx", "w.bin"))


def test_a_symbolic_link_is_refused_even_to_a_file_inside(folder: Path) -> None:
    (folder / "real.bin").write_bytes(bytes(8))
    (folder / "w.bin").symlink_to("real.bin")
    with pytest.raises(InvalidModel, match="symbolic link"):
        read_model(write_external(folder / "m.onnx", "w.bin"))


def test_a_linked_folder_on_the_way_is_refused(folder: Path) -> None:
    (folder / "data").symlink_to(folder.parent)
    with pytest.raises(InvalidModel, match="symbolic link"):
        read_model(write_external(folder / "m.onnx", "data/secret.bin"))


def test_a_hard_link_is_refused(folder: Path) -> None:
    os.link(folder.parent / "secret.bin", folder / "w.bin")
    with pytest.raises(InvalidModel, match="hard link"):
        read_model(write_external(folder / "m.onnx", "w.bin", length=8))


def test_a_named_pipe_is_refused_without_waiting_for_it(folder: Path) -> None:
    os.mkfifo(folder / "w.bin")
    with pytest.raises(InvalidModel, match="not a plain file"):
        read_model(write_external(folder / "m.onnx", "w.bin"))


@pytest.mark.parametrize(
    "entries", [{"length": 9}, {"offset": 4, "length": 5}, {"offset": 9}, {"offset": -1}, {"length": -1}, {"offset": 2**80}]
)
def test_a_range_that_leaves_the_file_is_refused(folder: Path, entries: dict) -> None:
    (folder / "w.bin").write_bytes(bytes(8))
    with pytest.raises(InvalidModel, match=r"'w\.bin' has 8 bytes"):
        read_model(write_external(folder / "m.onnx", "w.bin", **entries))


def test_an_offset_that_is_no_number_is_refused(folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(8))
    with pytest.raises(InvalidModel, match="whole numbers"):
        read_model(write_external(folder / "m.onnx", "w.bin", offset="four"))


def hidden_in_a_constant():
    node = helper.make_node("Constant", [], ["y"], value=external("c", "../secret.bin"))
    return model_of([tensor("x")], [tensor("y")], nodes=[node])


def hidden_in_a_branch():
    inner = helper.make_graph([], "then", [], [tensor("z")], [external("c", "../secret.bin")])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    return model_of([tensor("x", TensorProto.BOOL, [])], [tensor("y")], nodes=[node])


def hidden_in_a_function():
    model = model_of([tensor("x")], [tensor("y")])
    node = helper.make_node("Constant", [], ["y"], value=external("c", "../secret.bin"))
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 18)]))
    return model


def hidden_in_a_sparse_weight():
    model = model_of([tensor("x")], [tensor("y")])
    model.graph.sparse_initializer.add().values.CopyFrom(external("c", "../secret.bin"))
    return model


@pytest.mark.parametrize("hidden", [hidden_in_a_constant, hidden_in_a_branch, hidden_in_a_function, hidden_in_a_sparse_weight])
def test_external_data_is_found_wherever_it_sits(folder: Path, hidden) -> None:
    with pytest.raises(InvalidModel, match="points outside"):
        read_model(write_model(folder / "m.onnx", hidden()))
