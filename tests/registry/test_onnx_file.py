"""What is read from an ONNX file, and which files are turned away with which words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from registry_makers import model_of, tensor, write_adder, write_model

from registry import onnx_file
from registry.errors import InvalidModel
from registry.onnx_file import read_model
from registry.signature import Signature

DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def read(tmp_path: Path, model: onnx.ModelProto):
    return read_model(write_model(tmp_path / "model.onnx", model))


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_of_the_protocol_is_read(tmp_path: Path, datatype: str) -> None:
    kind = DATATYPES[datatype]
    signature = read(tmp_path, model_of([tensor("x", kind)], [tensor("y", kind)])).signature
    assert [signature.inputs[0].datatype, signature.outputs[0].datatype] == [datatype, datatype]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [([], ()), ([3, 4], (3, 4)), ([None, 4], (-1, 4)), (["batch", "width"], (-1, -1)), ([0, 2], (0, 2))],
)
def test_shapes_keep_rank_and_mark_what_is_variable(tmp_path: Path, shape: list, expected: tuple) -> None:
    spec = read(tmp_path, model_of([tensor("x", shape=shape)], [tensor("y")])).signature.inputs[0]
    assert (spec.shape, spec.is_ranked) == (expected, True)


def test_unknown_rank_is_told_from_a_scalar(tmp_path: Path) -> None:
    spec = read(tmp_path, model_of([tensor("x", shape=None)], [tensor("y")])).signature.inputs[0]
    assert (spec.shape, spec.is_ranked) == ((), False)
    assert str(spec) == "x: FP32 of any rank"


def test_tensors_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    names = ["z", "a", "m"]
    signature = read(tmp_path, model_of([tensor(n) for n in names], [tensor(f"o{n}") for n in names])).signature
    assert [spec.name for spec in signature.inputs] == names
    assert [spec.name for spec in signature.outputs] == ["oz", "oa", "om"]


def test_an_input_with_a_default_is_optional(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2])
    model = model_of([tensor("x"), tensor("w", shape=[2])], [tensor("y")], initializers=[weight])
    signature = read(tmp_path, model).signature
    assert [(spec.name, spec.is_optional) for spec in signature.inputs] == [("x", False), ("w", True)]


def test_old_files_that_list_their_weights_as_inputs_do_not_offer_them(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2])
    model = model_of([tensor("x"), tensor("w", shape=[2])], [tensor("y")], initializers=[weight], ir_version=3)
    assert [spec.name for spec in read(tmp_path, model).signature.inputs] == ["x"]


def test_the_signature_names_what_onnx_runtime_takes_and_gives(tmp_path: Path) -> None:
    path = write_adder(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path)
    signature = read_model(path).signature
    assert [spec.name for spec in signature.inputs] == [node.name for node in session.get_inputs()]
    assert session.run(None, {"x": np.zeros((3, 2), np.float32)})[0].shape == (3, 2)


def sequence_of(element: onnx.TypeProto) -> onnx.ValueInfoProto:
    return helper.make_value_info("y", helper.make_sequence_type_proto(element))


FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
MAP = helper.make_map_type_proto(TensorProto.INT64, FLOATS)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (sequence_of(MAP), ["output 'y'", "sequence of maps", "ZipMap that names its classes"]),
        (sequence_of(FLOATS), ["output 'y'", "is a sequence", "ConcatFromSequence"]),
        (helper.make_value_info("y", MAP), ["output 'y'", "is a map", "a column for each key"]),
        (helper.make_value_info("y", helper.make_optional_type_proto(FLOATS)), ["output 'y'", "optional type"]),
        (helper.make_value_info("y", helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2])), ["sparse tensor", "dense"]),
        (helper.make_value_info("y", onnx.TypeProto()), ["output 'y'", "has no type"]),
        (tensor("y", TensorProto.COMPLEX64), ["output 'y'", "COMPLEX64", "cast"]),
        (tensor("y", TensorProto.FLOAT8E4M3FN), ["FLOAT8E4M3FN"]),
        (tensor("y", TensorProto.INT4), ["INT4"]),
        (tensor("y", 999), ["number 999"]),
    ],
)
def test_types_without_a_form_in_the_protocol_are_refused_with_advice(tmp_path: Path, output, words: list[str]) -> None:
    with pytest.raises(InvalidModel) as error:
        read(tmp_path, model_of([tensor("x")], [output]))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_file_cut_anywhere_is_refused_or_says_the_same(tmp_path: Path) -> None:
    whole = read_model(write_adder(tmp_path / "whole.onnx"))
    content = (tmp_path / "whole.onnx").read_bytes()
    answers = [answer_to(tmp_path / "cut.onnx", content[:size]) for size in range(len(content))]
    refused = [answer for answer in answers if isinstance(answer, str)]
    assert all("cut short" in text or "empty" in text for text in refused)
    assert len(refused) >= len(content) - 5
    assert all(answer == whole.signature for answer in answers if not isinstance(answer, str))


def answer_to(path: Path, content: bytes) -> Signature | str:
    path.write_bytes(content)
    try:
        return read_model(path).signature
    except InvalidModel as error:
        return str(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am a model\n", "text that begins with 'hello, I am a model"),
        (b'{"model": 1}', "text that begins with"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"PK\x03\x04abc", "ZIP archive"),
        (b"\x80\x04\x95abc", "pickle"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x08\x09\xff\xff", "damaged or cut short"),
        (bytes(range(200, 256)), "56 bytes of something else"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"model\.onnx") as error:
        read_model(path)
    assert words in str(error.value)


def test_a_file_too_large_for_its_format_is_told_how_to_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_MAX_BYTES", 10)
    with pytest.raises(InvalidModel, match="external data"):
        read_model(write_adder(tmp_path / "model.onnx"))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="No such file"):
        read_model(tmp_path / "nope.onnx")
    with pytest.raises(InvalidModel, match="this is a folder"):
        read_model(tmp_path)
