"""A rewritten model is the same model: equal weights, equal answers, large ones outside, everything else where it belongs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_models import SIDE, chain, random_answers, saved, with_everything
from onnx import TensorProto, helper, numpy_helper

from gateway.runtime.layout_choice import MAPPED, PREPACKED, UNPACKED, Figures, choose
from gateway.runtime.layout_rewrite import LayoutFailed, build
from gateway.runtime.onnx import OnnxSession, save_optimized
from registry.errors import InvalidModel
from registry.serving_layout import LARGE_BYTES, MODEL_FILE, WORTH_BYTES, rewrite

KINDS = (np.float32, np.float64, np.float16, np.int8, np.int64, np.bool_)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "layout"
    folder.mkdir()
    return folder


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def answers(path: Path, rows: int = 3) -> list[np.ndarray]:
    session = OnnxSession(path)
    x = np.random.default_rng(9).standard_normal((rows, SIDE)).astype(np.float32)
    return session.run([spec.name for spec in session.signature.outputs], {"x": x})


def outside(path: Path) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    return {tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL}


weights = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 400_000), st.booleans(), st.integers(0, 1)), max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights)
def test_any_weights_come_out_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, drawn: list) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "out").mkdir()
    tensors = []
    for place, (kind, count, is_raw, seed) in enumerate(drawn):
        values = np.random.default_rng(seed).integers(0, 2, count).astype(kind)
        dtype = helper.np_dtype_to_tensor_dtype(values.dtype)
        is_typed = not is_raw and count < 1000
        made = (
            helper.make_tensor(f"w{place}", dtype, [count], values)
            if is_typed
            else numpy_helper.from_array(values, f"w{place}")
        )
        tensors.append(made)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    source = saved(nodes, ends[:1], ends[1:], tensors, folder / "m.onnx")
    large = {t.name for t in tensors if numpy_helper.to_array(t).nbytes >= LARGE_BYTES}
    blobs = rewrite(source, folder / "out")
    if sum(numpy_helper.to_array(t).nbytes for t in tensors if t.name in large) < WORTH_BYTES:
        assert (blobs, list((folder / "out").iterdir())) == ((), [])
        return
    assert outside(folder / "out" / MODEL_FILE) == large
    before, after = arrays(source), arrays(folder / "out" / MODEL_FILE)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    assert all(hashlib.sha256((folder / "out" / name).read_bytes()).hexdigest() == name for name in blobs)


def test_equal_weights_are_one_file(tmp_path: Path, target: Path) -> None:
    assert len(rewrite(chain(tmp_path / "m.onnx", [1, 2, 1]), target)) == 2


def test_what_is_not_a_dense_weight_of_the_main_graph_stays_inside(tmp_path: Path, target: Path) -> None:
    source = with_everything(tmp_path / "m.onnx")
    assert len(rewrite(source, target)) == 1
    assert outside(target / MODEL_FILE) == {"main"}
    for left, right in zip(answers(source), answers(target / MODEL_FILE), strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize("everything", [False, True])
def test_a_model_with_external_data_is_taken_along_whole(tmp_path: Path, target: Path, everything: bool) -> None:
    inside = with_everything(tmp_path / "in.onnx") if everything else chain(tmp_path / "in.onnx", [1, 2])
    source = tmp_path / "out.onnx"
    onnx.save(onnx.load(inside), source, save_as_external_data=True, location="w.bin", convert_attribute=everything)
    rewrite(source, target)
    (tmp_path / "w.bin").unlink()
    for left, right in zip(answers(inside), answers(target / MODEL_FILE), strict=True):
        assert np.array_equal(left, right)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path, target: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4 * WORTH_BYTES))
    source = chain(tmp_path / "m.onnx", [1])
    model = onnx.load(source)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../secret")
    model.graph.initializer[0].ClearField("raw_data")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModel, match="outside"):
        rewrite(tmp_path / "in" / "m.onnx", target)


def test_what_the_runtime_packed_moves_along(tmp_path: Path, target: Path) -> None:
    source = chain(tmp_path / "m.onnx", [1, 2])
    save_optimized(source, tmp_path / "packed.onnx", is_packed=True)
    blobs = rewrite(tmp_path / "packed.onnx", target)
    sizes = [(target / name).stat().st_size for name in blobs]
    assert min(sizes) > 4 * SIDE * SIDE  # the weight and what was packed of it
    assert np.array_equal(answers(target / MODEL_FILE)[0], answers(source)[0])


def figures(private_mib: int, run_1: float, run_32: float) -> Figures:
    return Figures(private_mib << 20, {1: run_1, 32: run_32})


@pytest.mark.parametrize(
    ("mapped", "unpacked", "prepacked", "expected"),
    [
        (figures(3, 1, 1), figures(1, 9, 9), None, MAPPED),  # nothing to save
        (figures(101, 1, 1), figures(1, 1, 1.09), None, UNPACKED),
        (figures(101, 1, 1), figures(1, 1, 1.2), None, MAPPED),
        (figures(101, 1, 1), figures(1, 1.2, 1), figures(2, 1, 1), PREPACKED),
        (figures(101, 1, 1), figures(1, 1, 1.2), figures(60, 1, 1), MAPPED),  # saves too little
        (figures(101, 1, 1), figures(1, 1, 1.2), figures(2, 1.2, 1.2), PREPACKED),  # noise
        (figures(101, 1, 1), figures(1, 1, 1.2), figures(2, 1, 1.3), MAPPED),  # slower
    ],
)
def test_speed_comes_first_then_memory(mapped: Figures, unpacked: Figures, prepacked: Figures | None, expected: str) -> None:
    assert choose(100 << 20, mapped, unpacked, prepacked)[0] == expected


def test_a_layout_is_made_measured_and_checked_in_a_process_of_its_own(tmp_path: Path, target: Path) -> None:
    source = chain(tmp_path / "m.onnx", [1, 2, 3])
    built = build(source, target, is_batchable=True, size_bytes=source.stat().st_size)
    assert built.mode in (MAPPED, UNPACKED, PREPACKED), built.reason
    assert {1, 32} == set(built.figures[MAPPED].run_s)
    session = OnnxSession(target / built.folder / MODEL_FILE, config=built.config)
    x = np.ones((5, SIDE), np.float32)
    np.testing.assert_allclose(
        session.run(["h3"], {"x": x})[0], OnnxSession(source).run(["h3"], {"x": x})[0], rtol=1e-4, atol=1e-5
    )


def test_answers_that_cannot_be_compared_leave_the_original(tmp_path: Path, target: Path) -> None:
    source = random_answers(tmp_path / "m.onnx")
    built = build(source, target, is_batchable=False, size_bytes=source.stat().st_size)
    assert (built.mode, built.blobs) == ("original", ())
    assert "vary from run to run" in built.reason


def test_a_full_disk_is_no_verdict_about_the_model(tmp_path: Path, target: Path) -> None:
    source = chain(tmp_path / "m.onnx", [1], side=1024)
    with pytest.raises(LayoutFailed, match="cannot be written"):
        build(source, target, is_batchable=True, size_bytes=0)  # which bounds the files it may write
