"""`predict`: every kind of input file, fitted to what the model takes, or refused with the reason."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest

from gateway.cli.infer import prediction_json
from gateway.cli.tensor_input import read_inputs
from gateway.client import ModelInfo, Prediction, TensorInfo


def info(*inputs):
    return ModelInfo("m", ("1",), "onnxruntime_onnx", tuple(TensorInfo(*spec) for spec in inputs), ())


ECHO = info(("x", "FP32", (-1, 4)))


def read(value, model=ECHO):
    return read_inputs(value if isinstance(value, bytes) else json.dumps(value).encode(), model, "in.json")


def npy(*numbers):
    file = io.BytesIO()
    np.save(file, np.array(numbers, np.float64))
    return file.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2, 3, 4]],
        {"x": [[1, 2, 3, 4]]},
        [1, 2, 3, 4],  # the batch dimension alone is missing
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]},
    ],
)
def test_json_forms_mean_the_same(value):
    array = read(value)["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2, 3, 4]]


def test_npy_and_npz_are_told_apart_by_content(run, gateway, tmp_path):
    array = np.arange(8.0).reshape(2, 4)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", x=array)
    for name in ("a.npy", "b.npz"):
        done = run("predict", "echo", "--input", tmp_path / name, "--json")
        assert done.json["outputs"]["x"] == {"datatype": "FP32", "shape": [2, 4], "data": array.tolist()}


def test_standard_input_and_routing_options(run, gateway, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[[1, 2, 3, 4]]")))
    done = run("predict", "echo", "--input", "-", "--version", "2", "--unit-id", "u", "--request-id", "r", "--json")
    assert (done.json["version"], done.json["arm"], done.json["request_id"]) == ("2", "pinned", "r")
    assert gateway.requests["ModelInfer"][0].parameters["unit_id"].string_param == "u"


def test_people_see_the_version_and_the_values(run, tmp_path):
    (tmp_path / "in.json").write_text('{"text": ["a", "[b]"], "flag": [true, false]}')
    shown = run("predict", "labels", "--input", tmp_path / "in.json").out
    assert "labels version 1 (default)" in shown
    assert "['a' '[b]']" in shown
    assert "[ True False]" in shown


@pytest.mark.parametrize(
    ("spec", "value", "dtype"),
    [
        (("n", "INT8", (-1,)), [1, -2.0], "i1"),
        (("n", "UINT64", (-1,)), [2**64 - 1], "u8"),
        (("n", "FP16", (-1,)), [0.5], "f2"),
        (("n", "BOOL", (-1,)), [True, 0], "?"),
        (("n", "BYTES", (-1,)), ["ä"], "O"),
        (("n", "FP32", ()), 3, "f4"),
    ],
)
def test_values_become_the_models_datatype(spec, value, dtype):
    array = read(value, info(spec))["n"]
    assert array.dtype == np.dtype(dtype)
    assert array.tolist() == np.array(value, dtype).tolist()


@pytest.mark.parametrize(
    ("value", "model", "text"),
    [
        (b"hello", ECHO, "in.json: expected .npy, .npz or JSON"),
        (b"\x93NUMPY broken", ECHO, "not a readable numpy file"),
        (b"PK broken", ECHO, "not a readable numpy file"),
        ({"y": [1]}, ECHO, "m has no input 'y'; it takes x FP32 [?, 4]"),
        ([[1, 2], [3]], ECHO, "input 'x': not an array of FP32"),
        ([[1, 2, 3]], ECHO, "input 'x': shape [1, 3] does not fit [?, 4]"),
        ([["a", "b", "c", "d"]], ECHO, "input 'x': expected FP32, got text"),
        ([[1, None, 3, 4]], ECHO, "input 'x': expected FP32, got object"),
        ([1.5], info(("n", "INT8", (-1,))), "input 'n': expected INT8, got numbers that are not whole"),
        ([300], info(("n", "INT8", (-1,))), "input 'n': INT8 holds -128 to 127"),
        ([2], info(("n", "BOOL", (-1,))), "input 'n': expected BOOL"),
        ([1], info(("n", "BYTES", (-1,))), "input 'n': not an array of BYTES: expected text"),
        ([1], info(("a", "FP32", ()), ("b", "FP32", ())), "m takes 2 inputs, name each: a FP32 [], b FP32 []"),
        ({"inputs": [{"name": "x"}]}, ECHO, "an entry of `inputs` has no 'data'"),
        ({"inputs": [{"name": "x", "shape": [3], "data": [1]}]}, ECHO, "input 'x': cannot reshape"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(value, model, text):
    from gateway.cli.problems import CommandError

    with pytest.raises(CommandError) as caught:
        read(value, model)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("datatype", "value", "text"),
    [
        ("FP32", b"[1e39]", "input 'x': FP32 holds up to ±3.4028235e+38, got 1e+39"),
        ("FP32", npy(-1e39), "input 'x': FP32 holds up to ±3.4028235e+38, got -1e+39"),
        ("FP16", b"[70000]", "input 'x': FP16 holds up to ±65504, got 70000"),
        ("FP64", b"[1e400]", "input 'x': FP64 holds up to ±1.7976931e+308, got 1E+400"),
        ("FP32", b"[0.5, 1e400]", "input 'x': FP32 holds up to ±3.4028235e+38, got 1E+400"),
        ("FP32", b"[1" + b"0" * 400 + b"]", "input 'x': FP32 holds up to ±3.4028235e+38, got 1000"),
        ("BF16", b"[3.4e38]", "input 'x': BF16 holds up to ±3.3895314e+38, got 3.4e+38"),
    ],
)
def test_a_number_that_the_datatype_cannot_hold_is_refused_with_the_limit(datatype, value, text):
    from gateway.cli.problems import CommandError

    with pytest.raises(CommandError) as caught:
        read(value, info(("x", datatype, (-1,))))
    assert str(caught.value).startswith(text)


def test_a_number_that_does_not_fit_is_never_sent(run, gateway, tmp_path):
    (tmp_path / "in.json").write_text("[[1, 2, 3, 1e39]]")
    done = run("predict", "echo", "--input", tmp_path / "in.json")
    assert (done.code, done.err) == (1, "error: input 'x': FP32 holds up to ±3.4028235e+38, got 1e+39\n")
    assert not gateway.requests["ModelInfer"]


@pytest.mark.parametrize("value", [b"[Infinity, NaN, -Infinity]", npy(np.inf, np.nan, -np.inf)])
def test_infinities_and_nan_that_are_given_as_such_are_kept(value, capsys):
    array = read(value, info(("x", "FP32", (-1,))))["x"]
    assert [str(number) for number in array] == ["inf", "nan", "-inf"]
    assert capsys.readouterr().err == ""


def test_a_large_number_in_json_that_fits_is_taken():
    assert read(b"[1" + b"0" * 30 + b"]", info(("x", "FP32", (-1,))))["x"].tolist() == [np.float32(1e30)]


def test_a_whole_number_that_changes_is_told_and_a_fraction_is_rounded(capsys):
    spec = info(("x", "FP32", (-1,)))
    assert read(b"[1, 16777217]", spec)["x"].tolist() == [1.0, 16777216.0]
    assert capsys.readouterr().err == "warning: input 'x': FP32 rounds 16777217 to 16777216\n"
    assert read(b"[0.1, 16777216]", spec)["x"].dtype == np.float32
    assert capsys.readouterr().err == ""


def test_a_file_that_is_not_there_is_named(run, tmp_path):
    done = run("predict", "echo", "--input", tmp_path / "none.npy")
    assert (done.code, done.err) == (1, f"error: {tmp_path / 'none.npy'}: No such file or directory\n")


def test_an_unknown_model_is_told_in_the_gateways_words(run, tmp_path):
    (tmp_path / "in.json").write_text("[1]")
    done = run("predict", "nothing", "--input", tmp_path / "in.json", "--json")
    assert done.err == "error: no model 'nothing' is served\n"
    assert done.json["error"]["reason"] == "MODEL_NOT_FOUND"


def test_a_data_port_where_nobody_answers_names_its_option(run, tmp_path):
    (tmp_path / "in.json").write_text("[1]")
    done = run("predict", "echo", "--input", tmp_path / "in.json", "--data", "127.0.0.1:1", "--timeout", "1")
    assert done.code == 1
    assert done.err.endswith("or name it with --data\n")


def test_json_output_holds_what_json_has_no_numbers_for():
    outputs = {"y": np.array([np.nan, np.inf, -np.inf, 0.5], "f4"), "t": np.array([b"\xc3\xa4", b"\xff"], object)}
    shown = prediction_json(Prediction("m", "1", "default", "p", "", outputs), 1.0)["outputs"]
    assert json.loads(json.dumps(shown, allow_nan=False)) == {
        "y": {"datatype": "FP32", "shape": [4], "data": ["NaN", "Infinity", "-Infinity", 0.5]},
        "t": {"datatype": "BYTES", "shape": [2], "data": ["ä", "\\xff"]},
    }
